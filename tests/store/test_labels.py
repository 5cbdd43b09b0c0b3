"""The list by labels, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from orchestrator.saga.order import Order
from orchestrator.store import orders
from orchestrator.store.queries import Queries
from tests.store.conftest import World, explained

Put = Callable[..., Order]

LABELS = {
    "eu-1": {"region": "eu", "customer": "7"},
    "eu-2": {"region": "eu", "customer": "8", "vip": "true"},
    "us-1": {"region": "us", "customer": "7"},
    "upper": {"region": "EU"},
    "swapped": {"eu": "region"},
    "none": {},
}


@pytest.fixture
def queries(world: World, put: Put, engine: sa.Engine) -> Queries:
    """The read side, with an order for each of `LABELS`."""
    for order_id, labels in LABELS.items():
        put(replace(world.order(order_id), labels=labels))
    return Queries(engine)


FILTERS: list[tuple[list[tuple[str, str]], list[str]]] = [
    ([("region", "eu")], ["eu-1", "eu-2"]),
    ([("customer", "7")], ["eu-1", "us-1"]),
    ([("region", "eu"), ("customer", "7")], ["eu-1"]),
    ([("customer", "7"), ("region", "eu")], ["eu-1"]),
    ([("region", "eu"), ("customer", "8"), ("vip", "true")], ["eu-2"]),
    ([("region", "eu"), ("region", "eu")], ["eu-1", "eu-2"]),
    ([("region", "eu"), ("region", "us")], []),
    ([("region", "e")], []),
    ([("region", "%")], []),
    ([("nothing", "eu")], []),
]


@pytest.mark.parametrize(("labels", "found"), FILTERS, ids=str)
def test_all_labels_must_match_bytewise(queries: Queries, labels: list[tuple[str, str]], found: list[str]) -> None:
    """If this failed, a list would show other customers' orders, or hide some."""
    listed, cursor = queries.orders(labels=labels)
    assert sorted(order.order_id for order in listed) == found
    assert cursor is None
    assert {order.order_id: order.labels for order in listed} == {order_id: LABELS[order_id] for order_id in found}


def test_labels_go_with_the_other_filters(queries: Queries, world: World, put: Put) -> None:
    """If this failed, one filter would switch another off."""
    put(replace(world.order("held", state="elsewhere", due_in_s=-5), labels={"region": "eu"}))
    eu = [("region", "eu")]
    assert [order.order_id for order in queries.orders(labels=eu, state="elsewhere")[0]] == ["held"]
    assert [order.order_id for order in queries.orders(labels=eu, overdue=world.now)[0]] == ["held"]
    assert len(queries.orders(labels=eu, waiting_on="inventory", status="running", definition="order")[0]) == 3
    assert queries.orders(labels=eu, status="completed")[0] == []


@pytest.mark.parametrize("labels", [[("region", "eu")], [("region", "eu"), ("vip", "true")]], ids=["one", "two"])
def test_pages_of_a_label_have_every_order_once_in_order(world: World, put: Put, engine: sa.Engine, labels: list[tuple[str, str]]) -> None:
    """If this failed, orders would be missing between pages, above all those opened at the same instant."""
    for number in range(14):
        wanted = {"region": "eu", "vip": "true"} if number % 2 else {"region": "us", "vip": "true"}
        put(replace(world.order(f"o{number:02}", opened_ago_s=number // 4), labels=wanted))
    queries = Queries(engine)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page, cursor = queries.orders(labels=labels, after=cursor, limit=2)
        seen += [order.order_id for order in page]
    assert seen == ["o03", "o01", "o07", "o05", "o11", "o09", "o13"]
    assert cursor is None


def test_the_list_by_a_label_walks_its_index(world: World, engine: sa.Engine) -> None:
    """If this failed, the list by a label would read, and sort, every order that ever had it."""
    made = [replace(world.order(f"o{number}", opened_ago_s=number), labels={"region": "eu"}) for number in range(2_000)]
    with engine.begin() as connection:
        orders.insert(connection, made)
        connection.execute(sa.text("ANALYZE"))
    plan = explained(engine, lambda: Queries(engine).orders(labels=[("region", "eu")], limit=10))
    assert "ix_order_labels_name_value_opened_at_order_id" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
