"""The loop of a participant that waits for a replay: it consumes nothing else, and publishes nothing but its request for it."""

from __future__ import annotations

from orchestrator.contract import RESYNC_REQUESTED
from participants.kit.loop import Loop
from participants.kit.participant import Participant
from participants.kit.replay import Replay
from participants.kit.runner import BATCH_MAX, IDLE_S
from participants.kit.transport import Received, ReplayTransport


class Replayer(Loop):
    """Runs until the state is rebuilt; then the queue of the replay is gone, and live commands may be taken. Facts are refused meanwhile.

    A crash at any point loses nothing: what was not acked is delivered again, and changes nothing the second time. Of several processes the
    broker hands the messages to one; the others see in the database when it is over.
    """

    def __init__(self, participant: Participant, transport: ReplayTransport, replay: Replay, *, batch_max: int = BATCH_MAX) -> None:
        super().__init__(participant.name)
        self._participant = participant
        self._transport = transport
        self._replay = replay
        self._batch_max = batch_max
        self._batch: list[Received] = []
        self._is_asked = False
        self._is_done = False
        self._applied = 0

    @property
    def is_done(self) -> bool:
        """Whether the state is rebuilt."""
        return self._is_done

    @property
    def trouble(self) -> str | None:
        """It takes no command: why."""
        if self._trouble is not None or self._is_done:
            return self._trouble
        if self._applied:
            return f"It lost its state, which is being replayed: {self._applied} messages so far."
        return f"It lost its state and waits for a replay. Fix: run: escrow replay --to {self._participant.name} --from first"

    def turn(self) -> None:
        """One round; returns when a batch is applied, or after `IDLE_S` without one. Raises: whatever went wrong; call again."""
        if self._replay.state == "waiting":
            self._ask()
            self._take()
        else:
            self._transport.discard()
            self._replay.close()
            self._is_done = True

    def finish(self) -> None:
        """What is not acked comes again."""
        self._transport.close()

    def _ask(self) -> None:
        """Publish the request, which lies in the outbox."""
        if not self._is_asked:
            unsent = [each for each in self._participant.unsent() if each.message.event_type == RESYNC_REQUESTED]
            self._transport.publish([each.message for each in unsent])
            self._participant.handle([], sent=[each.outbox_id for each in unsent])
            self._is_asked = True

    def _take(self) -> None:
        if not self._batch:
            self._batch = self._transport.consume(self._batch_max, IDLE_S)
        if self._batch:
            self._replay.handle([received.wire for received in self._batch])
            self._transport.ack([received.tag for received in self._batch])
            self._applied += len(self._batch)
            self._batch = []
