"""The outbox: messages committed with the change that caused them, until the broker has confirmed them (R17)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import OutboxMessage
from orchestrator.contract import RECORD, canonical
from orchestrator.store.dialect import Dialect, insert_rows, of
from orchestrator.store.tables import outbox

_COLUMNS = tuple(column.name for column in outbox.c)
_values = attrgetter(*_COLUMNS)


def insert(connection: sa.Connection, messages: Sequence[OutboxMessage]) -> None:
    """Write messages. Records are written by themselves: they are not text, as everything else is."""
    insert_rows(connection, outbox, [_row(message) for message in messages if message.content_type != RECORD])
    if records := [_row(message) for message in messages if message.content_type == RECORD]:
        connection.execute(sa.insert(outbox), records)


def forget(connection: sa.Connection, outbox_ids: Collection[str]) -> None:
    """Delete messages, confirmed by the broker; those that are gone already are no error."""
    if outbox_ids:
        dialect = of(connection)
        connection.execute(_forget_statement(dialect), dialect.pack("ids", outbox_ids))


def forget_commands(connection: sa.Connection, keys: Collection[tuple[str, str]]) -> None:
    """Delete every sending of commands, by (order id, command id): they were answered."""
    if keys:
        dialect = of(connection)
        connection.execute(_forget_commands_statement(dialect), dialect.pack_keys("k", keys))


def take_over(connection: sa.Connection, order_ids: Collection[str], owner: str, except_of: Collection[str] = ()) -> list[OutboxMessage]:
    """Make `owner` the owner of these orders' messages that others own, or nobody, except of some; returns those, in journal order."""
    if not order_ids:
        return []
    dialect = of(connection)
    parameters = {"new_owner": owner} | dialect.pack("ids", order_ids) | dialect.pack("except_of", except_of)
    rows = connection.execute(_take_over_statement(dialect), parameters)
    return in_journal_order(rows)


def owned(connection: sa.Connection, owner: str, outbox_ids: Collection[str]) -> list[str]:
    """Those of the messages that `owner` still owns, in journal order."""
    if not outbox_ids:
        return []
    dialect = of(connection)
    parameters = {"k_owner": owner} | dialect.pack("ids", outbox_ids)
    return list(connection.scalars(_owned_statement(dialect), parameters))


def release(connection: sa.Connection, owner: str, outbox_ids: Collection[str]) -> None:
    """Leave messages that `owner` owns to nobody: any worker adopts them."""
    if outbox_ids:
        dialect = of(connection)
        connection.execute(_release_statement(dialect), {"k_owner": owner} | dialect.pack("ids", outbox_ids))


def release_all(connection: sa.Connection, owner: str) -> None:
    """Leave all messages of `owner` to nobody."""
    connection.execute(sa.update(outbox).where(outbox.c.owner == owner).values(owner=None))


def adopt(connection: sa.Connection, owner: str | None, by: str, limit: int) -> list[OutboxMessage]:
    """Move messages of `owner` (None: of nobody) to `by`, whole orders only, about `limit` rows; returns them in journal order."""
    c = outbox.c
    theirs = c.owner.is_(None) if owner is None else c.owner == owner
    # Whole orders: were an order's messages split between two adopters, the later ones might be sent first.
    chosen = sa.select(c.order_id).where(theirs).order_by(c.order_id).limit(limit)
    statement = sa.update(outbox).where(theirs, c.order_id.in_(chosen)).values(owner=by).returning(outbox)
    return in_journal_order(connection.execute(statement))


def read_message(row: Any) -> OutboxMessage:
    """The message that a row of `outbox` holds."""
    return OutboxMessage(**{**row._mapping, "headers": canonical.load(row.headers)})


def in_journal_order(rows: Iterable[Any]) -> list[OutboxMessage]:
    """Messages, order by order, as their journals caused them."""
    return sorted(map(read_message, rows), key=lambda message: (message.order_id, message.seq, message.place))


def _row(message: OutboxMessage) -> dict[str, Any]:
    return dict(zip(_COLUMNS, _values(message), strict=True), headers=canonical.encode(dict(message.headers)) if message.headers else b"{}")


@cache
def _forget_statement(dialect: Dialect) -> sa.Delete:
    return sa.delete(outbox).where(dialect.among(outbox.c.outbox_id, "ids"))


@cache
def _forget_commands_statement(dialect: Dialect) -> sa.Delete:
    keys = dialect.keys("k", {"order_id": sa.Text, "command_id": sa.Text})
    return sa.delete(outbox).where(sa.tuple_(outbox.c.order_id, outbox.c.command_id).in_(sa.select(keys.c.order_id, keys.c.command_id)))


@cache
def _take_over_statement(dialect: Dialect) -> Any:
    new_owner = sa.bindparam("new_owner", type_=sa.Text)
    return (
        sa.update(outbox)
        .where(
            dialect.among(outbox.c.order_id, "ids"),
            outbox.c.owner.is_distinct_from(new_owner),
            sa.or_(outbox.c.owner.is_(None), ~dialect.among(outbox.c.owner, "except_of")),
        )
        .values(owner=new_owner)
        .returning(outbox)
    )


@cache
def _owned_statement(dialect: Dialect) -> sa.Select[Any]:
    c = outbox.c
    return (
        sa.select(c.outbox_id)
        .where(dialect.among(c.outbox_id, "ids"), c.owner == sa.bindparam("k_owner"))
        .order_by(c.order_id, c.seq, c.place)
    )


@cache
def _release_statement(dialect: Dialect) -> sa.Update:
    c = outbox.c
    return sa.update(outbox).where(dialect.among(c.outbox_id, "ids"), c.owner == sa.bindparam("k_owner")).values(owner=None)
