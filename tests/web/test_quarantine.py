"""The quarantine over the API."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from orchestrator.contract import Envelope, encode
from orchestrator.web.api.models import QuarantinedMessage, QuarantinePage, ReplayView
from tests.web.kit import DATA, REASON, as_role, assert_problem
from tests.web.world import World

GOOD_ID = "1f4a4a52-5f9c-4c25-9d0a-2f0c7d1d5a10"
ID = "0f4a4a52-5f9c-4c25-9d0a-2f0c7d1d5a10"
VIEWER = as_role("viewer")


@pytest.fixture
def row(world: World) -> str:
    """One quarantined message with a body that is no UTF-8."""
    world.add_quarantined(ID, body=b"canary \xff", content_type="text/plain", headers=b'{"x":1}')
    return ID


@pytest.fixture
def good_row(world: World) -> str:
    """A quarantined message that can be applied now."""
    wire = encode(Envelope(id="m-9", source="shop", type="OrderPlaced", subject="order-9", data={**DATA, "order_id": "order-9"}))
    world.add_quarantined(GOOD_ID, body=wire.body, content_type=wire.content_type)
    return GOOD_ID


@pytest.mark.usefixtures("row")
def test_the_list_filters(api: TestClient) -> None:
    """An operator would look through all messages for those of one order."""
    found = {"reason=malformed": 1, "reason=other": 0, "type=PaymentTaken": 1, "type=X": 0, "order=order-1": 1, "order=x": 0}
    for query, count in found.items():
        page = api.get(f"/v1/quarantine?{query}", headers=VIEWER).json()
        QuarantinePage.model_validate(page)
        assert count == len(page["items"]), query
    assert_problem(api.get("/v1/quarantine?order=a%20b", headers=VIEWER), 422, "unprocessable")


def test_a_body_is_for_operators(api: TestClient, row: str) -> None:
    """A viewer's token would read customers' data in the quarantine; or a body that is no text would break the page."""
    assert "canary" not in api.get("/v1/quarantine", headers=as_role("admin")).text
    assert "canary" not in api.get(f"/v1/quarantine/{row}", headers=VIEWER).text
    whole = api.get(f"/v1/quarantine/{row}", headers=as_role("operator")).json()
    QuarantinedMessage.model_validate(whole)
    assert (whole["body"], whole["headers"]) == ("canary \ufffd", {"x": 1})


def test_replay_and_discard_are_done_once(api: TestClient, good_row: str) -> None:
    """A message would be replayed twice, or after somebody decided against it."""
    replayed = api.post(f"/v1/admin/quarantine/{good_row}/replays", json=REASON, headers=as_role("operator"))
    ReplayView.model_validate(replayed.json())
    again = api.post(f"/v1/admin/quarantine/{good_row}/discards", json=REASON, headers=as_role("operator"))
    assert_problem(again, 409, "conflict")
    assert api.get(f"/v1/quarantine/{good_row}", headers=VIEWER).json()["resolved_by"] == "the-operator"


def test_discard_answers_with_the_row_and_is_audited(api: TestClient, world: World, row: str) -> None:
    """The operator would not see that the discard is kept, with who and why."""
    gone = api.post(f"/v1/admin/quarantine/{row}/discards", json=REASON, headers=as_role("operator")).json()
    assert (gone["resolution"], gone["resolved_reason"]) == ("discarded", "Ticket 4711")
    assert world.audited() == [("the-operator", "discard", None, "done")]


@pytest.mark.parametrize("verb", ["replays", "discards"])
def test_each_needs_a_reason_and_a_message(api: TestClient, row: str, verb: str) -> None:
    """Acts on messages would leave no trace of why."""
    operator = as_role("operator")
    assert_problem(api.post(f"/v1/admin/quarantine/{row}/{verb}", json={}, headers=operator), 422, "unprocessable")
    assert_problem(api.post(f"/v1/admin/quarantine/none/{verb}", json=REASON, headers=operator), 404, "not_found")
    assert_problem(api.get("/v1/quarantine/none", headers=operator), 404, "not_found")


def test_a_denied_replay_is_audited(api: TestClient, world: World, row: str) -> None:
    """Nobody would see that somebody tries what is not theirs to do."""
    assert_problem(api.post(f"/v1/admin/quarantine/{row}/replays", json=REASON, headers=VIEWER), 403, "forbidden")
    assert world.audited() == [("the-viewer", "replay", None, "forbidden")]
