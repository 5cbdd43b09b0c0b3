"""The read side: what the API, the command line and the metrics ask. It takes no locks."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.app.circuit import held_by
from orchestrator.contract import is_name
from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.errors import Unprocessable
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import Order
from orchestrator.store import counters, participants, snapshots
from orchestrator.store import definitions as registered
from orchestrator.store.definitions import Registered
from orchestrator.store.dialect import of, reading
from orchestrator.store.journal import read_entry
from orchestrator.store.orders import read_document
from orchestrator.store.participants import Health
from orchestrator.store.quarantine import QuarantineRow
from orchestrator.store.tables import OPEN_STATUSES, definitions, journal, order_data, order_labels, orders, outbox, parked, quarantine

#: In the words of the indexes' predicate: with parameters the planner could not tell that such an index will do.
_IS_OPEN = orders.c.status.in_([sa.literal_column(f"'{status}'") for status in OPEN_STATUSES])


#: Of a definition; it fits the column.
_VERSION = re.compile("[0-9]{1,9}")
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
        version: int | None = None,
        labels: Collection[tuple[str, str]] = (),
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Order], str | None]:
        """A page of orders, newest opened first, and the cursor of the next page (None: this is the last).

        `overdue`: those with a deadline at or before that instant. `waiting_on`: those that wait for this participant, or for `operator`,
        whoever else they wait for. `version`: of `definition`, given with it. `labels`: those that have all of these (name, value).
        Raises: Unprocessable for a cursor that is none of ours.
        """
        o = orders.c
        equal = {o.state: state, o.status: status, o.definition: definition, o.version: version}
        where = [column == value for column, value in equal.items() if value is not None]
        if waiting_on is not None:
            where.append(_waits_for(waiting_on))
        if overdue is not None:
            where.append(o.deadline_at <= overdue)
        waits = status is None and (waiting_on is not None or overdue is not None)
        if waits or (version is not None and status in OPEN_STATUSES):
            # Only open orders wait, and these statuses are of open orders: their indexes are short.
            where.append(_IS_OPEN)
        source = sa.join(orders, order_data, o.order_id == order_data.c.order_id)
        at: sa.ColumnElement[datetime] = o.opened_at
        key: sa.ColumnElement[str] = o.order_id
        for name, value in labels:
            label = order_labels.alias()
            source = source.join(label, sa.and_(label.c.order_id == o.order_id, label.c.name == name, label.c.value == value))
            # By the label's own columns: its index gives them in this order.
            at, key = label.c.opened_at, label.c.order_id
        if after is not None:
            where.append(_before(at, key, after))
        statement = (
            sa.select(o.opened_at, o.order_id, order_data.c.document)
            .select_from(source)
            .where(*where)
            .order_by(at.desc(), key.desc())
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

    def last_seq(self, order_id: str) -> int | None:
        """The seq of the last entry of an order's journal; None: there is none."""
        return self._last_seq(journal.c.order_id == order_id)

    def seq_at(self, order_id: str, at: datetime) -> int | None:
        """The seq of the last entry of an order's journal that was written at or before an instant."""
        return self._last_seq(journal.c.order_id == order_id, journal.c.at <= at)

    def snapshot(self, order_id: str, seq: int) -> bytes | None:
        """The document of an order's last snapshot at or before `seq`."""
        with reading(self._engine) as connection:
            return snapshots.nearest(connection, order_id, seq)

    def states(self, order_id: str) -> frozenset[str]:
        """Every state that an order's journal names."""
        statement = sa.select(journal.c.to_state).distinct().where(journal.c.order_id == order_id)
        with reading(self._engine) as connection:
            return frozenset(connection.scalars(statement))

    def definitions(self, *, after: str | None = None, limit: int | None = None) -> tuple[list[Registered], str | None]:
        """A page of registered definitions, by name and version, and the cursor of the next page. Without `limit`: all of them."""
        d = definitions.c
        statement = sa.select(definitions).order_by(d.name, d.version).limit(None if limit is None else limit + 1)
        if after is not None:
            name, version = _read_definition_cursor(after)
            last = sa.tuple_(sa.literal(name, d.name.type), sa.literal(version, d.version.type))
            statement = statement.where(sa.tuple_(d.name, d.version) > last)
        with reading(self._engine) as connection:
            found = _registered(connection, statement)
        if limit is None or len(found) <= limit:
            return found, None
        last_one = found[limit - 1]
        return found[:limit], _pack(f"{last_one.name} {last_one.version}")

    def definition(self, name: str, version: int) -> Registered | None:
        """One registered definition."""
        d = definitions.c
        with reading(self._engine) as connection:
            found = _registered(connection, sa.select(definitions).where(d.name == name, d.version == version))
        return found[0] if found else None

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
            return counters.by_status(connection)

    def outbox_age_s(self) -> float:
        """Seconds that the oldest message has waited for its confirm, of those that are not kept back (R8); 0 when none waits."""
        with reading(self._engine) as connection:
            # By the index over (owner, created_at) this would be a walk over owners; the outbox is short when all is well.
            held_back = outbox.c.owner.startswith(held_by(""))
            statement = sa.select(sa.func.min(outbox.c.created_at)).where(sa.or_(outbox.c.owner.is_(None), ~held_back))
            oldest = connection.execute(statement).scalar_one()
            return 0.0 if oldest is None else max(0.0, (of(connection).now(connection) - oldest).total_seconds())

    def outbox_size(self) -> int:
        """Messages not yet confirmed."""
        return self._count(outbox)

    def participants(self) -> list[Health]:
        """The health of every participant that a registered definition names, or of which something was noted, by name (R8)."""
        with reading(self._engine) as connection:
            return participants.health(connection, registered.participants(connection))

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

    def _last_seq(self, *where: sa.ColumnElement[bool]) -> int | None:
        statement = sa.select(journal.c.seq).where(*where).order_by(journal.c.seq.desc()).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(statement).scalar_one_or_none()

    def _count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        with reading(self._engine) as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one()


