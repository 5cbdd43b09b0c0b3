"""A sketch of an order: as much of it as its rows are made of, read from its document at a tenth of the cost of the whole.

It answers what the rows ask with the order's own properties, so what an order's status is, and whom it waits for, is said in one place.
"""

from __future__ import annotations

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
    """The fields of a document; its other parts are put beside them."""

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
    outcome: str | None = None
    labels: dict[str, str] = {}
    asks: dict[str, _Ask] = {}
    deadlines: dict[str, Deadline] = {}
    parked: dict[str, Any] = {}

    status = Order.status
    next_due_at = Order.next_due_at


class _Document(msgspec.Struct):
    fields: _Sketch
    labels: dict[str, str]
    asks: dict[str, _Ask]
    deadlines: dict[str, Deadline]
    parked: dict[str, Any] = {}


_load = msgspec.json.Decoder(_Document).decode


def sketch(document: bytes) -> Order:
    """The order that a canonical document holds, for its rows: without data, replies, and all of its asks that no row shows."""
    parts = _load(document)
    made = parts.fields
    made.labels, made.asks, made.deadlines, made.parked = parts.labels, parts.asks, parts.deadlines, parts.parked
    if len(made.asks) > 1:
        made.asks = dict(sorted(made.asks.items(), key=_position))
    return cast(Order, made)


def _position(item: tuple[str, _Ask]) -> int:
    return item[1].position
