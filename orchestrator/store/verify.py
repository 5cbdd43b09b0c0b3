"""What `escrow verify` reads: every order with its journal and deadlines, page by page, each page one state of the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.saga.decision import Entry
from orchestrator.store import counters
from orchestrator.store.dialect import reading
from orchestrator.store.journal import read_entry
from orchestrator.store.tables import deadlines, journal, order_data, orders

#: Orders read at once.
BATCH = 200


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
    #: Rows of `deadlines`, by name: `store.deadlines.row_of` but for the put-off columns.
    deadlines: list[dict[str, Any]]


def journals(engine: sa.Engine, batch: int = BATCH) -> Iterator[Kept]:
    """Every order that any table knows, in id order; at most `batch` of them in memory. Orders may move while it runs."""
    after = ""
    while page := _page(engine, after, batch):
        yield from page
        after = page[-1].order_id


def counter_sums(engine: sa.Engine) -> tuple[dict[counters.CounterKey, int], dict[counters.CounterKey, int]]:
    """(definition, state, status) → orders: as the counters say, and as counted, both from one state of the database."""
    o = orders.c
    key = (o.definition, o.state, o.status)
    counted = sa.select(*key, sa.func.count()).group_by(*key)
    with reading(engine, is_snapshot=True) as connection:
        kept = counters.sums(connection)
        return kept, {(definition, state, status): n for definition, state, status, n in connection.execute(counted)}


def _page(engine: sa.Engine, after: str, batch: int) -> list[Kept]:
    with reading(engine, is_snapshot=True) as connection:
        order_ids = _ids(connection, after, batch)
        if not order_ids:
            return []
        rows = {row.order_id: row for row in _of(connection, orders, order_ids)}
        documents = {row.order_id: row.document for row in _of(connection, order_data, order_ids)}
        entries = _grouped(_of(connection, journal, order_ids, journal.c.seq))
        armed = _grouped(_of(connection, deadlines, order_ids, deadlines.c.name))
    return [
        Kept(
            order_id=order_id,
            row=dict(rows[order_id]._mapping) if order_id in rows else None,
            document=documents.get(order_id),
            entries=[read_entry(row) for row in entries.get(order_id, ())],
            deadlines=[dict(row._mapping) for row in armed.get(order_id, ())],
        )
        for order_id in order_ids
    ]


def _ids(connection: sa.Connection, after: str, batch: int) -> list[str]:
    """The next ids in any of the tables: an order of which only a journal or a deadline is left must show."""
    parts = [
        sa.select(sa.select(table.c.order_id).distinct().where(table.c.order_id > after).order_by(table.c.order_id).limit(batch).subquery())
        for table in (orders, order_data, journal, deadlines)
    ]
    every = sa.union(*parts).subquery("ids")
    return list(connection.scalars(sa.select(every.c.order_id).order_by(every.c.order_id).limit(batch)))


def _of(connection: sa.Connection, table: sa.Table, order_ids: Sequence[str], *by: sa.Column[Any]) -> sa.CursorResult[Any]:
    # Not BETWEEN: PostgreSQL's grammar has no room in it for the collation that goes with the parameter.
    within = (table.c.order_id >= order_ids[0], table.c.order_id <= order_ids[-1])
    return connection.execute(sa.select(table).where(*within).order_by(table.c.order_id, *by))


def _grouped(rows: sa.CursorResult[Any]) -> dict[str, list[Any]]:
    return {order_id: list(group) for order_id, group in groupby(rows, key=attrgetter("order_id"))}
