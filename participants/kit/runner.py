"""The loop of a participant: take a batch, commit it, ack it, publish its replies and the events of facts, forget the confirmed ones."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

from participants.kit.faults import Faults
from participants.kit.ledger import Outgoing
from participants.kit.loop import Loop
from participants.kit.participant import Participant
from participants.kit.transport import Received, Transport

#: Commands that one transaction takes at most.
BATCH_MAX = 200
#: Seconds of waiting for a command, after which a stop is noticed and confirmed replies are forgotten.
IDLE_S = 0.25


class Runner(Loop):
    """Runs one participant on one transport until it is told to stop; then finishes the batch, publishes, and closes the transport.

    A crash at any point loses nothing: before the commit the commands are delivered again, after it the replies lie in the outbox, which
    the next start publishes first, and copies of commands are answered from the ledger. Acks follow the commit, not the confirms.
    Replies that a *sibling* process left are published when any process of the participant starts, not sooner (but Escrow asks again).
    """

    def __init__(
        self,
        participant: Participant,
        transport: Transport,
        *,
        faults: Faults | None = None,
        batch_max: int = BATCH_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(participant.name)
        self.participant = participant
        self.faults = faults or Faults()
        self._transport = transport
        self._batch_max = batch_max
        self._monotonic = monotonic
        self._batch: list[Received] = []
        # Deliveries that are committed, and whose effects outside the database may still be due.
        self._unacked: list[int] = []
        self._settled = False
        self._started = False
        self._is_down = False
        # What the outbox held at the start.
        self._left: frozenset[str] = frozenset()
        # Replies and events to publish: (due by the monotonic clock, place, message).
        self._queue: list[tuple[float, int, Outgoing]] = []
        self._places = itertools.count()
        self._sent: list[str] = []

    @property
    def trouble(self) -> str | None:
        """What is wrong at the moment, in one line; None when it works."""
        return "It was told to be down." if self._is_down or self.faults.settings.down else self._trouble

    def turn(self) -> None:
        """One round; returns when a batch is done, or after `IDLE_S` without one. Raises: whatever went wrong; call again."""
        self._be_down_or_up()
        if self.faults.wait_while_idle(IDLE_S):
            return
        self._start()
        self._settle()
        self._publish()
        self._take()
        self._settle()
        self._publish()

    def _be_down_or_up(self) -> None:
        """Let go of the bus, or take it up, as told. What was taken and not acked is gone with the link: commands come again."""
        if self.faults.settings.down != self._is_down:
            self._is_down = not self._is_down
            if self._is_down:
                self._batch, self._unacked = [], []
                self._transport.pause()
            else:
                self._transport.resume()

    def _start(self) -> None:
        if not self._started:
            unsent = self.participant.unsent()
            self._left = frozenset(reply.outbox_id for reply in unsent)
            self._enqueue(unsent, due_at=self._monotonic())
            self._started = True

    def _take(self) -> None:
        if not self._batch:
            self._batch = self._transport.consume(self._batch_max, self._patience_s())
        if self.faults.settings.is_idle:
            return  # told so while it waited for commands: these are taken when it works again
        replies = self.participant.handle([received.wire for received in self._batch], sent=self._sent, refuse=self.faults.refuse)
        self._sent = []
        # A fact reported before the first turn lies in the outbox that was read there.
        events = [event for event in self.participant.reported() if event.outbox_id not in self._left]
        self._settled = self._settled and not self._batch and not events
        self._unacked += [received.tag for received in self._batch]
        self._batch = []
        self._enqueue(replies + events, due_at=self._monotonic() + self.faults.settings.late_s)

    def _settle(self) -> None:
        """Acks and replies wait for the effects outside the database: a reply says that they happened."""
        if self._settled:
            return
        self.participant.settle()
        self._settled = True
        tags, self._unacked = self._unacked, []
        if tags:
            self._transport.ack(tags)

    def _publish(self) -> None:
        if self.faults.settings.is_idle:
            return
        now = self._monotonic()
        due: list[tuple[float, int, Outgoing]] = []
        while self._queue and self._queue[0][0] <= now:
            due.append(heapq.heappop(self._queue))
        if not due:
            return
        try:
            self._transport.publish(self.faults.distort([reply.message for _, _, reply in due]))
        except BaseException:
            for item in due:
                heapq.heappush(self._queue, item)
            raise
        self._sent += [reply.outbox_id for _, _, reply in due]

    def _enqueue(self, replies: list[Outgoing], *, due_at: float) -> None:
        for reply in replies:
            heapq.heappush(self._queue, (due_at, next(self._places), reply))

    def _patience_s(self) -> float:
        """Not longer than until the next late reply is due."""
        return max(0.0, min(IDLE_S, self._queue[0][0] - self._monotonic())) if self._queue else IDLE_S

    def finish(self) -> None:
        """What is left stays in the outbox, or unacked: the next start takes it up."""
        try:
            self._settle()
            self._publish()
            self.participant.handle([], sent=self._sent)
        except Exception as error:  # noqa: BLE001 - at the end there is nothing left to do but to say it
            self.note(error)
        finally:
            self._transport.close()
