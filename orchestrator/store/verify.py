"""What `escrow verify` reads: every order with all that any table says of it, page by page, each page one state of the database.

Orders may move meanwhile: each is read as it stood at one moment, its journal and its rows from the same state. Journals are streamed, so
memory is bounded by a page of orders, however long their histories are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orchestrator.app.replay import LINE, Line
from orchestrator.app.restore import Report, verify
from orchestrator.saga.order import Order
from orchestrator.store import counters
from orchestrator.store.bulk import stream_rows
from orchestrator.store.deadlines import row_of
from orchestrator.store.dialect import reading
from orchestrator.store.orders import label_rows, projection
from orchestrator.store.spans import EVERYTHING, Span
from orchestrator.store.tables import deadlines, journal, order_data, order_labels, orders, outbox, parked, snapshots

if TYPE_CHECKING:
    from orchestrator.app.again import Again

#: What a finding calls a counter: (`DEFINITION@VERSION`, state, status).
CounterName = tuple[str, str, str]

#: Orders read at once: about those of a span (`spans.ENTRIES`), as every page needs a dozen statements of its own.
BATCH = 1_500

#: Every table that knows an order.
FAMILIES = (orders, order_data, order_labels, journal, deadlines, snapshots, outbox, parked)

#: What the journal says of a deadline. How often one was put off is the database's own: no decision depends on it.
JOURNALED = tuple(column for column in deadlines.c if not column.name.startswith("put_off"))
#: What is compared of a message on its way out, and of one that waits for its order.
_OUTBOX = tuple(outbox.c[name] for name in ("order_id", "outbox_id", "seq", "place", "command_id", "participant", "message_type"))
_PARKED = tuple(parked.c[name] for name in ("order_id", "source", "message_id", "message_type", "envelope"))
_LINES = tuple(journal.c[name] for name in LINE)
_ORDER_ID = LINE.index("order_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Everything the database holds about one order (`app.restore.Kept`)."""

    order_id: str
    #: Columns of `orders`: must equal `store.orders.projection` of the order. None: the row is missing.
    row: Mapping[str, Any] | None
    #: Of `order_data`: canonical JSON of the order. None: it is missing.
    document: bytes | None
    #: By seq; read once, before the next order.
    lines: Iterable[Line]
    #: Rows of `deadlines`, by name: must equal `Projection.deadlines`.
    deadlines: Sequence[Mapping[str, Any]]
    #: Rows of `order_labels`, by name: must equal `Projection.labels`.
    labels: Sequence[Mapping[str, Any]]
    outbox: Sequence[Mapping[str, Any]]
    parked: Sequence[Mapping[str, Any]]
    #: Documents by seq.
    snapshots: Mapping[int, bytes]


class Projection:
    """How an order is laid out in rows (`app.restore.Projection`)."""

    def row(self, order: Order) -> dict[str, Any]:
        """Columns of the order's row."""
        return projection(order)

    def deadlines(self, order: Order) -> list[dict[str, Any]]:
        """Its deadline rows, by name."""
        rows = [row_of(order.order_id, deadline) for _, deadline in sorted(order.deadlines.items()) if deadline.due_at is not None]
        return [{column.name: row[column.name] for column in JOURNALED} for row in rows]

    def labels(self, order: Order) -> list[dict[str, Any]]:
        """Its label rows, by name."""
        return label_rows(order)


def verify_span(engine: sa.Engine, span: Span, *, again: Again | None = None) -> Report:
    """Compare the orders of a span with their journals (`app.restore.verify`). Raises: StoreUnavailable."""
    return verify(journals(engine, span), Projection(), again=again)


def journals(engine: sa.Engine, span: Span = EVERYTHING, *, batch: int = BATCH) -> Iterator[Kept]:
    """Every order that any table knows, in id order. Orders may move while it runs."""
    after = span.after
    while True:
        with reading(engine, is_snapshot=True) as connection:
            order_ids = next_ids(connection, after, span.until, batch)
            if order_ids:
                yield from _page(connection, order_ids)
        if len(order_ids) < batch:
            return
        after = order_ids[-1]


def counter_sums(engine: sa.Engine) -> tuple[dict[CounterName, int], dict[CounterName, int]]:
    """Orders by counter: as the counters say, and as counted, both from one state of the database."""
    with reading(engine, is_snapshot=True) as connection:
        kept = counters.sums(connection)
        found = counters.counted(connection)
    return {_counter_name(*key): n for key, n in kept.items()}, {_counter_name(*key): n for key, n in found.items()}


def moved_since(engine: sa.Engine, begun_at: datetime) -> int:
    """Orders that were opened, or moved on, since then."""
    statement = sa.select(sa.func.count()).select_from(orders).where(orders.c.updated_at >= begun_at)
    with reading(engine) as connection:
        return connection.execute(statement).scalar_one()


