"""The acts: each verb sends what the fixed contract names."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from orchestrator.cli.acts import VERBS
from orchestrator.saga.inputs import ActName
from orchestrator.web.api import acts as web_acts
from tests.cli.kit import PLAN, Api, Escrow

RESOURCES = {verb.name: verb.resource for verb in VERBS}
CASES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("force", ["taking_payment"], {"to": "taking_payment"}),
    ("retry", [], {}),
    ("abort", [], {}),
    ("hold", [], {}),
    ("hold", ["--until", "+2h"], {"until": "2026-11-21T14:00:00Z"}),
    ("hold", ["--until", "2026-11-21T20:00:00+02:00"], {"until": "2026-11-21T18:00:00Z"}),
    ("release", [], {}),
    ("skip", ["email_invoice"], {"step": "email_invoice"}),
    ("confirm", ["reserve_inventory"], {"step": "reserve_inventory"}),
    ("deadline", ["patience", "+90s"], {"name": "patience", "due_at": "2026-11-21T12:01:30Z"}),
    ("abandon", [], {}),
    ("migrate", ["2", "--map", "a=b", "--map", "c=d"], {"version": 2, "steps": {"a": "b", "c": "d"}}),
    ("migrate", ["2"], {"version": 2}),
]


@pytest.mark.parametrize(("verb", "arguments", "body"), CASES)
def test_a_verb_sends_its_act(api: Api, escrow: Escrow, verb: str, arguments: list[str], body: dict[str, Any]) -> None:
    """A verb whose path, If-Match or body differs from the fixed contract would be refused by every API."""
    path = f"/v1/admin/orders/order-1/{RESOURCES[verb]}"
    api.on("POST", path, PLAN)

    result = escrow("order", verb, "order-1", *arguments, "--reason", "Ticket 4711")

    assert result.exit_code == 0, result.stderr
    assert [("GET", "/v1/orders/order-1"), ("POST", path)] == [(r.method, r.url.path) for r in api.requests]
    assert api.last.headers["If-Match"] == '"7"'
    assert {**body, "reason": "Ticket 4711", "dry_run": False} == api.last_body
    assert api.last.headers["Authorization"] == "Bearer escrow_secret-token"


def test_every_act_has_a_verb() -> None:
    """An act of the API without a verb could not be done from the command line."""
    assert set(get_args(ActName)) == set(RESOURCES)


def test_the_resources_are_those_of_the_api() -> None:
    """The mapping of verbs to addresses would not be the API's."""
    assert {route.act: route.path for route in web_acts.ACTS} == RESOURCES


def test_if_match_is_sent_as_given(api: Api, escrow: Escrow) -> None:
    """An operator's act on the order as it was seen would be done on whatever it has become."""
    api.on("POST", "/v1/admin/orders/order-1/retries", PLAN)

    escrow("order", "retry", "order-1", "--reason", "x", "--if-match", "5")

    assert len(api.requests) == 1
    assert api.last.headers["If-Match"] == '"5"'


def test_a_dry_run_is_asked_for_and_shown(api: Api, escrow: Escrow) -> None:
    """A dry run that is not sent as one would act; a plan not shown would be no plan."""
    api.on("POST", "/v1/admin/orders/order-1/aborts", {**PLAN, "dry_run": True})

    result = escrow("order", "abort", "order-1", "--reason", "x", "--dry-run")

    assert api.last_body["dry_run"] is True
    assert "would be undoing: taking_payment → undoing_take_payment, seq 8" in result.stdout
    assert "RefundPayment" in result.stdout
    assert "patience" in result.stdout
    assert "secret" not in result.stdout


def test_json_is_the_plan_untouched(api: Api, escrow: Escrow) -> None:
    """A program reading the plan would not find the API's shape."""
    api.on("POST", "/v1/admin/orders/order-1/aborts", PLAN)

    result = escrow("order", "abort", "order-1", "--reason", "x", "-o", "json")

    assert json.loads(result.stdout) == PLAN


@pytest.mark.parametrize(
    "arguments",
    [
        ["abort", "order-1"],
        ["abort", "order-1", "--reason", "  "],
        ["force", "order-1", "--reason", "x"],
        ["hold", "order-1", "--reason", "x", "--until", "tomorrow"],
        ["hold", "order-1", "--reason", "x", "--until", "2026-11-21T18:00:00"],
        ["hold", "order-1", "--reason", "x", "--until", "+9999999999d"],
        ["deadline", "order-1", "patience", "+", "--reason", "x"],
        ["abort", "order 1", "--reason", "x"],
        ["abort", "order-1", "--reason", "x", "--if-match", "-1"],
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(api: Api, escrow: Escrow, arguments: list[str]) -> None:
    """An act with a bad argument would reach the order."""
    result = escrow("order", *arguments)

    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert all(request.method == "GET" for request in api.requests)


@pytest.mark.parametrize(("status", "code"), [(403, 5), (404, 3), (409, 4), (412, 4), (422, 2), (428, 2), (500, 70), (503, 6)])
def test_a_refused_act_is_one_line_and_its_code(api: Api, escrow: Escrow, status: int, code: int) -> None:
    """A script could not tell why an act was refused, or a person would read a traceback."""
    api.problem("POST", "/v1/admin/orders/order-1/aborts", status, detail="The pivot was asked.", next="Read the order.")

    result = escrow("order", "abort", "order-1", "--reason", "x")

    assert code == result.exit_code
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("escrow: It cannot be done: The pivot was asked.")
    assert result.stdout == ""


def test_an_order_that_is_a_dot_keeps_its_path(api: Api, escrow: Escrow) -> None:
    """The order `..` (a valid id) would address the list of all orders."""
    escrow("order", "show", "..")

    assert api.last.url.raw_path == b"/v1/orders/%2E%2E"
