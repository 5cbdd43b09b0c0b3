"""Rebuilding: rows of orders, their documents, labels, deadlines and snapshots, laid out anew from the journal alone (R25).

Order by order, what the journal makes is compared with what is there, and what differs is replaced: run on a right database it writes
nothing, and killed at any point it is run again. What was emptied is written whole. The outbox is not rebuilt: whether a message had left
is not in the journal. Commands that are still waited for are sent again by their deadlines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.app.rebuild import Folded, Rebuilt, fold_lines
from orchestrator.app.restore import Discrepancy
from orchestrator.errors import StoreBusy
from orchestrator.store import verify
from orchestrator.store.bulk import delete_rows, write_rows
from orchestrator.store.deadlines import row_of
from orchestrator.store.dialect import writing
from orchestrator.store.orders import label_rows, projection
from orchestrator.store.spans import Span
from orchestrator.store.tables import deadlines, journal, order_data, order_labels, orders, parked, snapshots
from orchestrator.store.verify import JOURNALED, lines_of, tuples_of_ids

#: How often a page is tried that another transaction keeps from being written.
_TRIES = 5
#: What is rebuilt.
_TABLES = (orders, order_data, order_labels, deadlines, snapshots)
#: Of a row of deadlines, what the journal says.
_journaled = itemgetter(*(place for place, column in enumerate(deadlines.c) if column.name in {one.name for one in JOURNALED}))

_order_values = itemgetter(*orders.c.keys())
_label_values = itemgetter(*order_labels.c.keys())
_deadline_values = itemgetter(*deadlines.c.keys())

#: Rows as tuples of a table's columns, by order.
_Rows = Mapping[str, list[tuple[Any, ...]]]


#: Messages that wait for an order which took them when it opened: its journal has them. Parameters: `first`, `last`.
_UNPARK = sa.delete(parked).where(
    parked.c.order_id >= sa.bindparam("first"),
    parked.c.order_id <= sa.bindparam("last"),
    sa.exists().where(
        journal.c.order_id == parked.c.order_id, journal.c.source == parked.c.source, journal.c.message_id == parked.c.message_id
    ),
)


@dataclass(slots=True)
class _Differences:
    """What is to be written, table by table."""

    gone: dict[sa.Table, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[sa.Table, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    orders: dict[str, None] = field(default_factory=dict)


def rebuild_span(engine: sa.Engine, span: Span) -> Rebuilt:
    """Lay out the orders of a span, page by page, each committed by itself. PostgreSQL; no order may move meanwhile.

    Raises: StoreBusy, StoreUnavailable, StoreForbidden.
    """
    result, after = Rebuilt(), span.after
    while True:
        page, last = _rebuild_page(engine, after, span.until)
        result += page
        if last is None:
            return result
        after = last


def lay_out(connection: sa.Connection, order_ids: Sequence[str]) -> Rebuilt:
    """Lay out the orders from the first to the last of these ids, which no other transaction may move meanwhile."""
    kept = {table: _by_order(tuples_of_ids(connection, table.c, order_ids, *_order_by(table))) for table in _TABLES}
    differences = _Differences()
    findings = []
    entries = 0
    folded: set[str] = set()
    for order_id, lines in lines_of(connection, order_ids):
        one = fold_lines(order_id, lines)
        folded.add(order_id)
        if isinstance(one, Discrepancy):
            findings.append(one)
            continue
        entries += one.order.seq
        _compare(one, kept, differences)
    stray = [order_id for order_id in order_ids if order_id not in folded and any(order_id in rows for rows in kept.values())]
    findings += map(_without_journal, stray)
    for table in _TABLES:
        delete_rows(connection, table, differences.gone[table])
        write_rows(connection, table, differences.rows[table])
    return Rebuilt(
        orders=len(folded),
        entries=entries,
        mended=len(differences.orders),
        mended_orders=tuple(differences.orders),
        unparked=connection.execute(_UNPARK, {"first": order_ids[0], "last": order_ids[-1]}).rowcount,
        findings=tuple(findings),
    )


def _rebuild_page(engine: sa.Engine, after: str, until: str | None) -> tuple[Rebuilt, str | None]:
    """One page, committed, and its last id (None: no other follows). It is tried again when a transaction of before is in its way."""
    for left in reversed(range(_TRIES)):
        try:
            with writing(engine) as connection:
                # It is run again when it is lost; the last commit of all waits for the disk, and with it for these.
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                order_ids = verify.next_ids(connection, after, until, verify.BATCH)
                result = lay_out(connection, order_ids) if order_ids else Rebuilt()
                return result, order_ids[-1] if len(order_ids) == verify.BATCH else None
        except StoreBusy:
            if not left:
                raise
    raise AssertionError


def _compare(one: Folded, kept: Mapping[sa.Table, _Rows], differences: _Differences) -> None:
    order_id = one.order.order_id
    for table, right in zip(_TABLES, _rows_of(one), strict=True):
        there = kept[table].get(order_id, [])
        if there != right and not (table is deadlines and list(map(_journaled, there)) == list(map(_journaled, right))):
            differences.orders[order_id] = None
            if there:
                differences.gone[table].append(order_id)
            differences.rows[table].extend(right)


def _rows_of(one: Folded) -> tuple[list[tuple[Any, ...]], ...]:
    """The rows of an order, table by table, as `_TABLES` has them."""
    order = one.order
    armed = [deadline for _, deadline in sorted(order.deadlines.items()) if deadline.due_at is not None]
    return (
        [_order_values(projection(order))],
        [(order.order_id, one.document)],
        [_label_values(row) for row in label_rows(order)],
        [_deadline_values(row_of(order.order_id, deadline)) for deadline in armed],
        [(order.order_id, seq, document) for seq, document in one.snapshots.items()],
    )


def _order_by(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.primary_key if column.name != "order_id"]


def _by_order(rows: Iterable[tuple[Any, ...]]) -> _Rows:
    return {order_id: list(group) for order_id, group in groupby(rows, key=itemgetter(0))}


def _without_journal(order_id: str) -> Discrepancy:
    what = "An order without a journal. It was left as it is."
    return Discrepancy(order_id=order_id, what=what, mend="restore this order's journal from a backup, then rebuild it")
