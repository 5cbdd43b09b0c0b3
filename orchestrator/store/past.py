"""The journals of all orders, streamed for a replay: page by page, each page one state of the database, while orders move."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter

import sqlalchemy as sa

from orchestrator.app.replay import LINE, Line
from orchestrator.store.dialect import of, reading
from orchestrator.store.tables import journal, orders

#: Orders read at once, and lines of journals.
BATCH = 500
LINES = 2_000

_LINES = tuple(journal.c[name] for name in LINE)
_ORDER_ID = LINE.index("order_id")


def moved_orders(engine: sa.Engine, since: datetime | None) -> int:
    """How many orders have an entry since an instant (None: ever)."""
    statement = sa.select(sa.func.count()).select_from(orders).where(*_moved(since))
    with reading(engine) as connection:
        return connection.execute(statement).scalar_one()


def journals(engine: sa.Engine, since: datetime | None, *, batch: int = BATCH) -> Iterator[tuple[str, Iterator[Line]]]:
    """The whole journals of the orders that have an entry since an instant (None: ever), in id order, each by seq.

    Each is to be read before the next. An order that opens while it runs may be left out: nobody has lost anything of it.
    """
    after = ""
    chosen = sa.select(orders.c.order_id).where(*_moved(since)).order_by(orders.c.order_id).limit(batch)
    while True:
        with reading(engine, is_snapshot=True) as connection:
            order_ids = list(connection.scalars(chosen.where(orders.c.order_id > after)))
            if not order_ids:
                return
            dialect = of(connection)
            lines = sa.select(*_LINES).where(dialect.among(journal.c.order_id, "ids")).order_by(journal.c.order_id, journal.c.seq)
            options = {"yield_per": LINES}
            with connection.execute(lines, dialect.pack("ids", order_ids), execution_options=options) as rows:
                yield from groupby(chain.from_iterable(rows.partitions(LINES)), key=itemgetter(_ORDER_ID))
        after = order_ids[-1]


def _moved(since: datetime | None) -> list[sa.ColumnElement[bool]]:
    return [] if since is None else [orders.c.updated_at >= since]
