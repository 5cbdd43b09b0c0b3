"""Rebuilding: rows of orders, their documents, labels, deadlines and snapshots, laid out anew from the journal alone (R25).

Order by order, what the journal makes is compared with what is there, and what differs is replaced: run on a right database it writes
nothing, and killed at any point it is run again. What was emptied is written whole. The outbox is not rebuilt: whether a message had left
is not in the journal. Commands that are still waited for are sent again by their deadlines.

Orders are gone through by id. Rows that are found by time, too, are written span by span in order of time: otherwise each would touch pages
of those indexes that the one before did not, which takes PostgreSQL a tenth longer for all that it does here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.app.rebuild import NAMED_MAX, Folded, Rebuilt, fold_lines
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
#: Of these, what has indexes that do not begin with the id: at which place of a row they all have the time.
_BY_TIME = {table: table.c.keys().index("opened_at") for table in (orders, order_labels)}
_BY_ID = tuple(table for table in _TABLES if table not in _BY_TIME)
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

    def write(self, connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
        """Write those of these tables, and forget them."""
        for table in tables:
            delete_rows(connection, table, self.gone.pop(table, ()))
            rows = self.rows.pop(table, [])
            if table in _BY_TIME:
                rows.sort(key=itemgetter(_BY_TIME[table]))
            write_rows(connection, table, rows)


def rebuild_span(engine: sa.Engine, span: Span) -> Rebuilt:
    """Lay out the orders of a span, committed by itself. PostgreSQL; no order may move meanwhile.

    It is tried again when a transaction of before is in its way. Raises: StoreBusy, StoreUnavailable, StoreForbidden.
    """
    for left in reversed(range(_TRIES)):
        try:
            with writing(engine) as connection:
                # It is run again when it is lost; the last commit of all waits for the disk, and with it for these.
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                return _lay_out_span(connection, span)
        except StoreBusy:
            if not left:
                raise
    raise AssertionError


def lay_out(connection: sa.Connection, order_ids: Sequence[str]) -> Rebuilt:
    """Lay out the orders from the first to the last of these ids, which no other transaction may move meanwhile."""
    differences = _Differences()
    result = _fold(connection, order_ids, differences)
    differences.write(connection, _TABLES)
    return result


def _lay_out_span(connection: sa.Connection, span: Span) -> Rebuilt:
    result, differences, after = Rebuilt(), _Differences(), span.after
    while order_ids := verify.next_ids(connection, after, span.until, verify.BATCH):
        result += _fold(connection, order_ids, differences)
        # Documents are large: only narrow rows wait for the end of the span.
        differences.write(connection, _BY_ID)
        after = order_ids[-1]
    differences.write(connection, _BY_TIME)
    return result


def _fold(connection: sa.Connection, order_ids: Sequence[str], differences: _Differences) -> Rebuilt:
    """Fold the journals from the first to the last of these ids, and note what of their rows differs."""
    kept = {table: _by_order(tuples_of_ids(connection, table.c, order_ids, *_order_by(table))) for table in _TABLES}
    mended: list[str] = []
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
        if _compare(one, kept, differences):
            mended.append(order_id)
    stray = [order_id for order_id in order_ids if order_id not in folded and any(order_id in rows for rows in kept.values())]
    findings += map(_without_journal, stray)
    return Rebuilt(
        orders=len(folded),
        entries=entries,
        mended=len(mended),
        mended_orders=tuple(mended[:NAMED_MAX]),
        unparked=connection.execute(_UNPARK, {"first": order_ids[0], "last": order_ids[-1]}).rowcount,
        findings=tuple(findings),
    )


def _compare(one: Folded, kept: Mapping[sa.Table, _Rows], differences: _Differences) -> bool:
    """Whether anything differs, which is noted."""
    order_id, differs = one.order.order_id, False
    for table, right in zip(_TABLES, _rows_of(one), strict=True):
        there = kept[table].get(order_id, [])
        if there != right and not (table is deadlines and list(map(_journaled, there)) == list(map(_journaled, right))):
            differs = True
            if there:
                differences.gone[table].append(order_id)
            differences.rows[table].extend(right)
    return differs


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
