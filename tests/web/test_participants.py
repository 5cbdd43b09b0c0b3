"""Participants over the API."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from orchestrator.web.api.models import ParticipantsPage, ParticipantView
from tests.web.kit import REASON, as_role, assert_problem
from tests.web.world import World

VIEWER, OPERATOR = as_role("viewer"), as_role("operator")
RESYNC = "/v1/admin/participants/inventory/resyncs"


def test_everyone_whom_a_definition_asks_is_listed(api: TestClient) -> None:
    """An operator would not see a participant before it fell silent for the first time."""
    page = api.get("/v1/participants", headers=VIEWER).json()
    ParticipantsPage.model_validate(page)
    assert [(one["name"], one["state"], one["since"]) for one in page["items"]] == [
        (name, "healthy", None) for name in ("inventory", "invoice", "payment")
    ]


def test_a_silent_participant_is_shown(api: TestClient, world: World) -> None:
    """An operator would look for the reason in the orders."""
    world.store.silence("inventory", world.clock)
    shown = api.get("/v1/participants/inventory", headers=VIEWER).json()
    ParticipantView.model_validate(shown)
    assert (shown["state"], shown["since"] is not None, shown["held"], shown["heard_at"]) == ("silent", True, 0, None)
    assert_problem(api.get("/v1/participants/nobody", headers=VIEWER), 404, "not_found")


def test_a_resync_begins_and_is_audited(api: TestClient, world: World) -> None:
    """A participant that lost its messages would wait for every deadline; or nobody would know who had it flooded."""
    begun = api.post(RESYNC, json={**REASON, "since": "2026-11-21T10:00:00+01:00"}, headers=OPERATOR)
    assert (begun.status_code, begun.json()["state"], begun.json()["resync_under_way"]) == (202, "recovering", True)
    assert ("the-operator", "resync", None, "done") in world.audited()


def test_a_resync_of_a_silent_participant_waits(api: TestClient, world: World) -> None:
    """It would be flooded while it is away."""
    world.store.silence("inventory", world.clock)
    assert api.post(RESYNC, json=REASON, headers=OPERATOR).json()["state"] == "silent"


@pytest.mark.parametrize("body", [{}, {"reason": "x", "since": "noon"}, {"reason": "x", "sinse": "2026-11-21T10:00:00Z"}])
def test_a_resync_says_why_and_from_when(api: TestClient, body: dict[str, str]) -> None:
    """A mistyped time would have everything sent again."""
    assert_problem(api.post(RESYNC, json=body, headers=OPERATOR), 422, "unprocessable")


def test_only_operators_resync_whom_there_is(api: TestClient) -> None:
    """Anybody with a token could have a participant flooded; or a typing mistake would be told as done."""
    assert_problem(api.post(RESYNC, json=REASON, headers=VIEWER), 403, "forbidden")
    assert_problem(api.post("/v1/admin/participants/nobody/resyncs", json=REASON, headers=OPERATOR), 404, "not_found")
