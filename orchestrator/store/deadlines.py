"""Deadlines: durable instants at which silence becomes an input."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import Due
from orchestrator.saga.order import Deadline
from orchestrator.store.dialect import Dialect, of, pack_rows
from orchestrator.store.tables import deadlines, outbox, participants

#: The columns of a `Due`.
DUE = tuple(deadlines.c[name] for name in ("order_id", "name", "generation", "armed_at", "due_at", "participant"))


def row_of(order_id: str, deadline: Deadline) -> dict[str, Any]:
    """The row that an armed deadline must have; that it was never put off is part of being armed."""
    return {
        "order_id": order_id,
        "name": deadline.name,
        "generation": deadline.generation,
        "armed_at": deadline.armed_at,
        "due_at": deadline.due_at,
        "participant": deadline.participant,
        "command_id": deadline.command_id,
        "put_off_count": 0,
        "put_off_until": None,
    }


def disarm(connection: sa.Connection, keys: Sequence[tuple[str, str]]) -> None:
    """Delete deadlines by (order id, name); those that are gone already are no error."""
    if keys:
        dialect = of(connection)
        connection.execute(_disarm_statement(dialect), dialect.pack_keys("k", keys))


def arm(connection: sa.Connection, armed: Sequence[tuple[str, Deadline]]) -> None:
    """Set deadlines, or replace those of the same name."""
    if armed:
        connection.execute(_arm_statement(of(connection)), pack_rows([row_of(order_id, deadline) for order_id, deadline in armed]))


def put_off(connection: sa.Connection, rows: Sequence[tuple[str, str, datetime]]) -> None:
    """Let deadlines that made `decide` raise rest until an instant, and count it on their rows."""
    if rows:
        connection.execute(_PUT_OFF, [{"k_order": order_id, "k_name": name, "until": until} for order_id, name, until in rows])


def due(connection: sa.Connection, limit: int) -> list[Due]:
    """What is due by the database's clock, earliest first.

    Not what was put off, what waits for its command to be confirmed, and the replies of a participant that is known to be silent (R8).
    Excused is what fell due during its silence, and what a resync under way has yet to send anew: both are no evidence against it.
    """
    d, p = deadlines.c, participants.c
    is_to_resync = sa.and_(d.armed_at >= p.resync_from, d.armed_at <= p.recovered_at)
    excused = sa.exists().where(p.name == d.participant, sa.or_(fell_due_before(p.recovered_at), is_to_resync))
    statement = (
        sa.select(*DUE, excused.label("excused"))
        .where(may_fire(of(connection).instant(connection)), ~_is_silent())
        .order_by(d.due_at)
        .limit(limit)
    )
    return [Due(**row._mapping) for row in connection.execute(statement)]


def put_off_counts(connection: sa.Connection, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How often deadlines, by (order id, name), were put off so far."""
    if not keys:
        return {}
    dialect = of(connection)
    rows = connection.execute(_put_off_counts_statement(dialect), dialect.pack_keys("k", keys))
    return {(row.order_id, row.name): row.put_off_count for row in rows}


def next_due_at(now: sa.ColumnElement[Any]) -> sa.ColumnElement[datetime | None]:
    """The earliest instant after `now` at which something can fire, as an expression. What is overdue every tick looks for."""
    d = deadlines.c
    armed = sa.select(sa.func.min(d.due_at).label("at")).where(d.due_at > now, d.put_off_until.is_(None), ~_is_silent())
    resting = sa.select(sa.func.min(d.put_off_until).label("at")).where(d.put_off_until > now)
    both = armed.union_all(resting).subquery("instants")
    return sa.select(sa.func.min(both.c.at, type_=d.due_at.type)).scalar_subquery()


def may_fire(now: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a deadline is due, was not put off, and does not wait for its command to be confirmed."""
    d = deadlines.c
    return sa.and_(d.due_at <= now, sa.or_(d.put_off_until.is_(None), d.put_off_until <= now), ~is_unconfirmed())


def fell_due_before(recovered_at: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether a deadline was held back by a silence that ended at an instant, if it has not fired: it was armed and fell due before."""
    d = deadlines.c
    return sa.and_(d.armed_at < recovered_at, d.due_at <= recovered_at)


def is_unconfirmed() -> sa.ColumnElement[bool]:
    """Whether a deadline's command still lies in the outbox."""
    return sa.exists().where(outbox.c.order_id == deadlines.c.order_id, outbox.c.command_id == deadlines.c.command_id)


def _is_silent() -> sa.ColumnElement[bool]:
    return sa.exists().where(participants.c.name == deadlines.c.participant, participants.c.state == "silent")


@cache
def _disarm_statement(dialect: Dialect) -> sa.Delete:
    keys = dialect.keys("k", {"order_id": sa.Text, "name": sa.Text})
    return sa.delete(deadlines).where(sa.tuple_(deadlines.c.order_id, deadlines.c.name).in_(sa.select(keys.c.order_id, keys.c.name)))


@cache
def _arm_statement(dialect: Dialect) -> Any:
    # SQLite takes ON CONFLICT for that of a join, unless a WHERE stands between.
    given = sa.select(dialect.rows(deadlines.c)).where(sa.true())
    insert = dialect.insert(deadlines).from_select(list(deadlines.c.keys()), given)
    replaced = {column.name: insert.excluded[column.name] for column in deadlines.c if not column.primary_key}
    return insert.on_conflict_do_update(index_elements=[deadlines.c.order_id, deadlines.c.name], set_=replaced)


@cache
def _put_off_counts_statement(dialect: Dialect) -> sa.Select[Any]:
    keys = dialect.keys("k", {"order_id": sa.Text, "name": sa.Text})
    d = deadlines.c
    return sa.select(d.order_id, d.name, d.put_off_count).where(d.order_id == keys.c.order_id, d.name == keys.c.name)


_PUT_OFF = (
    sa.update(deadlines)
    .where(deadlines.c.order_id == sa.bindparam("k_order"), deadlines.c.name == sa.bindparam("k_name"))
    .values(put_off_count=deadlines.c.put_off_count + 1, put_off_until=sa.bindparam("until"))
)
