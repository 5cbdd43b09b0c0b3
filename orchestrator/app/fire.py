"""Due deadlines become inputs of the line. Whether silence is evidence is decided here, before the core hears of it (R9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator import logs
from orchestrator.app.ports import Due, Store
from orchestrator.app.work import Work
from orchestrator.saga.inputs import DeadlineDue

_log = logs.get(__name__)


@dataclass(slots=True, kw_only=True)
class Hearing:
    """Whether replies could have reached us. Silence counts only while this worker hears (R9)."""

    #: After the link came up deadlines wait until the inbox was seen shorter than a batch, or this long.
    drain_grace_s: float
    batch_count_max: int
    #: A longer time between two ticks means that this process stood still.
    tick_gap_max_s: float
    consuming: bool = False
    drained: bool = False
    #: Since when this worker hears without a break, by the database's clock; None: it does not, or has not told the database yet.
    since_at: datetime | None = None
    _since_s: float = 0.0
    _ticked_s: float | None = None

    def link_changed(self, *, consuming: bool, depth: int | None, at_s: float) -> None:
        """The consumer came or went. `at_s`: monotonic."""
        if consuming and not self.consuming:
            self._since_s = at_s
            self.drained = depth is not None and depth < self.batch_count_max
        if not consuming:
            self.since_at = None
        self.consuming = consuming

    def interrupted(self, at_s: float) -> None:
        """Nothing was taken for a while, for the database was away or this process stood still: replies may have queued up."""
        self._since_s = at_s
        self.drained = False

    def ticked(self, ticked_s: float, at_s: float) -> None:
        """A tick is taken, which was said at `ticked_s`. One that comes long after the one before tells that this process stood still."""
        gap_s = ticked_s - self._ticked_s if self._ticked_s is not None else 0.0
        if gap_s > self.tick_gap_max_s:
            _log.warning("this process stood still, and heard nothing meanwhile", action="stood_still", seconds=round(gap_s, 1))
            self.since_at = None
            self.interrupted(at_s)
        self._ticked_s = ticked_s

    def beaten(self, now: datetime) -> None:
        """The database was told of this worker at `now`, by its clock."""
        if self.consuming and self.since_at is None:
            self.since_at = now

    def behind(self, at_s: float) -> timedelta:
        """How old the last tick is. What came before it is handled: it stood in the queue before it."""
        return timedelta(seconds=at_s - self._ticked_s) if self._ticked_s is not None else timedelta(0)

    def measured(self, depth: int | None, at_s: float) -> None:
        """The inbox was measured: short enough, or the grace is over, means that what was queued has been read."""
        if depth is not None and depth < self.batch_count_max:
            self.drained = True
        if at_s - self._since_s >= self.drain_grace_s:
            self.drained = True

    @property
    def may_fire(self) -> bool:
        """Whether deadlines may be fired now."""
        return self.consuming and self.drained


def due_work(store: Store, limit: int, *, heard_since: datetime | None) -> list[Work]:
    """The deadlines that are due, as inputs.

    `heard_since`: since when some living worker has heard without a break. A reply deadline armed before it is excused: its reply may
    have been lost on our side, so the same attempt is sent again (R9).
    """
    return [work_of(due, heard_since=heard_since) for due in store.due(limit)]


def work_of(due: Due, *, heard_since: datetime | None) -> Work:
    """A due deadline as an input."""
    unheard = due.participant is not None and (heard_since is None or due.armed_at < heard_since)
    excused = due.excused or unheard
    return Work(order_id=due.order_id, input=DeadlineDue(name=due.name, generation=due.generation, excused=excused))
