"""A transport in memory, and how to make commands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.contract import Envelope, Wire, attempt_message_id, command_id, decode, encode, undo_id
from participants.kit.participant import Participant
from participants.kit.runner import Runner
from participants.kit.transport import Published, Received


def talk_to(participant: Participant) -> Callable[[Envelope], list[Envelope]]:
    """Hand one command to the participant, as its runner does; what it answers."""

    def talk(envelope: Envelope) -> list[Envelope]:
        replies = participant.handle([encode(envelope)])
        participant.settle()
        return [decode(reply.message.wire) for reply in replies]

    return talk


@contextmanager
def running(runner: Runner) -> Iterator[None]:
    """The runner's loop, in a thread, until the end of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=runner.run, args=[stop])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def ask(name: str, order_id: str, data: Mapping[str, Any], *, attempt: int = 1) -> Envelope:
    """A command for an order."""
    own_id = command_id(order_id, 0, name, 1)
    data = {"order_id": order_id, **data}
    return Envelope(
        id=attempt_message_id(own_id, attempt), source="escrow", type=name, subject=order_id, data=data, commandid=own_id, attempt=attempt
    )


def undo_of(name: str, command: Envelope, *, attempt: int = 1) -> Envelope:
    """The undo of a command."""
    assert command.commandid is not None
    own_id = undo_id(command.commandid)
    return Envelope(
        id=attempt_message_id(own_id, attempt),
        source="escrow",
        type=name,
        subject=command.subject,
        data={"order_id": command.subject},
        commandid=own_id,
        undoes=command.commandid,
        attempt=attempt,
    )


class MemoryTransport:
    """`Transport` on two lists: what is unacked is there until `redeliver`, what is published is kept. `down` makes publishing fail."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[Received] = deque()
        self.unacked: dict[int, Received] = {}
        self.published: list[Published] = []
        self.down = False
        self.paused = False
        self.closed = False
        self._tags = 0

    def send(self, *envelopes: Envelope) -> None:
        """Put commands into the queue."""
        self.send_wires(*map(encode, envelopes))

    def send_wires(self, *wires: Wire) -> None:
        """Put anything into the queue."""
        with self.changed:
            for wire in wires:
                self._tags += 1
                self.waiting.append(Received(wire, self._tags, redelivered=False))
            self.changed.notify_all()

    def discard(self) -> None:
        """See `ReplayTransport.discard`."""
        with self.changed:
            self.waiting.clear()
            self.closed = True

    def redeliver(self) -> None:
        """What a broker does with the unacked messages of a consumer that is gone."""
        with self.changed:
            self.waiting.extendleft(Received(r.wire, r.tag, redelivered=True) for r in reversed(self.unacked.values()))
            self.unacked.clear()

    def answers(self) -> list[Envelope]:
        """All that was published."""
        with self.changed:
            return [decode(message.wire) for message in self.published]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Envelope]:
        """Wait until so many messages were published."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.published) >= count, timeout_s), f"{len(self.published)} of {count} published"
        return self.answers()

    def consume(self, max_count: int, timeout_s: float) -> list[Received]:
        with self.changed:
            assert not self.paused, "a paused transport is not used"
            self.changed.wait_for(lambda: bool(self.waiting), timeout_s)
            batch = [self.waiting.popleft() for _ in range(min(max_count, len(self.waiting)))]
            self.unacked |= {received.tag: received for received in batch}
            return batch

    def ack(self, tags: Sequence[int]) -> None:
        with self.changed:
            for tag in tags:
                del self.unacked[tag]

    def publish(self, messages: Sequence[Published]) -> None:
        if self.down:
            raise ConnectionError("down")
        with self.changed:
            self.published += messages
            self.changed.notify_all()

    def pause(self) -> None:
        self.redeliver()
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True
