"""Due deadlines become inputs of the line. Whether silence is evidence is decided here, before the core hears of it (R9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.app.ports import Due, Store
from orchestrator.app.work import Work
from orchestrator.saga.inputs import DeadlineDue


@dataclass(slots=True, kw_only=True)
class Hearing:
    """Whether replies could have reached us. Silence counts only while this worker hears (R9)."""

    #: After the link came up deadlines wait until the inbox was seen shorter than a batch, or this long.
    drain_grace_s: float
    batch_count_max: int
    consuming: bool = False
    drained: bool = False
    _since_s: float = 0.0

    def link_changed(self, *, consuming: bool, depth: int | None, at_s: float) -> None:
        """The consumer came or went. `at_s`: monotonic."""
        if consuming and not self.consuming:
            self._since_s = at_s
            self.drained = depth is not None and depth < self.batch_count_max
        self.consuming = consuming

    def interrupted(self, at_s: float) -> None:
        """Nothing was taken for a while, for the database was away or this process stood still: replies may have queued up."""
        self._since_s = at_s
        self.drained = False

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
