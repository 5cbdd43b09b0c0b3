"""Counters of orders by definition, state and status: kept in the transaction of the change, so they are never stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.saga.order import Order
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import counters

#: Fixed: each worker adds to one, so that workers do not wait for each other. One may be negative; the sum is true.
SHARDS = 16

CounterKey = tuple[str, str, str]


def deltas(opened: Sequence[Order], moved: Sequence[tuple[Order, int]], before: Mapping[str, Order]) -> dict[CounterKey, int]:
    """By how much each (definition, state, status) changes; unchanged ones are left out."""
    changed: Counter[CounterKey] = Counter(key_of(order) for order in opened)
    for order, _ in moved:
        changed[key_of(order)] += 1
        changed[key_of(before[order.order_id])] -= 1
    return {key: n for key, n in changed.items() if n}


def key_of(order: Order) -> CounterKey:
    """Where an order is counted."""
    return order.definition, order.state, order.status


def add(connection: sa.Connection, changed: Mapping[CounterKey, int], shard: int) -> None:
    """Add to the counters of a shard, in key order: the last statement of a transaction, as these rows are shared."""
    if changed:
        rows = [
            {"definition": definition, "state": state, "status": status, "shard": shard % SHARDS, "n": n}
            for (definition, state, status), n in sorted(changed.items())
        ]
        connection.execute(_add_statement(of(connection)), rows)


def sums(connection: sa.Connection) -> dict[CounterKey, int]:
    """(definition, state, status) → orders; zeros are left out."""
    c = counters.c
    statement = sa.select(c.definition, c.state, c.status, sa.func.sum(c.n)).group_by(c.definition, c.state, c.status)
    return {(definition, state, status): int(n) for definition, state, status, n in connection.execute(statement) if n}


@cache
def _add_statement(dialect: Dialect) -> Any:
    insert = dialect.insert(counters)
    return insert.on_conflict_do_update(
        index_elements=[counters.c.definition, counters.c.state, counters.c.status, counters.c.shard],
        set_={"n": counters.c.n + insert.excluded.n},
    )
