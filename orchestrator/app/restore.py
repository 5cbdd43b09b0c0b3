"""The history is the truth: fold every journal, compare with what is stored, and say what does not agree (R25, R26, R27)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.decision import Entry
from orchestrator.saga.fold import fold
from orchestrator.saga.order import Order, to_document


class Kept(Protocol):
    """Everything the database holds about one order."""

    @property
    def order_id(self) -> str:
        """The order."""

    @property
    def row(self) -> Mapping[str, Any] | None:
        """Columns of its row; None: it is missing."""

    @property
    def document(self) -> bytes | None:
        """Its canonical document; None: it is missing."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Its journal, by seq."""

    @property
    def deadlines(self) -> Sequence[Mapping[str, Any]]:
        """Its deadline rows, by name."""

    @property
    def labels(self) -> Sequence[Mapping[str, Any]]:
        """Its label rows, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that does not agree with the journal. `mend` says what to do; `order_id` is empty for counters."""

    order_id: str
    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification saw."""

    orders: int
    entries: int
    findings: tuple[Discrepancy, ...]


class Projection(Protocol):
    """How the store lays an order out in rows."""

    def row(self, order: Order) -> Mapping[str, Any]:
        """Columns of the order's row."""

    def deadlines(self, order: Order) -> Sequence[Mapping[str, Any]]:
        """Its deadline rows, by name."""

    def labels(self, order: Order) -> Sequence[Mapping[str, Any]]:
        """Its label rows, by name."""


def verify(
    kept: Iterable[Kept],
    projection: Projection,
    counters: tuple[Mapping[tuple[str, str, str], int], Mapping[tuple[str, str, str], int]],
) -> Report:
    """Fold every journal and compare. `counters`: as kept, and as counted."""
    orders = entries = 0
    findings: list[Discrepancy] = []
    for one in kept:
        orders += 1
        entries += len(one.entries)
        findings.extend(_examine(one, projection))
    said, counted = counters
    for key in sorted(said.keys() | counted.keys()):
        if said.get(key, 0) != counted.get(key, 0):
            what = f"the counter {'/'.join(key)} says {said.get(key, 0)}, and there are {counted.get(key, 0)} orders"
            findings.append(Discrepancy(order_id="", what=what, mend="report it: counters are kept in the same transaction"))
    return Report(orders=orders, entries=entries, findings=tuple(findings))


def _examine(one: Kept, projection: Projection) -> Iterator[Discrepancy]:
    try:
        order = fold(one.entries)
    except InvariantViolated as broken:
        yield Discrepancy(order_id=one.order_id, what=str(broken), mend="restore this order's journal from a backup")
        return
    rebuild = "rebuild the order from its journal"
    if one.document is None or canonical.encode(to_document(order)) != one.document:
        yield Discrepancy(order_id=one.order_id, what="the stored order differs from its journal", mend=rebuild)
    if one.row is None or dict(one.row) != dict(projection.row(order)):
        yield Discrepancy(order_id=one.order_id, what="the order's row differs from its journal", mend=rebuild)
    if [dict(row) for row in one.deadlines] != [dict(row) for row in projection.deadlines(order)]:
        yield Discrepancy(order_id=one.order_id, what="the armed deadlines differ from the journal", mend=rebuild)
    if [dict(row) for row in one.labels] != [dict(row) for row in projection.labels(order)]:
        yield Discrepancy(order_id=one.order_id, what="the labels differ from the journal", mend=rebuild)
    waits = order.direction != "ended" or any(ask.undo_is_open for ask in order.asks.values())
    if waits and order.next_due_at is None:
        yield Discrepancy(order_id=one.order_id, what="it waits, and no deadline is armed (R27)", mend="retry or abort the order")
