"""`escrow definition migrate`: every order in flight of a version, one act each, and a report of what could not be moved."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.cli.kit import ORDER, PLAN, Api, Escrow

ARGUMENTS = ("definition", "migrate", "order", "--from", "1", "--to", "2", "--map", "take_payment=charge", "--reason", "release 2")


EMPTY: dict[str, Any] = {"items": [], "next_cursor": None}


def page(*order_ids: str, cursor: str | None = None) -> dict[str, Any]:
    """A page of orders in flight of the old version."""
    return {"items": [{**ORDER, "order_id": order_id} for order_id in order_ids], "next_cursor": cursor}


def test_only_the_orders_in_flight_of_the_old_version_are_asked_for(api: Api, escrow: Escrow) -> None:
    """Else every order of the definition is read to find those few, and ended ones are refused by the hundred."""
    api.on("GET", "/v1/orders", EMPTY)

    result = escrow(*ARGUMENTS)

    assert result.exit_code == 0, result.stderr
    common = {"definition": "order", "version": "1", "limit": "200"}
    asked = [dict(request.url.params) for request in api.requests]
    assert asked == [{**common, "status": status} for status in ("running", "undoing", "stuck", "held")]


def test_the_orders_of_a_page_are_moved_before_the_next_is_asked_for(api: Api, escrow: Escrow) -> None:
    """Else a million orders are held in memory, each older than it looks when its turn comes."""
    api.series("GET", "/v1/orders", page("order-1", "order-2", cursor="c"), page("order-3"), EMPTY)
    for number in (1, 2, 3):
        api.on("POST", f"/v1/admin/orders/order-{number}/migrations", PLAN)

    result = escrow(*ARGUMENTS, "-o", "json")

    assert (result.exit_code, json.loads(result.stdout)["moved"]) == (0, 3)
    done = [request.url.params.get("cursor") if request.method == "GET" else request.url.path.split("/")[4] for request in api.requests[:5]]
    assert done == [None, "order-1", "order-2", "c", "order-3"]


def test_an_order_that_is_listed_again_is_reported_once_as_it_ended(api: Api, escrow: Escrow) -> None:
    """Else an order whose status changes meanwhile is counted twice, once as left behind."""
    api.series("GET", "/v1/orders", page("order-1"), page("order-1"), EMPTY)
    refusal = {"title": "x", "status": 409, "detail": "Its answer would not be understood."}
    answers = [httpx.Response(409, json=refusal), httpx.Response(200, json=PLAN)]
    api.answers["POST", "/v1/admin/orders/order-1/migrations"] = lambda _: answers.pop(0)

    report = json.loads(escrow(*ARGUMENTS, "-o", "json").stdout)

    assert (report["moved"], report["refused"], len(report["items"])) == (1, 0, 1)


def test_each_order_is_moved_as_it_was_seen(api: Api, escrow: Escrow) -> None:
    """Else one that has moved on meanwhile is moved unseen."""
    api.series("GET", "/v1/orders", page("order-1"), EMPTY)
    api.on("POST", "/v1/admin/orders/order-1/migrations", PLAN)

    result = escrow(*ARGUMENTS, "-o", "json")

    assert result.exit_code == 0, result.stderr
    [sent] = [request for request in api.requests if request.method == "POST"]
    assert (json.loads(result.stdout)["moved"], sent.headers["If-Match"]) == (1, '"7"')
    assert json.loads(sent.content) == {"version": 2, "steps": {"take_payment": "charge"}, "reason": "release 2", "dry_run": False}


def test_what_cannot_be_moved_is_reported_and_the_others_are_moved(api: Api, escrow: Escrow) -> None:
    """Else one order that cannot be moved stops all, or is not noticed."""
    api.series("GET", "/v1/orders", page("order-1", "order-2"), EMPTY)
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
