"""A sketch of an order: as much of it as its rows are made of, read from its document at a fifth of the cost of the whole.

It answers what the rows ask with the order's own properties, so what an order's status is, and whom it waits for, is said in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import msgspec

from orchestrator.saga.order import Ask, Deadline, Order


class _Ask(msgspec.Struct, gc=False):
    participant: str
    position: int
    forward: str
    undo: str
    attempts: int
    undo_attempts: int
    alarm: bool

    is_open = Ask.is_open
    is_awaited = Ask.is_awaited
    undo_is_open = Ask.undo_is_open


class _Sketch(msgspec.Struct):
    order_id: str
    definition: str
    version: int
    state: str
    direction: str
    seq: int
    epoch: int
    opened_at: datetime
    updated_at: datetime
    state_entered_at: datetime
    cause: str | None
    held: bool
    labels: dict[str, str]
    asks: dict[str, _Ask]
    deadlines: dict[str, Deadline]
    outcome: str | None = None
    parked: dict[str, Any] = {}

    status = Order.status
    next_due_at = Order.next_due_at


def sketch(document: Mapping[str, Any]) -> Order:
    """The order that a document of the house holds, for its rows: without data, replies, and all of its asks that no row shows."""
    asks = document["asks"]
    if len(asks) > 1:
        asks = dict(sorted(asks.items(), key=_position))
    made = msgspec.convert({**document["fields"], **document, "asks": asks}, _Sketch)
    return cast(Order, made)


def _position(item: tuple[str, Any]) -> int:
    place: int = item[1]["position"]
    return place
