"""What one decision costs, without any service: an order's reply comes in, and the next participant is asked."""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from datetime import UTC, datetime

from orchestrator.contract import Envelope, canonical, command_id
from orchestrator.loading import load_definitions
from orchestrator.saga.decide import decide
from orchestrator.saga.inputs import Message
from orchestrator.saga.rulebook import Rulebook

#: Calls a round, and rounds; the fastest round counts, as the others had something else in their way.
_CALLS, _ROUNDS = 500, 9
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_DATA = {
    "order_id": "order-1",
    "lines": [{"sku": "apple", "quantity": 2}],
    "amount_minor": 500,
    "currency": "EUR",
    "customer_email": "a@b.example",
}


def reference_us() -> float:
    """Microseconds of `json.dumps` of 60 integers: how fast this machine is at this moment, as shared ones swing by a factor of two."""
    return _fastest_us(lambda: json.dumps(list(range(60))))


def decide_us() -> float:
    """Microseconds of one `decide` that asks the next step."""
    rulebook = Rulebook(canonical.load(load_definitions(None)[0].expanded))
    opening = Envelope(id="m-1", source="shop", type="OrderPlaced", subject="order-1", data=_DATA)
    order = decide(rulebook, None, Message(envelope=opening), _NOW).order
    reply = Message(
        envelope=Envelope(
            id="m-2",
            source="inventory",
            type="InventoryReserved",
            subject="order-1",
            data={"reservation_id": "r-1"},
            commandid=command_id("order-1", 0, "reserve_inventory", 1),
        )
    )
    return _fastest_us(lambda: decide(rulebook, order, reply, _NOW))


def _fastest_us(call: Callable[[], object]) -> float:
    return 1e6 * min(timeit.repeat(call, number=_CALLS, repeat=_ROUNDS)) / _CALLS
