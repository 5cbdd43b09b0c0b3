"""Whom an order waits for, as its row says it, on both databases: the same as the API's list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.saga.order import Ask, Order
from orchestrator.store.orders import projection
from orchestrator.store.queries import Queries
from tests.store.conftest import World

Put = Callable[..., Order]

#: What the ledger holds beside the ask of inventory → what the row says.
LEDGERS: Mapping[str, tuple[list[dict[str, Any]], tuple[str | None, int]]] = {
    "one": ([{}], ("inventory", 2)),
    "several": ([{}, {"participant": "payment"}], ("inventory payment", 2)),
    "one of them twice": ([{}, {"participant": "payment"}, {}], ("inventory payment", 2)),
    "an operator": ([{"forward": "refused", "alarm": True}], ("operator", 2)),
    "an operator after a late success": ([{"forward": "done", "alarm": True, "undo": "asked"}], ("operator inventory", 2)),
    "a stuck pivot": ([{"alarm": True}], ("inventory", 2)),
    "undos, the last first": (
        [{"forward": "done", "undo": "asked"}, {"participant": "payment", "forward": "unknown", "undo": "failing", "undo_attempts": 5}],
        ("payment inventory", 5),
    ),
    "nobody": ([{"forward": "done", "undo": "undone"}], (None, 0)),
}


def with_asks(order: Order, *changes: dict[str, Any]) -> Order:
    """The order with these asks in its ledger, and no deadline: what a row says of waiting must not hang on one (R5, backoff)."""
    [first] = order.asks.values()
    asks: list[Ask] = [replace(first, round=place + 1, position=place, **change) for place, change in enumerate(changes)]
    goes_forward = any(ask.is_open for ask in asks)
    return replace(order, direction="forward" if goes_forward else "undoing", asks={ask.key: ask for ask in asks}, deadlines={})


@pytest.mark.parametrize("ledger", LEDGERS)
def test_a_row_says_whom_its_order_waits_for(world: World, ledger: str) -> None:
    """If this failed, lists would call other participants than the order itself, or none during a backoff."""
    changes, (waiting_on, attempts) = LEDGERS[ledger]
    row = projection(with_asks(world.order("o"), *changes))
    assert (row["waiting_on"], row["attempts"]) == (waiting_on, attempts)


def test_the_filter_finds_whoever_is_waited_for_and_nobody_else(world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, an operator who asks what waits for a participant would not see all of it, or would see what does not."""
    for name, (changes, _) in LEDGERS.items():
        put(with_asks(world.order(name.replace(" ", "-").replace(",", "")), *changes))
    names = ["a_b", "acb", "A_b", "x-a_b", "a_b-x"]
    for name in names:
        put(with_asks(world.order(f"of-{name}"), {}, {"participant": name}, {"participant": "z"}))
    queries = Queries(engine)

    def found(name: str) -> set[str]:
        return {order.order_id for order in queries.orders(waiting_on=name)[0]}

    assert found("payment") == {"several", "one-of-them-twice", "undos-the-last-first"}
    assert found("operator") == {"an-operator", "an-operator-after-a-late-success"}
    assert found("inventory") >= {"one", "several", "a-stuck-pivot", "an-operator-after-a-late-success", *(f"of-{name}" for name in names)}
    assert {name: found(name) for name in names} == {name: {f"of-{name}"} for name in names}
    assert found("z") == {f"of-{name}" for name in names}
    assert found("pay") == found("entory") == found("%") == set()
