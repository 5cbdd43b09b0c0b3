"""The read side: what the API, the command line and the metrics ask. It takes no locks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.errors import Unprocessable
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import Order
from orchestrator.store import counters
from orchestrator.store.dialect import of, reading
from orchestrator.store.journal import read_entry
from orchestrator.store.orders import read_document
from orchestrator.store.quarantine import QuarantineRow
from orchestrator.store.tables import OPEN_STATUSES, journal, order_data, orders, outbox, parked, quarantine

#: In the words of the index's predicate: with parameters the planner could not tell that the index will do.
_IS_OPEN: sa.ColumnElement[bool] = sa.literal_column(
    "orders.status IN (" + ", ".join(f"'{status}'" for status in OPEN_STATUSES) + ")", sa.Boolean
)


_BAD_CURSOR = "This cursor is none that Escrow gave: begin again without one."


class Queries:
    """Questions to the database. All raise StoreUnavailable."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def order(self, order_id: str) -> Order | None:
        """One order."""
        statement = sa.select(order_data.c.document).where(order_data.c.order_id == order_id)
        with reading(self._engine) as connection:
            document = connection.execute(statement).scalar_one_or_none()
        return None if document is None else read_document(document)

    def orders(
        self,
        *,
        state: str | None = None,
        status: str | None = None,
        waiting_on: str | None = None,
        overdue: datetime | None = None,
        definition: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Order], str | None]:
        """A page of orders, newest opened first, and the cursor of the next page (None: this is the last).

        `overdue`: those with a deadline at or before that instant. `waiting_on`: those that wait for this participant, or for `operator`,
        whoever else they wait for. Raises: Unprocessable for a cursor that is none of ours.
        """
        o = orders.c
        equal = {o.state: state, o.status: status, o.definition: definition}
        where = [column == value for column, value in equal.items() if value is not None]
        if waiting_on is not None:
            where.append(_waits_for(waiting_on))
        if overdue is not None:
            where.append(o.deadline_at <= overdue)
        if status is None and (waiting_on is not None or overdue is not None):
            # Only open orders wait: their index is short.
            where.append(_IS_OPEN)
        if after is not None:
            where.append(_before(o.opened_at, o.order_id, after))
        statement = (
            sa.select(o.opened_at, o.order_id, order_data.c.document)
            .join_from(orders, order_data, o.order_id == order_data.c.order_id)
            .where(*where)
            .order_by(o.opened_at.desc(), o.order_id.desc())
            .limit(limit + 1)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(statement).all()
        cursor = _next_cursor([(row.opened_at, row.order_id) for row in rows], limit)
        return [read_document(row.document) for row in rows[:limit]], cursor

    def history(self, order_id: str, *, after_seq: int = 0, limit: int = 100) -> list[Entry]:
        """Entries of an order's journal after `after_seq`, oldest first."""
        j = journal.c
        statement = sa.select(journal).where(j.order_id == order_id, j.seq > after_seq).order_by(j.seq).limit(limit)
        with reading(self._engine) as connection:
            return [read_entry(row) for row in connection.execute(statement)]

    def quarantine(
        self,
        *,
        reason: str | None = None,
        type: str | None = None,
        order: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[list[QuarantineRow], str | None]:
        """A page of quarantined messages, resolved ones too, last seen first, and the cursor of the next page."""
        q = quarantine.c
        equal = {q.reason: reason, q.message_type: type, q.order_id: order}
        where = [column == value for column, value in equal.items() if value is not None]
        if after is not None:
            where.append(_before(q.last_at, q.quarantine_id, after))
        statement = sa.select(quarantine).where(*where).order_by(q.last_at.desc(), q.quarantine_id.desc()).limit(limit + 1)
        with reading(self._engine) as connection:
            rows = [QuarantineRow(**row._mapping) for row in connection.execute(statement)]
        return rows[:limit], _next_cursor([(row.last_at, row.quarantine_id) for row in rows], limit)

    def quarantined(self, quarantine_id: str) -> QuarantineRow | None:
        """One quarantined message."""
        statement = sa.select(quarantine).where(quarantine.c.quarantine_id == quarantine_id)
        with reading(self._engine) as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else QuarantineRow(**row._mapping)

    def counts(self) -> dict[tuple[str, str, str], int]:
        """(definition, state, status) → orders, from the counters."""
        with reading(self._engine) as connection:
            return counters.sums(connection)

    def outbox_age_s(self) -> float:
        """Seconds that the oldest message has waited for its confirm; 0 when none waits."""
        with reading(self._engine) as connection:
            # By the index over (owner, created_at) this would be a walk over owners; the outbox is short when all is well.
            oldest = connection.execute(sa.select(sa.func.min(outbox.c.created_at))).scalar_one()
            return 0.0 if oldest is None else max(0.0, (of(connection).now(connection) - oldest).total_seconds())

    def outbox_size(self) -> int:
        """Messages not yet confirmed."""
        return self._count(outbox)

    def parked_count(self) -> int:
        """Messages waiting for their order to open."""
        return self._count(parked)

    def quarantine_count(self) -> int:
        """Quarantined messages that a human is still to decide about."""
        return self._count(quarantine, quarantine.c.resolution.is_(None))

    def now(self) -> datetime:
        """The database's clock."""
        with reading(self._engine) as connection:
            return of(connection).now(connection)

    def _count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        with reading(self._engine) as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one()


def _waits_for(name: str) -> sa.ColumnElement[bool]:
    """Whether a name is among those of `orders.waiting_on`.

    LIKE rules most rows out at little cost, but finds parts of names too, and on SQLite without regard to case.
    """
    names = sa.literal(" ") + orders.c.waiting_on + " "
    return orders.c.waiting_on.contains(name, autoescape=True) & (sa.func.replace(names, f" {name} ", "") != names)


def _before(at: sa.Column[Any], key: sa.Column[Any], cursor: str) -> sa.ColumnElement[bool]:
    """What comes after a cursor in a list that runs backwards."""
    last_at, last_key = _read_cursor(cursor)
    return sa.tuple_(at, key) < sa.tuple_(sa.literal(last_at, at.type), sa.literal(last_key, key.type))


def _next_cursor(keys: Sequence[tuple[datetime, str]], limit: int) -> str | None:
    if len(keys) <= limit:
        return None
    at, key = keys[limit - 1]
    return base64.urlsafe_b64encode(f"{format_time(at)} {key}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        at, _, key = text.partition(" ")
        opened_at = parse_time(at)
    except ValueError as error:
        raise Unprocessable(_BAD_CURSOR) from error
    if not key or "\0" in key:
        raise Unprocessable(_BAD_CURSOR)
    return opened_at, key