def next_ids(connection: sa.Connection, after: str, until: str | None, batch: int) -> list[str]:
    """The next ids in any of the tables: an order of which only a journal, a deadline or a label is left must show."""
    statement = _next_ids_statement(is_open=until is None)
    return list(connection.scalars(statement, {"after": after, "until": until, "batch": batch}))


def of_ids(
    connection: sa.Connection, columns: Iterable[sa.Column[Any]], order_ids: Sequence[str], *by: sa.Column[Any]
) -> sa.CursorResult[Any]:
    """Rows of the orders from the first to the last of these ids, by id."""
    return connection.execute(_within(tuple(columns), *by), _ends(order_ids))


def tuples_of_ids(
    connection: sa.Connection, columns: Iterable[sa.Column[Any]], order_ids: Sequence[str], *by: sa.Column[Any]
) -> Generator[tuple[Any, ...]]:
    """Like `of_ids`, where there are very many: as plain tuples, streamed (`stream_rows`)."""
    return stream_rows(connection, _within(tuple(columns), *by), _ends(order_ids))


def lines_of(connection: sa.Connection, order_ids: Sequence[str]) -> Iterator[tuple[str, Iterator[Line]]]:
    """The journals of these orders, streamed: each to be read before the next. Those that have none are left out."""
    with closing(tuples_of_ids(connection, _LINES, order_ids, journal.c.seq)) as lines:
        yield from groupby(lines, key=itemgetter(_ORDER_ID))


@cache
def _next_ids_statement(*, is_open: bool) -> sa.Select[Any]:
    """Parameters: `after`, `until` (unless `is_open`), `batch`. Made once: it takes longer to make than to execute."""
    parts = []
    for table in FAMILIES:
        order_id = table.c.order_id
        ids = sa.select(order_id).distinct().where(order_id > sa.bindparam("after")).order_by(order_id).limit(sa.bindparam("batch"))
        parts.append(sa.select((ids if is_open else ids.where(order_id <= sa.bindparam("until"))).subquery()))
    every = sa.union(*parts).subquery("ids")
    return sa.select(every.c.order_id).order_by(every.c.order_id).limit(sa.bindparam("batch"))


@cache
def _within(columns: tuple[sa.Column[Any], ...], *by: sa.Column[Any]) -> sa.Select[Any]:
    """Parameters: those of `_ends`."""
    order_id = next(column for column in columns if column.name == "order_id")
    # Not BETWEEN: PostgreSQL's grammar has no room in it for the collation that goes with the parameter.
    return sa.select(*columns).where(order_id >= sa.bindparam("first"), order_id <= sa.bindparam("last")).order_by(order_id, *by)


def _ends(order_ids: Sequence[str]) -> dict[str, str]:
    return {"first": order_ids[0], "last": order_ids[-1]}


def _page(connection: sa.Connection, order_ids: Sequence[str]) -> Iterator[Kept]:
    rows = {row.order_id: row._asdict() for row in of_ids(connection, orders.c, order_ids)}
    documents = {row.order_id: row.document for row in of_ids(connection, order_data.c, order_ids)}
    armed = _grouped(of_ids(connection, JOURNALED, order_ids, deadlines.c.name))
    labelled = _grouped(of_ids(connection, order_labels.c, order_ids, order_labels.c.name))
    sending = _grouped(of_ids(connection, _OUTBOX, order_ids, outbox.c.seq, outbox.c.place))
    waiting = _grouped(of_ids(connection, _PARKED, order_ids, parked.c.arrival))
    points = _grouped(of_ids(connection, snapshots.c, order_ids, snapshots.c.seq))

    def kept(order_id: str, lines: Iterable[Line]) -> Kept:
        return Kept(
            order_id=order_id,
            row=rows.get(order_id),
            document=documents.get(order_id),
            lines=lines,
            deadlines=armed.get(order_id, ()),
            labels=labelled.get(order_id, ()),
            outbox=sending.get(order_id, ()),
            parked=waiting.get(order_id, ()),
            snapshots={point["seq"]: point["document"] for point in points.get(order_id, ())},
        )

    left = iter(order_ids)
    for with_journal, lines in lines_of(connection, order_ids):
        for order_id in left:
            if order_id == with_journal:
                yield kept(order_id, lines)
                break
            yield kept(order_id, ())
    for order_id in left:
        yield kept(order_id, ())


def _grouped(rows: sa.CursorResult[Any]) -> dict[str, list[Mapping[str, Any]]]:
    return {order_id: [row._asdict() for row in group] for order_id, group in groupby(rows, key=attrgetter("order_id"))}


def _counter_name(definition: str, version: int, state: str, status: str) -> CounterName:
    return f"{definition}@{version}", state, status
