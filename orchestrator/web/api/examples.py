"""The examples of the OpenAPI document. The tests check each against its model."""

from __future__ import annotations

from typing import Any

from orchestrator.web.problems import Kind

PLACE = {
    "definition": "order",
    "order_id": "order-8412",
    "data": {
        "lines": [{"sku": "TEA-1", "quantity": 2}],
        "amount_minor": 1980,
        "currency": "EUR",
        "customer_email": "ada@example.org",
    },
}
WAIT = {
    "participant": "inventory",
    "step": "reserve_inventory",
    "for": "InventoryReserved",
    "since": "2026-11-21T02:41:07.125000Z",
    "attempts": 2,
    "deadline_at": "2026-11-21T02:42:12.250000Z",
}
ORDER: dict[str, Any] = {
    "order_id": "order-8412",
    "definition": "order",
    "version": 1,
    "state": "reserving_inventory",
    "status": "running",
    "seq": 4,
    "epoch": 0,
    "waiting_on": [WAIT],
    "parked": [],
    "deadline_at": "2026-11-21T02:42:12.250000Z",
    "attempts": 2,
    "cause": None,
    "labels": {"region": "eu"},
    "opened_at": "2026-11-21T02:41:07.125000Z",
    "updated_at": "2026-11-21T02:41:42.250000Z",
    "allowed_acts": ["force", "retry", "abort", "hold", "skip", "deadline"],
}
THEN: dict[str, Any] = {
    "order_id": "order-8412",
    "seq": 4,
    "at": "2026-11-21T02:41:42.250000Z",
    "order": {**ORDER, "allowed_acts": []},
    "ledger": [
        {
            "ask": "reserve_inventory.0.1",
            "step": "reserve_inventory",
            "participant": "inventory",
            "epoch": 0,
            "round": 1,
            "command_id": "0b0f5d5e-3f0e-5a3e-9a43-3d1c6a2f6c11",
            "forward": "asked",
            "undo": "none",
            "attempts": 2,
            "undo_attempts": 0,
            "since": "2026-11-21T02:41:07.125000Z",
        }
    ],
    "deadlines": [
        {
            "name": "reply:reserve_inventory.0.1",
            "due_at": "2026-11-21T02:42:12.250000Z",
            "remaining_ms": None,
            "armed_at": "2026-11-21T02:41:42.250000Z",
            "participant": "inventory",
        }
    ],
    "outstanding": [
        {
            "ask": "reserve_inventory.0.1",
            "participant": "inventory",
            "is_undo": False,
            "command": "ReserveInventory",
            "command_id": "0b0f5d5e-3f0e-5a3e-9a43-3d1c6a2f6c11",
            "attempts": 2,
            "since": "2026-11-21T02:41:07.125000Z",
        }
    ],
}
ORDERS = {"items": [ORDER], "next_cursor": "MjAyNi0xMS0yMVQwMjo0MQ"}
HISTORY = {
    "items": [
        {
            "seq": 2,
            "at": "2026-11-21T02:41:37.130000Z",
            "kind": "deadline",
            "name": "reply:reserve_inventory.0.1",
            "verdict": "moved",
            "from_state": "reserving_inventory",
            "to_state": "reserving_inventory",
            "actor": None,
            "reason": None,
            "effects": {},
        }
    ],
    "next_cursor": "2",
}
GRAPH: dict[str, Any] = {
    "order_id": "order-8412",
    "definition": "order",
    "version": 1,
    "current": "taking_payment",
    "visited": ["reserving_inventory"],
    "possible": ["emailing_invoice", "undoing_reserve_inventory", "undoing_take_payment"],
    "mermaid": "stateDiagram-v2\n    [*] --> reserving_inventory: OrderPlaced\n",
}
REGISTERED: dict[str, Any] = {
    "name": "order",
    "version": 1,
    "opens_on": "OrderPlaced",
    "is_opener": True,
    "open_orders": 12,
    "fingerprint": "b9c3a3c1c2b3f0d0b9c3a3c1c2b3f0d0b9c3a3c1c2b3f0d0b9c3a3c1c2b3f0d0",
    "registered_at": "2026-11-20T09:00:00.000000Z",
}
DEFINITIONS = {"items": [REGISTERED], "next_cursor": None}
DEFINITION = {
    **REGISTERED,
    "document": {"definition": "order", "version": 1, "opens_on": "OrderPlaced", "key": "order_id", "patience": "30m"},
    "expanded": {"definition": "order", "version": 1, "opens_on": "OrderPlaced", "key": "order_id", "patience_ms": 1_800_000},
}
PLAN = {
    "dry_run": True,
    "from_state": "reserving_inventory",
    "to_state": "undoing_reserve_inventory",
    "status": "undoing",
    "seq": 5,
    "commands": [{"participant": "inventory", "name": "ReleaseInventory", "attempt": 1}],
    "deadlines_armed": [{"name": "undo_reply:reserve_inventory.0.1", "due_at": "2026-11-21T02:43:07.125000Z"}],
    "deadlines_disarmed": ["patience", "reply:reserve_inventory.0.1"],
    "undos_skipped": [],
    "left_standing": [],
}
QUARANTINED: dict[str, Any] = {
    "quarantine_id": "0f4a4a52-5f9c-4c25-9d0a-2f0c7d1d5a10",
    "reason": "wrong_source",
    "detail": "wrong_source: the step reserve_inventory asked inventory, and payment answered.",
    "source": "payment",
    "message_id": "7f1c0a0e-0f1b-4a55-8f53-3b8f2f5f3e11",
    "type": "InventoryReserved",
    "order_id": "order-8412",
    "count": 1,
    "first_at": "2026-11-21T02:41:37.130000Z",
    "last_at": "2026-11-21T02:41:37.130000Z",
    "resolution": None,
    "resolved_by": None,
    "resolved_at": None,
    "resolved_reason": None,
}
QUARANTINE = {"items": [QUARANTINED], "next_cursor": None}
MESSAGE = {**QUARANTINED, "content_type": "application/cloudevents+json", "headers": {}, "body": '{"specversion":"1.0"}'}
PARTICIPANT: dict[str, Any] = {
    "name": "inventory",
    "state": "silent",
    "since": "2026-11-21T02:42:00.000000Z",
    "heard_at": "2026-11-21T02:41:20.000000Z",
    "recovered_at": None,
    "held": 812,
    "overdue": 95,
    "rate_per_s": 0.0,
    "resync_under_way": False,
}
PARTICIPANTS = {"items": [PARTICIPANT], "next_cursor": None}
REPLAY = {"quarantine_id": QUARANTINED["quarantine_id"], "verdict": "moved", "reason": None}
HEALTH = {"status": "ok"}
METRICS = 'escrow_orders{definition="order",state="completed",status="completed"} 3\n'
READY = {"status": "ready", "checks": {"database": True, "broker": False, "ticking": True}}


def problem(kind: Kind) -> dict[str, Any]:
    """One problem of a kind, as it is answered."""
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.when,
        "instance": "/v1/orders/order-8412",
        "code": kind.code,
        "retryable": kind.retryable,
        "next": kind.next,
    }


def entry_of_catalogue(kind: Kind) -> dict[str, Any]:
    """What `GET /problems/{code}` says."""
    return {
        "type": kind.type,
        "code": kind.code,
        "status": kind.status,
        "title": kind.title,
        "when": kind.when,
        "next": kind.next,
        "retryable": kind.retryable,
    }
