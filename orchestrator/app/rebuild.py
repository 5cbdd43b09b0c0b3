"""What a rebuild found and did: orders laid out anew from their journals alone (R25)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.app.replay import Line, Replay
from orchestrator.app.restore import FINDINGS_MAX, Discrepancy
from orchestrator.app.sketch import sketch
from orchestrator.errors import InvariantViolated
from orchestrator.saga.order import Order

#: Orders whose names a result keeps.
NAMED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild saw and wrote. Results of parts add up to that of the whole."""

    orders: int = 0
    entries: int = 0
    #: Orders of which something differed from the journal, and was written anew.
    mended: int = 0
    #: The first of them.
    mended_orders: tuple[str, ...] = ()
    #: Messages that waited for an order to open which had taken them already: they were removed.
    unparked: int = 0
    #: Whether the counters were wrong, and were counted anew.
    recounted: bool = False
    #: Orders whose journals cannot be folded: they were left as they are.
    findings: tuple[Discrepancy, ...] = ()
    more: int = 0

    @property
    def found(self) -> int:
        """All findings."""
        return len(self.findings) + self.more

    def __add__(self, other: Rebuilt) -> Rebuilt:
        findings = (*self.findings, *other.findings)
        return Rebuilt(
            orders=self.orders + other.orders,
            entries=self.entries + other.entries,
            mended=self.mended + other.mended,
            mended_orders=(*self.mended_orders, *other.mended_orders)[:NAMED_MAX],
            unparked=self.unparked + other.unparked,
            recounted=self.recounted or other.recounted,
            findings=findings[:FINDINGS_MAX],
            more=self.more + other.more + max(0, len(findings) - FINDINGS_MAX),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """An order as its journal alone makes it."""

    #: For its rows (`sketch`).
    order: Order
    #: Canonical.
    document: bytes
    #: Documents by seq.
    snapshots: dict[int, bytes] = field(default_factory=dict)


def fold_lines(order_id: str, lines: Iterable[Line]) -> Folded | Discrepancy:
    """Fold one journal; a finding when it cannot be folded."""
    replay = Replay(order_id)
    snapshots: dict[int, bytes] = {}
    try:
        for line in lines:
            replay.take(line)
            if replay.is_at_snapshot:
                snapshots[replay.seq] = replay.bytes()
        document = replay.bytes()
    except InvariantViolated as broken:
        what = f"{broken} It was left as it is."
        return Discrepancy(order_id=order_id, what=what, mend="restore this order's journal from a backup, then rebuild it")
    return Folded(order=sketch(document), document=document, snapshots=snapshots)
