"""Acks and answers wait until the recorder has what they stand for (R28).

Committed batches wait here, in order, for the confirms of their records; what is first in line and recorded is let go: its deliveries are
acked, and whoever waits for an outcome is told. When the broker takes nothing for 5 s they go on without it: until everything is recorded
again, what is committed is unprotected, and the time is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.app.ports import Delivery
from orchestrator.app.work import Outcome, Work
from orchestrator.errors import TemporaryError

#: How long acks and answers wait for the recorder, in seconds (R28).
WAIT_MAX_S = 5.0


@dataclass(slots=True)
class Committed:
    """One batch after its commit, and what is due when it is recorded."""

    committed_s: float
    deliveries: Sequence[Delivery] = ()
    outcomes: Sequence[tuple[Work, Outcome]] = ()
    #: Outbox ids of its records that the broker has not confirmed; empty where nothing is recorded.
    records: set[str] = field(default_factory=set)


class Protection:
    """Not thread-safe: it belongs to the handler thread. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: deque[Committed] = deque()
        #: Record → the batch that waits for it; None when the batch went on without it.
        self._unconfirmed: dict[str, Committed | None] = {}
        self._unprotected_since_s: float | None = None
        self._counted_until_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether everything that is acked and answered now is recorded."""
        return self._unprotected_since_s is None

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def committed(self, batch: Committed) -> None:
        """A batch was committed, and its records are handed to the bus."""
        self._unconfirmed |= dict.fromkeys(batch.records, batch)
        self._waiting.append(batch)
        if not self.is_on:
            self._go_on_without(batch)

    def confirmed(self, outbox_id: str) -> None:
        """The broker has a message; it may be a record."""
        batch = self._unconfirmed.pop(outbox_id, None)
        if batch is not None:
            batch.records.discard(outbox_id)

    def left_to_others(self, outbox_ids: Sequence[str]) -> None:
        """Messages that another worker sends now: of records among them nothing will be heard, so their batches wait in vain."""
        for outbox_id in outbox_ids:
            self._unconfirmed.pop(outbox_id, None)

    def released(self) -> list[Committed]:
        """The batches that need wait no longer, in order; each once."""
        released = []
        while self._waiting and not self._waiting[0].records:
            released.append(self._waiting.popleft())
        return released

    def looked_at(self, at_s: float, *, broker_takes: bool) -> float:
        """Give up waiting where it is time; protect again when everything is confirmed and the broker takes more.

        Call it now and then; returns the seconds unprotected since the last call.
        """
        if self.is_on:
            if not self._waiting or at_s - self._waiting[0].committed_s < WAIT_MAX_S:
                return 0.0
            self._unprotected_since_s = self._counted_until_s = self._waiting[0].committed_s
            for batch in self._waiting:
                self._go_on_without(batch)
        seconds, self._counted_until_s = at_s - self._counted_until_s, at_s
        if not self._unconfirmed and broker_takes:
            self._unprotected_since_s = None
        return seconds

    def _go_on_without(self, batch: Committed) -> None:
        """The ids alone are kept: what the batch holds would fill the memory while the broker takes nothing."""
        self._unconfirmed |= dict.fromkeys(batch.records & self._unconfirmed.keys())
        batch.records.clear()

    def give_up(self, why: str) -> None:
        """This process stops: tell those who wait that they will not hear whether it is recorded."""
        for batch in self._waiting:
            for work, _ in batch.outcomes:
                if work.on_outcome is not None:
                    work.on_outcome(Outcome(decision=None, order=None, error=TemporaryError(why)))
        self._waiting.clear()
