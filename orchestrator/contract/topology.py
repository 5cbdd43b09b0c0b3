"""The names on the broker. Every one begins with the namespace, so installations and test runs can share a broker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Queue arguments of every quorum queue. The limit is the largest that 3.10 and 4.x both read as "never drop": on 4.x it replaces
#: the default of 20, and on 3.10 -1 would drop a message at its first requeue. There is no dead-letter exchange: what cannot
#: be applied is stored in the quarantine and acked.
QUORUM_ARGUMENTS: dict[str, object] = {"x-queue-type": "quorum", "x-delivery-limit": 2_147_483_647}
#: The same for the queue of a replay: one consumer at a time, for its order matters.
REPLAY_ARGUMENTS: dict[str, object] = {**QUORUM_ARGUMENTS, "x-single-active-consumer": True}

#: Content type of what Escrow itself puts into the recorder: the journal entries of a transaction, and the messages that it kept.
RECORD = "application/vnd.escrow.record+zlib"


@dataclass(frozen=True, slots=True)
class Topology:
    """Exchanges and queues of one installation."""

    namespace: str = "escrow"

    @property
    def events(self) -> str:
        """Topic exchange: participants publish events here, key `<participant>.<EventType>`."""
        return f"{self.namespace}.events"

    @property
    def inbox(self) -> str:
        """Quorum queue that the workers consume, bound to `events` with `#`."""
        return f"{self.namespace}.inbox"

    @property
    def commands(self) -> str:
        """Topic exchange for commands, key = participant."""
        return f"{self.namespace}.commands"

    @property
    def announcements(self) -> str:
        """Topic exchange for what orders announce, key = message type; listeners are optional."""
        return f"{self.namespace}.announcements"

    @property
    def recorder(self) -> str:
        """The stream that keeps every event and every record of Escrow's own (R28), and the topic exchange by which those reach it."""
        return f"{self.namespace}.recorder"

    def command_queue(self, participant: str) -> str:
        """Quorum queue of one participant, bound to `commands` with its name."""
        return f"{self.namespace}.commands.{participant}"

    def heard_queue(self, participant: str) -> str:
        """Quorum queue of the events of others that change a participant's own tables; bound to `events` by the participant."""
        return f"{self.namespace}.heard.{participant}"

    def replay_queue(self, participant: str) -> str:
        """Quorum queue (`REPLAY_ARGUMENTS`) of a participant that waits for a replay, which declares it; `escrow replay` binds it to
        `commands` with `replay_key`.
        """
        return f"{self.namespace}.replay.{participant}"

    def replay_key(self, participant: str) -> str:
        """Routing key of the messages of a replay. No participant can have this name: it has a dot."""
        return f"replay.{participant}"

    def queues_of(self, participants: Iterable[str]) -> list[str]:
        """Every queue that these participants can have."""
        kinds = (self.command_queue, self.heard_queue, self.replay_queue)
        return [queue_of(participant) for participant in participants for queue_of in kinds]


def event_key(source: str, event_type: str) -> str:
    """Routing key of an event."""
    return f"{source}.{event_type}"
