"""Counters of orders by definition, version, state and status: kept in the transaction of the change, so they are never stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.saga.order import Order
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import OPEN_STATUSES, counters, orders

#: Fixed: each worker adds to one, so that workers do not wait for each other. One may be negative; the sum is true.
SHARDS = 16

#: (definition, version, state, status).
CounterKey = tuple[str, int, str, str]


def deltas(opened: Sequence[Order], moved: Sequence[tuple[Order, int]], before: Mapping[str, Order]) -> dict[CounterKey, int]:
    """By how much each counter changes; unchanged ones are left out."""
    changed: Counter[CounterKey] = Counter(key_of(order) for order in opened)
    for order, _ in moved:
        changed[key_of(order)] += 1
        changed[key_of(before[order.order_id])] -= 1
    return {key: n for key, n in changed.items() if n}


def key_of(order: Order) -> CounterKey:
    """Where an order is counted."""
    return order.definition, order.version, order.state, order.status


def add(connection: sa.Connection, changed: Mapping[CounterKey, int], shard: int) -> None:
    """Add to the counters of a shard, in key order: the last statement of a transaction, as these rows are shared."""
    if changed:
        rows = [
            {"definition": definition, "version": version, "state": state, "status": status, "shard": shard % SHARDS, "n": n}
            for (definition, version, state, status), n in sorted(changed.items())
        ]
        connection.execute(_add_statement(of(connection)), rows)


def sums(connection: sa.Connection) -> dict[CounterKey, int]:
    """Orders by counter; zeros are left out."""
    c = counters.c
    return _sums(connection, c.definition, c.version, c.state, c.status)


def counted(connection: sa.Connection) -> dict[CounterKey, int]:
    """Orders by counter as their rows say: a walk over all of them."""
    o = orders.c
    key = (o.definition, o.version, o.state, o.status)
    return {tuple(key): n for *key, n in connection.execute(sa.select(*key, sa.func.count()).group_by(*key))}


def reset(connection: sa.Connection) -> bool:
    """Make the counters say what the orders' rows say; whether they did not. No order may move meanwhile."""
    right = counted(connection)
    if sums(connection) == right:
        return False
    connection.execute(sa.delete(counters))
    add(connection, right, 0)
    return True


def correct(connection: sa.Connection, keys: Collection[CounterKey], shard: int) -> None:
    """Make these counters say what the orders' rows say, while others move: row and counter of a move are seen together, or neither."""
    wrong = {}
    for key in keys:
        # One statement, so one state of the database.
        kept = sa.select(sa.func.coalesce(sa.func.sum(counters.c.n), 0)).where(*_is(counters, key)).scalar_subquery()
        rows = sa.select(sa.func.count()).select_from(orders).where(*_is(orders, key)).scalar_subquery()
        said, there = connection.execute(sa.select(kept, rows)).one()
        if there != said:
            wrong[key] = int(there - said)
    add(connection, wrong, shard)


def by_status(connection: sa.Connection) -> dict[tuple[str, str, str], int]:
    """(definition, state, status) → orders of all its versions; zeros are left out."""
    c = counters.c
    return _sums(connection, c.definition, c.state, c.status)


def open_by_version(connection: sa.Connection, definitions: Collection[str]) -> dict[tuple[str, int], int]:
    """(definition, version) → orders that have not ended, of these definitions; zeros are left out."""
    c = counters.c
    return _sums(connection, c.definition, c.version, where=[c.definition.in_(definitions), c.status.in_(OPEN_STATUSES)])


def _is(table: sa.Table, key: CounterKey) -> list[sa.ColumnElement[bool]]:
    names = ("definition", "version", "state", "status")
    return [table.c[name] == value for name, value in zip(names, key, strict=True)]


def _sums(connection: sa.Connection, *by: sa.Column[Any], where: Collection[sa.ColumnElement[bool]] = ()) -> dict[Any, int]:
    """The values of the columns `by` → orders."""
    statement = sa.select(*by, sa.func.sum(counters.c.n)).where(*where).group_by(*by)
    return {tuple(key): int(n) for *key, n in connection.execute(statement) if n}


@cache
def _add_statement(dialect: Dialect) -> Any:
    insert = dialect.insert(counters)
    return insert.on_conflict_do_update(
        index_elements=list(counters.primary_key),
        set_={"n": counters.c.n + insert.excluded.n},
    )
