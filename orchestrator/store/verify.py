"""What `escrow verify` reads: every order with its journal, deadlines and labels, page by page, each page one state of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.saga.decision import Entry
from orchestrator.saga.order import Order
from orchestrator.store import counters
from orchestrator.store.deadlines import row_of
from orchestrator.store.dialect import reading
from orchestrator.store.journal import read_entry
from orchestrator.store.orders import label_rows, projection
from orchestrator.store.tables import deadlines, journal, order_data, order_labels, orders

#: What a finding calls a counter: (`DEFINITION@VERSION`, state, status).
CounterName = tuple[str, str, str]

#: Orders read at once.
BATCH = 200

#: What the journal says of a deadline. How often one was put off is the database's own: no decision depends on it.
_JOURNALED = tuple(column for column in deadlines.c if not column.name.startswith("put_off"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Everything the database holds about one order."""

    order_id: str
    #: Columns of `orders`: must equal `store.orders.projection` of the order. None: the row is missing.
    row: dict[str, Any] | None
    #: Of `order_data`: canonical JSON of the order. None: it is missing.
    document: bytes | None
    #: By seq.
    entries: list[Entry]
    #: Rows of `deadlines`, by name: must equal `Projection.deadlines`.
    deadlines: list[dict[str, Any]]
    #: Rows of `order_labels`, by name: must equal `Projection.labels`.
    labels: list[dict[str, Any]]


class Projection:
    """How an order is laid out in rows (`app.restore.Projection`)."""

    def row(self, order: Order) -> dict[str, Any]:
        """Columns of the order's row."""
        return projection(order)

    def deadlines(self, order: Order) -> list[dict[str, Any]]:
        """Its deadline rows, by name."""
        rows = [row_of(order.order_id, deadline) for _, deadline in sorted(order.deadlines.items()) if deadline.due_at is not None]
        return [{column.name: row[column.name] for column in _JOURNALED} for row in rows]

    def labels(self, order: Order) -> list[dict[str, Any]]:
        """Its label rows, by name."""
        return label_rows(order)


def journals(engine: sa.Engine, batch: int = BATCH) -> Iterator[Kept]:
    """Every order that any table knows, in id order; at most `batch` of them in memory. Orders may move while it runs."""
    after = ""
    while page := _page(engine, after, batch):
        yield from page
        after = page[-1].order_id


def counter_sums(engine: sa.Engine) -> tuple[dict[CounterName, int], dict[CounterName, int]]:
    """Orders by counter: as the counters say, and as counted, both from one state of the database."""
    o = orders.c
    key = (o.definition, o.version, o.state, o.status)
    counted = sa.select(*key, sa.func.count()).group_by(*key)
    with reading(engine, is_snapshot=True) as connection:
        kept = counters.sums(connection)
        found = connection.execute(counted).all()
    return {_counter_name(*key): n for key, n in kept.items()}, {_counter_name(*key): n for *key, n in found}


def _counter_name(definition: str, version: int, state: str, status: str) -> CounterName:
    return f"{definition}@{version}", state, status


def _page(engine: sa.Engine, after: str, batch: int) -> list[Kept]:
    with reading(engine, is_snapshot=True) as connection:
        order_ids = _ids(connection, after, batch)
        if not order_ids:
            return []
        rows = {row.order_id: row for row in _of(connection, orders.c, order_ids)}
        documents = {row.order_id: row.document for row in _of(connection, order_data.c, order_ids)}
        entries = _grouped(_of(connection, journal.c, order_ids, journal.c.seq))
        armed = _grouped(_of(connection, _JOURNALED, order_ids, deadlines.c.name))
        labelled = _grouped(_of(connection, order_labels.c, order_ids, order_labels.c.name))
    return [
        Kept(
            order_id=order_id,
            row=dict(rows[order_id]._mapping) if order_id in rows else None,
            document=documents.get(order_id),
            entries=[read_entry(row) for row in entries.get(order_id, ())],
            deadlines=[dict(row._mapping) for row in armed.get(order_id, ())],
            labels=[dict(row._mapping) for row in labelled.get(order_id, ())],
        )
        for order_id in order_ids
    ]


def _ids(connection: sa.Connection, after: str, batch: int) -> list[str]:
    """The next ids in any of the tables: an order of which only a journal, a deadline or a label is left must show."""
    parts = [
        sa.select(sa.select(table.c.order_id).distinct().where(table.c.order_id > after).order_by(table.c.order_id).limit(batch).subquery())
        for table in (orders, order_data, journal, deadlines, order_labels)
    ]
    every = sa.union(*parts).subquery("ids")
    return list(connection.scalars(sa.select(every.c.order_id).order_by(every.c.order_id).limit(batch)))


def _of(
    connection: sa.Connection, columns: Iterable[sa.Column[Any]], order_ids: Sequence[str], *by: sa.Column[Any]
) -> sa.CursorResult[Any]:
    wanted = list(columns)
    order_id = next(column for column in wanted if column.name == "order_id")
    # Not BETWEEN: PostgreSQL's grammar has no room in it for the collation that goes with the parameter.
    within = (order_id >= order_ids[0], order_id <= order_ids[-1])
    return connection.execute(sa.select(*wanted).where(*within).order_by(order_id, *by))


def _grouped(rows: sa.CursorResult[Any]) -> dict[str, list[Any]]:
    return {order_id: list(group) for order_id, group in groupby(rows, key=attrgetter("order_id"))}
