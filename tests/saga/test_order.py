"""An order and its document are each other's inverse, and what is no document of an order is no order."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.fold import fold
from orchestrator.saga.order import Order, from_document, to_document
from tests.golden.corpus import CORPUS, decode_file

ORDERS: list[Order] = [fold(journal) for file in sorted(CORPUS.glob("*.jsonl")) for journal in decode_file(file.read_bytes())[1]]


def stored(order: Order) -> Any:
    """Its document, as it comes back from the database: names sorted."""
    return canonical.load(canonical.encode(to_document(order)))


def test_an_order_comes_back_from_its_document_with_its_asks_in_order_of_asking() -> None:
    """If it failed, an order would change by being stored; or what it did last would not be undone first."""
    assert any([*order.asks] != sorted(order.asks) for order in ORDERS)
    for order in ORDERS:
        again = from_document(stored(order))
        assert again == order
        assert [*again.asks] == [*order.asks] == [ask.key for ask in sorted(order.asks.values(), key=lambda ask: ask.position)]


@pytest.mark.parametrize("change", [{"fields": {}}, {"asks": {"a": {}}}, {"asks": []}, {"turns": {"loop": "x"}}, {"deadlines": None}])
def test_what_is_no_document_of_an_order_is_refused(change: dict[str, object]) -> None:
    """If it failed, a damaged row would stop the worker that reads it, and with it every order beside it."""
    documents: list[dict[str, Any]] = [{}, stored(ORDERS[0]) | change]
    for document in documents:
        with pytest.raises(InvariantViolated, match="cannot be read as that of an order"):
            from_document(document)
