"""Parked messages: for orders that do not exist yet, kept until they do or the message expires."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import Parked
from orchestrator.errors import InvariantViolated
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import orders, parked

_FIELDS = tuple(field.name for field in fields(Parked))
_COLUMNS = tuple(parked.c[name] for name in _FIELDS)


def insert(connection: sa.Connection, messages: Sequence[Parked]) -> None:
    """Park messages. One that is parked already is refused by the database (DataRefused): whoever parks has looked, under the lock."""
    if messages:
        connection.execute(_INSERT, [{name: getattr(message, name) for name in _FIELDS} for message in messages])


def of_orders(connection: sa.Connection, order_ids: Collection[str]) -> dict[str, list[Parked]]:
    """What is parked, by order, each list in order of arrival."""
    found: dict[str, list[Parked]] = {}
    if order_ids:
        dialect = of(connection)
        for row in connection.execute(_of_orders_statement(dialect), dialect.pack("ids", order_ids)):
            found.setdefault(row.order_id, []).append(Parked(**row._mapping))
    return found


def of_opened_orders(connection: sa.Connection, limit: int) -> list[Parked]:
    """The first of those whose orders are open: only a recovery leaves any, for the time it takes."""
    is_open = sa.exists().where(orders.c.order_id == parked.c.order_id)
    statement = sa.select(*_COLUMNS).where(is_open).order_by(parked.c.order_id, parked.c.arrival).limit(limit)
    return [Parked(**row._mapping) for row in connection.execute(statement)]


def delete(connection: sa.Connection, keys: Sequence[tuple[str, str, str]]) -> None:
    """Take (order id, source, message id) out. Raises: InvariantViolated when one is not there, under the order's lock."""
    if not keys:
        return
    rows = [{"k_order": order_id, "k_source": source, "k_message": message_id} for order_id, source, message_id in keys]
    result = connection.execute(_DELETE, rows)
    if result.rowcount != len(rows):
        raise InvariantViolated(f"{result.rowcount} of {len(rows)} parked messages were there to be taken out.")


def expired_orders(connection: sa.Connection, now: datetime, limit: int) -> list[str]:
    """The orders of the messages that expired first, at most `limit` of them."""
    statement = sa.select(parked.c.order_id).where(parked.c.expires_at <= now).order_by(parked.c.expires_at).limit(limit)
    return list(dict.fromkeys(connection.scalars(statement)))


@cache
def _of_orders_statement(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(*_COLUMNS).where(dialect.among(parked.c.order_id, "ids")).order_by(parked.c.order_id, parked.c.arrival)


_INSERT = sa.insert(parked)
_DELETE = sa.delete(parked).where(
    parked.c.order_id == sa.bindparam("k_order"),
    parked.c.source == sa.bindparam("k_source"),
    parked.c.message_id == sa.bindparam("k_message"),
)
