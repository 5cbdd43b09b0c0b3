"""`escrow order at`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.web.problems import CATALOGUE
from tests.cli.kit import ORDER, Api, Escrow

THEN: dict[str, Any] = {
    "order_id": "order-1",
    "seq": 7,
    "at": "2026-11-21T11:59:00Z",
    "order": {**ORDER, "allowed_acts": []},
    "ledger": [
        {
            "ask": "take_payment.0.1",
            "step": "take_payment",
            "participant": "payment",
            "epoch": 0,
            "round": 1,
            "command_id": "c-1",
            "forward": "asked",
            "undo": "none",
            "attempts": 2,
            "undo_attempts": 0,
            "since": "2026-11-21T11:59:00Z",
        }
    ],
    "deadlines": [{"name": "patience", "due_at": None, "remaining_ms": 90_500, "armed_at": "2026-11-21T11:58:00Z", "participant": None}],
    "outstanding": [
        {
            "ask": "take_payment.0.1",
            "participant": "payment",
            "is_undo": False,
            "command": "TakePayment",
            "command_id": "c-1",
            "attempts": 2,
            "since": "2026-11-21T11:59:00Z",
        }
    ],
}


def test_it_shows_state_ledger_deadlines_and_what_was_outstanding(api: Api, escrow: Escrow) -> None:
    """An operator would see a part of what stood then."""
    api.on("GET", "/v1/orders/order-1/at/7", THEN)
    shown = escrow("order", "at", "order-1", "7").stdout
    for part in ("After entry 7", "taking_payment", "take_payment.0.1", "c-1", "patience", "90.5 s", "TakePayment"):
        assert part in shown, part
    assert json.loads(escrow("order", "at", "order-1", "7", "-o", "json").stdout) == THEN


def test_a_time_is_sent_in_utc(api: Api, escrow: Escrow) -> None:
    """A time in the operator's zone would be read as another."""
    api.on("GET", "/v1/orders/order-1/at/2026-11-21T11:00:00Z", THEN)
    assert escrow("order", "at", "order-1", "2026-11-21T12:00:00+01:00").exit_code == 0


def test_a_damaged_history_is_told_with_what_mends_it(api: Api, escrow: Escrow) -> None:
    """An operator would report a bug, and go on without the history."""
    kind = CATALOGUE["journal_damaged"]
    said = {"title": kind.title, "code": kind.code, "detail": "order-1: entry 2 was altered after it was written.", "next": kind.next}
    api.problem("GET", "/v1/orders/order-1/at/7", kind.status, **said, order_id="order-1", seq=2)
    result = escrow("order", "at", "order-1", "7")
    assert (result.exit_code, result.stdout) == (1, "")
    for part in ("The history of this order is damaged", "entry 2 was altered", "escrow verify", "from a backup"):
        assert part in result.stderr, part


@pytest.mark.parametrize("moment", ["yesterday", "2026-11-21T12:00:00", "1.5"])
def test_what_is_no_moment_is_not_sent(api: Api, escrow: Escrow, moment: str) -> None:
    """A slip would come back as a problem of the API, in the API's words."""
    result = escrow("order", "at", "order-1", moment)
    assert (result.exit_code, api.requests) == (2, [])
    assert "neither an entry of its history" in result.stderr


def test_a_fix_of_its_own_is_the_only_one(api: Api, escrow: Escrow) -> None:
    """Two fixes would contradict each other: that of the order's time, and that of every address that is not found."""
    kind = CATALOGUE["not_found"]
    detail = "The order order-1 was not open at noon: it was opened at one. Fix: give that time or a later one."
    said = {"title": kind.title, "code": kind.code, "detail": detail, "next": kind.next}
    api.problem("GET", "/v1/orders/order-1/at/1", kind.status, **said)
    result = escrow("order", "at", "order-1", "1")
    assert result.exit_code == 3
    assert result.stderr.rstrip().endswith("Fix: give that time or a later one.")
