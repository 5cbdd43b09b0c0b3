"""The list by a version of a definition, and the indexes that lists of open orders walk, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.saga.order import Order
from orchestrator.store import orders
from orchestrator.store.queries import Queries
from tests.store.conftest import World, explained

Put = Callable[..., Order]

#: Filters beside the version → the index that gives the page, in its order.
INDEXES: list[tuple[dict[str, Any], str]] = [
    ({}, "ix_orders_definition_version_opened_at_order_id"),
    ({"status": "running"}, "ix_orders_open_version"),
    ({"status": "held"}, "ix_orders_open_version"),
]


def test_a_version_is_one_of_its_definition(world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, a migration would move orders that run on other rules."""
    put(world.order("one"))
    put(replace(world.order("two"), version=2))
    put(replace(world.order("held"), version=2, held=True))
    put(replace(world.order("done", state="completed"), version=2, direction="ended", asks={}, deadlines={}))
    put(replace(world.order("other"), definition="other", version=2))

    def found(**filters: Any) -> list[str]:
        return sorted(order.order_id for order in Queries(engine).orders(**filters)[0])

    assert found(definition="order", version=2) == ["done", "held", "two"]
    assert found(definition="order", version=2, status="running") == ["two"]
    assert found(definition="order", version=2, status="completed") == ["done"]
    assert found(definition="order", version=2, waiting_on="inventory") == ["held", "two"]
    assert found(definition="other", version=2) == ["other"]
    assert found(definition="order", version=3) == []


@pytest.mark.parametrize("status", [None, "running"])
def test_pages_of_a_version_have_every_order_once_in_order(world: World, put: Put, engine: sa.Engine, status: str | None) -> None:
    """If this failed, orders would be missing between pages, above all those opened at the same instant."""
    for number in range(14):
        put(replace(world.order(f"o{number:02}", opened_ago_s=number // 4), version=1 + number % 2))
    queries = Queries(engine)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page, cursor = queries.orders(definition="order", version=2, status=status, after=cursor, limit=2)
        seen += [order.order_id for order in page]
    assert seen == ["o03", "o01", "o07", "o05", "o11", "o09", "o13"]
    assert cursor is None


@pytest.mark.parametrize(("filters", "index"), INDEXES, ids=str)
@pytest.mark.parametrize("is_first", [True, False], ids=["first page", "next page"])
def test_the_list_of_a_version_walks_its_index(
    world: World, engine: sa.Engine, filters: dict[str, Any], index: str, *, is_first: bool
) -> None:
    """If this failed, a page of an old version would read every order that was opened since."""
    made = [replace(world.order(f"o{number:04}", opened_ago_s=number), version=1 + (number < 1_500)) for number in range(2_000)]
    made += [replace(order, order_id=f"ended-{order.order_id}", direction="ended", state="completed") for order in made]
    made += [replace(order, order_id=f"held-{order.order_id}", held=True) for order in made[:2_000:10]]
    with engine.begin() as connection:
        orders.insert(connection, made)
        connection.execute(sa.text("ANALYZE"))
    queries = Queries(engine)
    cursor = None if is_first else queries.orders(definition="order", version=1, limit=10, **filters)[1]
    plan = explained(engine, lambda: queries.orders(definition="order", version=1, limit=10, after=cursor, **filters))
    assert index in plan
    assert "Filter" not in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_the_list_of_what_waits_walks_the_open_orders(world: World, engine: sa.Engine) -> None:
    """If this failed, a list of overdue orders would read every order that has ended."""
    made = [replace(world.order(f"o{number:04}", opened_ago_s=number), direction="ended", state="completed") for number in range(2_000)]
    made += [world.order(f"waits-{number}", opened_ago_s=number) for number in range(50)]
    with engine.begin() as connection:
        orders.insert(connection, made)
        connection.execute(sa.text("ANALYZE"))
    plan = explained(engine, lambda: Queries(engine).orders(overdue=world.now, limit=10))
    assert "ix_orders_open" in plan
