"""The ten acts: what they ask for, and what they answer."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestrator.web.api.acts import ACTS, ActRoute
from orchestrator.web.api.models import PlanView
from tests.web.kit import REASON, act, as_role, assert_problem, place
from tests.web.world import World

PATHS = [route.path for route in ACTS]
OPERATOR = as_role("operator", If_Match='"1"')


def test_the_addresses_are_the_fixed_ones() -> None:
    """Outside programs would call addresses that are gone."""
    expected = [
        "transitions",
        "retries",
        "aborts",
        "holds",
        "releases",
        "skips",
        "confirmations",
        "deadlines",
        "abandonments",
        "migrations",
    ]
    assert expected == PATHS


@pytest.mark.parametrize("route", ACTS, ids=PATHS)
def test_each_act_reaches_the_core_and_needs_its_own_fields(api: TestClient, route: ActRoute) -> None:
    """An act would be refused by its form, or do another thing than its name."""
    place(api)
    takes: dict[str, Any] = dict(route.takes) | ({"step": "reserve_inventory"} if "step" in dict(route.takes) else {})
    answer = act(api, route.path, role="admin", **takes)
    assert answer.status_code in {200, 409, 422}, answer.text
    if answer.status_code == 200:
        PlanView.model_validate(answer.json())
        assert answer.headers["etag"] == '"2"'
        history = api.get("/v1/orders/order-1/history", headers=as_role("viewer")).json()["items"]
        assert (history[-1]["name"], history[-1]["actor"]) == (route.act, "the-admin")
    else:
        assert route.act in {"release", "confirm", "migrate"}
        assert_problem(answer, 422 if route.act == "migrate" else 409, "unprocessable" if route.act == "migrate" else "conflict")
    if route.takes and route.act != "hold":
        assert_problem(act(api, route.path, role="admin"), 422, "unprocessable")


@pytest.mark.parametrize("path", PATHS)
def test_without_if_match_it_is_428(api: TestClient, path: str) -> None:
    """An operator would act on an order that is no longer what was seen."""
    place(api)
    answer = api.post(f"/v1/admin/orders/order-1/{path}", json=REASON, headers=as_role("admin"))
    assert_problem(answer, 428, "if_match_required")


@pytest.mark.parametrize("tag", ["1", "*", 'W/"1"', '"one"', '"1", "2"', '"-1"', '""', '"' + "9" * 40 + '"', b'"\xd9\xa1"'])
def test_a_malformed_if_match_is_400(api: TestClient, tag: str | bytes) -> None:
    """A tag that names no seq would be taken for one that does."""
    place(api)
    answer = api.post("/v1/admin/orders/order-1/holds", json=REASON, headers=[*OPERATOR.items(), ("If-Match", tag)])  # type: ignore[arg-type]  # bytes are part of the mischief
    assert_problem(answer, 400, "malformed_request")


def test_a_stale_if_match_is_412_and_nothing_happens(api: TestClient) -> None:
    """Two operators would act on one order without knowing of each other."""
    place(api)
    act(api, "holds", seq=1)
    assert_problem(act(api, "aborts", seq=1), 412, "stale")
    assert api.get("/v1/orders/order-1", headers=as_role("viewer")).json()["seq"] == 2


def test_a_dry_run_says_what_would_happen_and_does_nothing(api: TestClient) -> None:
    """The preview would be the deed."""
    place(api)
    plan = act(api, "aborts", dry_run=True)
    assert plan.json()["to_state"] == "undoing_reserve_inventory"
    assert plan.json()["dry_run"] is True
    assert "etag" not in plan.headers
    assert api.get("/v1/orders/order-1", headers=as_role("viewer")).json()["seq"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 501},
        {"reason": None},
        {"dry_run": "true"},
        {"dry_run": 1},
        {"unknown": 1},
        {"until": "tomorrow"},
        {"until": "2026-11-21T10:00:00"},
        {"until": "0001-01-01T00:00:00+23:00"},
        {"until": 5},
    ],
)
def test_what_an_act_cannot_take_is_422(api: TestClient, change: dict[str, Any]) -> None:
    """An act would be done without reason; or a field that is misspelt, such as dry_run, would be ignored and the act done."""
    place(api)
    problem = assert_problem(act(api, "holds", **change), 422, "unprocessable")
    assert problem["errors"][0]["location"] == next(iter(change))


def test_an_unknown_order_is_404(api: TestClient) -> None:
    """A wrong id would look like success."""
    assert_problem(act(api, "holds", order_id="nobody"), 404, "not_found")


def test_a_denied_act_is_audited(api: TestClient, world: World) -> None:
    """Nobody would see that somebody tries what is not theirs to do."""
    place(api)
    assert_problem(act(api, "abandonments", role="operator"), 403, "forbidden")
    assert_problem(act(api, "holds", role="client"), 403, "forbidden")
    assert world.audited() == [("the-operator", "abandon", "order-1", "forbidden"), ("the-client", "hold", "order-1", "forbidden")]


def test_what_the_core_forbids_is_audited_too(api: TestClient, world: World) -> None:
    """Force on an ended order needs an admin; an operator's try would leave no trace."""
    place(api)
    act(api, "abandonments", role="admin")
    order = api.get("/v1/orders/order-1", headers=as_role("operator")).json()
    assert order["status"] in {"abandoned", "undoing"}
    assert_problem(act(api, "transitions", seq=order["seq"], to="completed"), 403, "forbidden")
    assert world.audited() == [("the-operator", "force", "order-1", "forbidden")]
