"""`GET /v1/orders/{order_id}/at/{when}`."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from orchestrator.store.tables import journal
from orchestrator.web.api.models import ThenView
from tests.web.kit import act, as_role, assert_problem, place
from tests.web.world import World

VIEWER = as_role("viewer")
PATH = "/v1/orders/order-1/at"


@pytest.fixture
def lived(api: TestClient, world: World) -> World:
    """An order that was placed, held 10 s later, and called off 10 s after that."""
    place(api)
    world.clock += timedelta(seconds=10)
    assert act(api, "holds").status_code == 200
    world.clock += timedelta(seconds=10)
    assert act(api, "aborts", seq=2).status_code == 200
    return world


def test_it_shows_the_order_as_it_stood(api: TestClient, lived: World) -> None:
    """An operator could not see what Escrow knew when something went wrong."""
    then = api.get(f"{PATH}/2", headers=VIEWER).json()
    ThenView.model_validate(then)
    assert (then["seq"], then["at"]) == (2, "2026-11-21T02:00:10.000000Z")
    assert (then["order"]["status"], then["order"]["seq"], then["order"]["allowed_acts"]) == ("held", 2, [])
    assert [(ask["ask"], ask["forward"], ask["undo"]) for ask in then["ledger"]] == [("reserve_inventory.0.1", "asked", "none")]
    held = {deadline["name"]: deadline for deadline in then["deadlines"]}
    assert held["hold"]["due_at"]
    assert (held["reply:reserve_inventory.0.1"]["due_at"], held["reply:reserve_inventory.0.1"]["remaining_ms"]) == (None, 20_000)
    assert [(one["command"], one["is_undo"], one["attempts"]) for one in then["outstanding"]] == [("ReserveInventory", False, 1)]
    undoing = api.get(f"{PATH}/3", headers=VIEWER).json()
    assert [(one["command"], one["is_undo"]) for one in undoing["outstanding"]] == [("ReleaseInventory", True)]
    assert undoing["outstanding"][0]["command_id"] != then["outstanding"][0]["command_id"]


def test_what_customers_wrote_stays_where_it_is(api: TestClient, lived: World) -> None:
    """A viewer would read an address that the order itself does not show."""
    assert "canary" not in api.get(f"{PATH}/1", headers=VIEWER).text


def test_a_seq_never_changes_and_a_time_names_its_seq(api: TestClient, lived: World) -> None:
    """A cache would keep what may still change, or ask again and again for what cannot."""
    by_seq = api.get(f"{PATH}/1", headers=VIEWER)
    assert (by_seq.headers["etag"], by_seq.headers["cache-control"]) == ('"1"', "private, max-age=31536000, immutable")
    assert by_seq.headers["vary"] == "Authorization"
    by_time = api.get(f"{PATH}/2026-11-21T03:00:09%2B01:00", headers=VIEWER)
    assert by_time.json() == by_seq.json()
    assert (by_time.headers["content-location"], by_time.headers["cache-control"]) == (f"{PATH}/1", "no-store")
    again = api.get(f"{PATH}/1", headers={**VIEWER, "If-None-Match": '"1"'})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("when", "status", "says"),
    [
        ("4", 404, "it has 1 to 3"),
        ("0", 404, "it has 1 to 3"),
        ("2026-11-21T01:59:59Z", 404, "was opened at 2026-11-21T02:00:00"),
        ("2026-11-21T02:00:21Z", 422, "still to come"),
        ("2026-11-21T02:00:00", 422, "nor a time with a zone"),
        ("-1", 422, "Neither an entry"),
        ("9999999999999999999", 422, "Neither an entry"),
        ("now", 422, "Neither an entry"),
    ],
)
def test_a_moment_that_is_none_is_refused_with_the_fix(api: TestClient, lived: World, when: str, status: int, says: str) -> None:
    """A slip would be answered with an order that never stood so."""
    problem = assert_problem(api.get(f"{PATH}/{when}", headers=VIEWER), status, "not_found" if status == 404 else "unprocessable")
    assert says in problem["detail"]


@pytest.mark.parametrize("when", ["2", "3", "2026-11-21T02:00:15Z"])
def test_a_damaged_history_is_told_as_such(api: TestClient, lived: World, when: str) -> None:
    """A history that somebody altered would look like a bug, and its operator not know what to restore."""
    with lived.engine.begin() as connection:
        connection.execute(sa.update(journal).where(journal.c.seq == 2).values(actor="somebody else"))
    problem = assert_problem(api.get(f"{PATH}/{when}", headers=VIEWER), 500, "journal_damaged")
    assert (problem["order_id"], problem["seq"], problem["retryable"]) == ("order-1", 2, False)
    assert problem["detail"] == "order-1: entry 2 was altered after it was written."
    assert "escrow verify" in problem["next"]
    assert api.get(f"{PATH}/1", headers=VIEWER).status_code == 200


def test_an_order_that_is_not_there_is_404(api: TestClient) -> None:
    """A wrong id would look like an order without a past."""
    for when in ("1", "2026-11-21T01:00:00Z"):
        assert "no order order-9" in assert_problem(api.get(f"/v1/orders/order-9/at/{when}", headers=VIEWER), 404, "not_found")["detail"]
