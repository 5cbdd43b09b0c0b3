"""`escrow definition migrate`: every order in flight of a version, one act each, and a report of what could not be moved."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.kit import ORDER, PLAN, Api, Escrow

ARGUMENTS = ("definition", "migrate", "order", "--from", "1", "--to", "2", "--map", "take_payment=charge", "--reason", "release 2")


def orders(api: Api, *versions: int) -> None:
    """Orders in flight, of these versions; the list is asked once for each status."""
    items = [{**ORDER, "order_id": f"order-{number}", "version": version} for number, version in enumerate(versions, start=1)]
    empty: dict[str, Any] = {"items": [], "next_cursor": None}
    api.series("GET", "/v1/orders", {"items": items, "next_cursor": None}, empty)


def test_only_the_orders_of_the_old_version_are_moved_each_as_it_was_seen(api: Api, escrow: Escrow) -> None:
    """Else an order is moved twice, or one that has moved on meanwhile."""
    orders(api, 1, 2)
    api.on("POST", "/v1/admin/orders/order-1/migrations", PLAN)

    result = escrow(*ARGUMENTS, "-o", "json")

    assert result.exit_code == 0, result.stderr
    assert (json.loads(result.stdout)["moved"], api.last.headers["If-Match"]) == (1, '"7"')
    assert api.last_body == {"version": 2, "steps": {"take_payment": "charge"}, "reason": "release 2", "dry_run": False}


def test_what_cannot_be_moved_is_reported_and_the_others_are_moved(api: Api, escrow: Escrow) -> None:
    """Else one order that cannot be moved stops all, or is not noticed."""
    orders(api, 1, 1)
    api.problem("POST", "/v1/admin/orders/order-1/migrations", 409, detail="Its answer would not be understood.")
    api.on("POST", "/v1/admin/orders/order-2/migrations", PLAN)

    result = escrow(*ARGUMENTS)

    assert result.exit_code == 1
    assert "Its answer would not be understood." in result.stdout
    assert "1 are of version 2; 1 cannot be moved." in result.stdout


def test_a_pair_that_is_none_is_refused_before_anything_is_moved(api: Api, escrow: Escrow) -> None:
    """Else half of the orders are moved under wrong names."""
    result = escrow("definition", "migrate", "order", "--from", "1", "--to", "2", "--map", "take_payment", "--reason", "x")
    assert (result.exit_code, api.requests) == (2, [])