def _registered(connection: sa.Connection, statement: sa.Select[Any]) -> list[Registered]:
    """The definitions that a statement finds, each with its open orders, from the counters."""
    rows = connection.execute(statement).all()
    open_orders = counters.open_by_version(connection, {row.name for row in rows})
    return [Registered(**row._mapping, open_orders=open_orders.get((row.name, row.version), 0)) for row in rows]


def _waits_for(name: str) -> sa.ColumnElement[bool]:
    """Whether a name is among those of `orders.waiting_on`.

    LIKE rules most rows out at little cost, but finds parts of names too, and on SQLite without regard to case.
    """
    names = sa.literal(" ") + orders.c.waiting_on + " "
    return orders.c.waiting_on.contains(name, autoescape=True) & (sa.func.replace(names, f" {name} ", "") != names)


def _before(at: sa.ColumnElement[datetime], key: sa.ColumnElement[str], cursor: str) -> sa.ColumnElement[bool]:
    """What comes after a cursor in a list that runs backwards."""
    last_at, last_key = _read_cursor(cursor)
    return sa.tuple_(at, key) < sa.tuple_(sa.literal(last_at, at.type), sa.literal(last_key, key.type))


def _next_cursor(keys: Sequence[tuple[datetime, str]], limit: int) -> str | None:
    if len(keys) <= limit:
        return None
    at, key = keys[limit - 1]
    return _pack(f"{format_time(at)} {key}")


def _pack(text: str) -> str:
    """What a cursor says, as it is given away."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpack(cursor: str) -> str:
    """What a cursor says. Raises: ValueError."""
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        at, _, key = _unpack(cursor).partition(" ")
        opened_at = parse_time(at)
    except ValueError as error:
        raise Unprocessable(_BAD_CURSOR) from error
    if not key or "\0" in key:
        raise Unprocessable(_BAD_CURSOR)
    return opened_at, key


def _read_definition_cursor(cursor: str) -> tuple[str, int]:
    try:
        name, _, version = _unpack(cursor).partition(" ")
    except ValueError as error:
        raise Unprocessable(_BAD_CURSOR) from error
    if not is_name(name) or not _VERSION.fullmatch(version):
        raise Unprocessable(_BAD_CURSOR)
    return name, int(version)
