"""The addresses of registered definitions, and of an order's diagram."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from orchestrator.web.api import models
from tests.web.kit import act, as_role, assert_problem, place
from tests.web.world import World, registration

VIEWER = as_role("viewer")


def test_the_versions_are_listed_with_their_open_orders(api: TestClient, world: World) -> None:
    """If it failed, a version would be taken away while orders run on it."""
    place(api)
    place(api, "order-2")
    act(api, "abandonments", order_id="order-2", role="admin")
    world.store.register([replace(registration(), version=2, fingerprint="f")])
    answer = api.get("/v1/definitions", headers=VIEWER).json()
    models.DefinitionsPage.model_validate(answer)
    assert [(item["version"], item["is_opener"], item["open_orders"]) for item in answer["items"]] == [(1, False, 1), (2, True, 0)]


def test_pages_of_versions_are_whole(api: TestClient, world: World) -> None:
    """If it failed, a version would be listed twice, or never."""
    for version in (2, 9, 10):
        world.store.register([replace(registration(), version=version, fingerprint=str(version))])
    world.store.register([replace(registration(), name="another", fingerprint="a", is_opener=False)])
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/v1/definitions?limit=2{cursor and '&cursor='}{cursor}", headers=VIEWER).json()
        seen += [(item["name"], item["version"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [("another", 1), ("order", 1), ("order", 2), ("order", 9), ("order", 10)]
    for bad in ("x", "b3JkZXI", "b3JkZXIgLTE", "b3JkZXIgMTIzNDU2Nzg5MDEyMzQ1Njc4OTA"):
        assert_problem(api.get(f"/v1/definitions?cursor={bad}", headers=VIEWER), 422, "unprocessable")


def test_one_version_is_shown_with_both_documents(api: TestClient) -> None:
    """If it failed, nobody could read what an order runs on."""
    answer = api.get("/v1/definitions/order/1", headers=VIEWER).json()
    models.DefinitionDocuments.model_validate(answer)
    assert (answer["document"]["patience"], answer["expanded"]["patience_ms"]) == ("30m", 1_800_000)


@pytest.mark.parametrize(("path", "status"), [("order/2", 404), ("none/1", 404), ("order/0", 422), ("order/x", 422), ("a b/1", 422)])
def test_what_is_not_registered_is_a_problem(api: TestClient, path: str, status: int) -> None:
    """If it failed, a wrong address would look like an empty definition."""
    assert_problem(api.get(f"/v1/definitions/{path}", headers=VIEWER), status, "not_found" if status == 404 else "unprocessable")


def test_an_order_is_drawn_where_it_stands(api: TestClient) -> None:
    """If it failed, the diagram would show another order's way, or another version's."""
    place(api)
    before = api.get("/v1/orders/order-1/graph", headers=VIEWER).json()
    models.GraphView.model_validate(before)
    assert (before["current"], before["visited"]) == ("reserving_inventory", [])
    assert before["possible"] == ["compensated", "taking_payment", "undoing_reserve_inventory"]
    act(api, "aborts")
    after = api.get("/v1/orders/order-1/graph", headers=VIEWER).json()
    assert (after["current"], after["visited"], after["possible"]) == (
        "undoing_reserve_inventory",
        ["reserving_inventory"],
        ["compensated"],
    )
    assert "    class undoing_reserve_inventory current\n" in after["mermaid"]
    assert_problem(api.get("/v1/orders/none/graph", headers=VIEWER), 404, "not_found")
