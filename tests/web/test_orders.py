"""Placing, showing and listing orders, and their histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from orchestrator.app.sizes import COMMAND_DATA_BYTES_MAX
from orchestrator.app.work import Work
from orchestrator.contract import canonical
from orchestrator.errors import StoreUnavailable
from orchestrator.saga.inputs import DeadlineDue
from orchestrator.web.api.models import HistoryPage, OrdersPage, OrderView
from tests.web.kit import DATA, act, as_role, assert_problem, place
from tests.web.world import World, registration

VIEWER = as_role("viewer")


def post(api: TestClient, body: dict[str, Any], **headers: str) -> Response:
    return api.post("/v1/orders", json=body, headers=as_role("client", **headers))


def test_a_placed_order_is_201_with_where_it_is(api: TestClient) -> None:
    """A caller could not find, or compare, what it just placed."""
    answer = place(api)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/orders/order-1"
    assert answer.headers["etag"] == '"1"'
    order = answer.json()
    OrderView.model_validate(order)
    assert (order["state"], order["status"], order["seq"], order["epoch"], order["version"]) == ("reserving_inventory", "running", 1, 0, 1)
    assert order["waiting_on"][0]["participant"] == "inventory"
    assert order["attempts"] == order["waiting_on"][0]["attempts"] == 1
    assert order["opened_at"] == "2026-11-21T02:00:00.000000Z"
    assert order["deadline_at"] == "2026-11-21T02:00:30.000000Z"


def test_an_order_gets_the_version_that_the_latest_start_brought(api: TestClient, world: World) -> None:
    """After a return to the old files, orders placed here would run on the version that was taken back (R30)."""
    first = registration()
    later = canonical.encode({**canonical.load(first.expanded), "version": 2})
    world.store.register([replace(first, version=2, fingerprint="2", expanded=later)])
    assert place(api, "order-2").json()["version"] == 2
    world.store.register([first])
    assert place(api, "order-3").json()["version"] == 1


def test_equal_data_again_is_200_and_other_data_409(api: TestClient) -> None:
    """A repeat would open an order twice, or silently drop what it asks for."""
    place(api)
    assert place(api).status_code == 200
    other = post(api, {"definition": "order", "order_id": "order-1", "data": {**DATA, "amount_minor": 1}})
    assert_problem(other, 409, "conflict")
    assert api.get("/v1/orders/order-1", headers=VIEWER).json()["seq"] == 2
    assert api.get("/v1/quarantine", headers=VIEWER).json()["items"] == []


@pytest.mark.parametrize(
    ("order_id", "in_data"), [("order-7", None), (None, "order-7"), ("order-7", "order-7")], ids=["body", "data", "both"]
)
def test_the_id_comes_from_the_body_or_the_data(api: TestClient, order_id: str | None, in_data: str | None) -> None:
    """An order would get an id that its caller does not know; or equal orders would compare as different."""
    data = DATA if in_data is None else {**DATA, "order_id": in_data}
    body = {"definition": "order", "data": data} | ({} if order_id is None else {"order_id": order_id})
    assert post(api, body).json()["order_id"] == "order-7"
    assert post(api, {"definition": "order", "order_id": "order-7", "data": DATA}).status_code == 200


def test_an_order_without_id_gets_one(api: TestClient) -> None:
    """Callers without ids of their own could not place orders."""
    first, second = (post(api, {"definition": "order", "data": DATA}).json()["order_id"] for _ in range(2))
    assert first != second
    assert api.get(f"/v1/orders/{first}", headers=VIEWER).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": "a", "data": {**DATA, "order_id": "b"}},
        {"order_id": "a b"},
        {"order_id": ""},
        {"order_id": "a" * 129},
        {"order_id": 7},
        {"data": {**DATA, "order_id": 7}},
        {"data": {**DATA, "order_id": None}},
        {"order_id": "a", "data": {**DATA, "order_id": None}},
        {"data": {**DATA, "order_id": "a/b"}},
        {"data": []},
        {"data": None},
        {"definition": "or der"},
        {"unknown": 1},
    ],
)
def test_unacceptable_orders_are_422(api: TestClient, world: World, change: dict[str, Any]) -> None:
    """An order would be opened under an id that is not the one in its data, or that no message may carry."""
    assert_problem(post(api, {"definition": "order", "data": DATA} | change), 422, "unprocessable")
    assert world.queries.orders() == ([], None)


def test_an_unknown_definition_is_404(api: TestClient) -> None:
    """A typing error would end as a bug of ours."""
    assert_problem(post(api, {"definition": "ordre", "data": DATA}), 404, "not_found")


def test_a_repeat_with_its_key_gets_the_same_order(api: TestClient) -> None:
    """A caller that never saw the answer would place a second order, under a second id."""
    body = {"definition": "order", "data": DATA}
    first = post(api, body, Idempotency_Key="k-1")
    again = post(api, body, Idempotency_Key="k-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["order_id"] == again.json()["order_id"]
    assert post(api, body, Idempotency_Key="k-2").json()["order_id"] != first.json()["order_id"]


def test_a_key_belongs_to_its_token(api: TestClient) -> None:
    """One caller's key would give it another caller's order."""
    body = {"definition": "order", "data": DATA}
    mine = post(api, body, Idempotency_Key="k").json()["order_id"]
    other = api.post("/v1/orders", json=body, headers=as_role("operator", Idempotency_Key="k"))
    assert other.status_code == 201
    assert other.json()["order_id"] != mine


def test_a_key_with_another_body_is_422(api: TestClient) -> None:
    """A reused key would answer with an order that is not the one asked for."""
    post(api, {"definition": "order", "data": DATA}, Idempotency_Key="k")
    other = post(api, {"definition": "order", "data": {**DATA, "currency": "USD"}}, Idempotency_Key="k")
    assert_problem(other, 422, "idempotency_key_reused")


def test_a_refused_order_does_not_use_up_its_key(api: TestClient) -> None:
    """A caller that corrects its order would have to invent a new key."""
    post(api, {"definition": "order", "order_id": "a b", "data": DATA}, Idempotency_Key="k")
    assert post(api, {"definition": "order", "order_id": "ab", "data": DATA}, Idempotency_Key="k").status_code == 201


def test_an_order_too_large_for_its_commands_is_422(api: TestClient, world: World) -> None:
    """A participant would drop a command, and the order hang; or a caller that sends less would have to invent a new key."""
    large = {"definition": "order", "order_id": "ab", "data": {**DATA, "lines": "x" * COMMAND_DATA_BYTES_MAX}}
    problem = assert_problem(post(api, large, Idempotency_Key="k"), 422, "unprocessable")
    assert f"at most {COMMAND_DATA_BYTES_MAX} are sent" in problem["detail"]
    assert (world.queries.orders(), world.queries.quarantine()) == (([], None), ([], None))
    assert post(api, {**large, "data": DATA}, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "k\x7f"])
def test_a_key_that_is_none_is_400(api: TestClient, key: str) -> None:
    """A key that cannot be stored whole would stand for other keys too."""
    assert_problem(post(api, {"definition": "order", "data": DATA}, Idempotency_Key=key), 400, "malformed_request")


def test_an_order_has_an_etag(api: TestClient) -> None:
    """Pollers would read whole orders again and again; acts could not name what was seen."""
    place(api)
    whole = api.get("/v1/orders/order-1", headers=VIEWER)
    assert whole.headers["etag"] == '"1"'
    for tags in ('"1"', 'W/"1"', '"0", "1"', "*"):
        unchanged = api.get("/v1/orders/order-1", headers={**VIEWER, "If-None-Match": tags})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", '"1"')
    for tags in ('"2"', "1", "", "nonsense"):
        assert api.get("/v1/orders/order-1", headers={**VIEWER, "If-None-Match": tags}).status_code == 200


def test_allowed_acts_are_those_of_the_caller(api: TestClient) -> None:
    """Programs would offer people what they may not do."""
    place(api)
    acts = {role: api.get("/v1/orders/order-1", headers=as_role(role)).json()["allowed_acts"] for role in ("viewer", "operator", "admin")}
    assert acts["viewer"] == []
    assert "hold" in acts["operator"]
    assert "abandon" not in acts["operator"]
    assert "abandon" in acts["admin"]


def test_unknown_orders_are_404_and_impossible_ids_422(api: TestClient) -> None:
    """A wrong id would look like an order without history."""
    for tail in ("", "/history"):
        assert_problem(api.get(f"/v1/orders/nobody{tail}", headers=VIEWER), 404, "not_found")
        assert_problem(api.get(f"/v1/orders/a%20b{tail}", headers=VIEWER), 422, "unprocessable")


def test_the_list_filters_and_pages(api: TestClient, world: World) -> None:
    """A list would show the wrong orders, or lose some between its pages."""
    for number in range(5):
        world.clock += timedelta(seconds=1)
        place(api, f"order-{number}")
    act(api, "holds", order_id="order-3")
    page = api.get("/v1/orders?limit=2", headers=VIEWER).json()
    seen = [order["order_id"] for order in page["items"]]
    while page["next_cursor"]:
        page = api.get("/v1/orders", params={"limit": 2, "cursor": page["next_cursor"]}, headers=VIEWER).json()
        OrdersPage.model_validate(page)
        seen += [order["order_id"] for order in page["items"]]
    assert seen == [f"order-{number}" for number in (4, 3, 2, 1, 0)]
    held = api.get("/v1/orders?status=held", headers=VIEWER).json()["items"]
    assert [order["order_id"] for order in held] == ["order-3"]
    assert api.get("/v1/orders?overdue=true", headers=VIEWER).json()["items"] == []
    world.clock = world.clock.replace(minute=5)
    assert len(api.get("/v1/orders?overdue=true", headers=VIEWER).json()["items"]) == 4


def test_the_list_of_a_version_goes_on_while_orders_leave_it(api: TestClient, world: World) -> None:
    """Whoever moves a version's orders page by page would leave some behind, or meet those of another version."""
    for number in range(5):
        world.clock += timedelta(seconds=1)
        place(api, f"order-{number}")
    world.store.register([replace(registration(), version=2, fingerprint="2", expanded=second_version())])
    place(api, "order-5")
    filters: dict[str, Any] = {"definition": "order", "version": 1, "status": "running", "limit": 2}
    seen = []
    while True:
        page = api.get("/v1/orders", params=filters, headers=VIEWER).json()
        OrdersPage.model_validate(page)
        for order in page["items"]:
            seen.append(order["order_id"])
            assert act(api, "migrations", order_id=order["order_id"], role="admin", version=2).status_code == 200
        if page["next_cursor"] is None:
            break
        filters["cursor"] = page["next_cursor"]
    assert seen == [f"order-{number}" for number in (4, 3, 2, 1, 0)]
    assert api.get("/v1/orders?definition=order&version=1", headers=VIEWER).json()["items"] == []
    assert len(api.get("/v1/orders?definition=order&version=2", headers=VIEWER).json()["items"]) == 6
    definitions = api.get("/v1/definitions", headers=VIEWER).json()["items"]
    assert [(item["version"], item["open_orders"]) for item in definitions] == [(1, 0), (2, 6)]


def second_version() -> bytes:
    """The shipped definition, as its next version."""
    return canonical.encode({**canonical.load(registration().expanded), "version": 2})


def test_a_version_without_its_definition_is_422(api: TestClient) -> None:
    """Orders of every definition that has this number of versions would be shown as one list."""
    problem = assert_problem(api.get("/v1/orders?version=1", headers=VIEWER), 422, "unprocessable")
    assert "give `definition` with it" in problem["detail"]
    assert [error["location"] for error in problem["errors"]] == ["query.version"]


def test_an_order_is_found_by_its_labels(api: TestClient, world: World) -> None:
    """Support could not find a customer's orders, or would see another's among them."""
    first = registration()
    labelled = canonical.encode({**canonical.load(first.expanded), "version": 2, "labels": ["currency", "amount_minor", "note"]})
    place(api, "order-0")
    world.store.register([replace(first, version=2, fingerprint="2", expanded=labelled)])
    for order_id, note in (("order-1", "a:b c&d=é"), ("order-2", None)):
        world.clock += timedelta(seconds=1)
        post(api, {"definition": "order", "order_id": order_id, "data": {**DATA, "note": note}})

    shown = {"currency": "EUR", "amount_minor": "1980"}
    labels = {o: api.get(f"/v1/orders/{o}", headers=VIEWER).json()["labels"] for o in ("order-0", "order-1", "order-2")}
    assert labels == {"order-0": {}, "order-1": {**shown, "note": "a:b c&d=é"}, "order-2": shown}

    def found(*label: str) -> list[str]:
        page = api.get("/v1/orders", params={"label": label}, headers=VIEWER).json()
        OrdersPage.model_validate(page)
        return [order["order_id"] for order in page["items"]]

    assert found("currency:EUR") == ["order-2", "order-1"]
    assert found("currency:EUR", "note:a:b c&d=é") == ["order-1"]
    assert found("currency:EUR", "amount_minor:7") == []
    page = api.get("/v1/orders?label=currency:EUR&limit=1", headers=VIEWER).json()
    page = api.get("/v1/orders", params={"label": "currency:EUR", "cursor": page["next_cursor"]}, headers=VIEWER).json()
    assert ([order["order_id"] for order in page["items"]], page["next_cursor"]) == (["order-1"], None)


@pytest.mark.parametrize(
    "label", ["", "region", "region:", ":eu", "re gion:eu", "region:%00", "region:" + "x" * 129, "&label=".join(["a:b"] * 9)]
)
def test_what_is_no_label_is_422(api: TestClient, label: str) -> None:
    """A filter would be ignored, and every order shown as if it matched."""
    assert_problem(api.get(f"/v1/orders?label={label}", headers=VIEWER), 422, "unprocessable")


def test_the_list_finds_an_order_by_whom_it_waits_for_during_a_backoff_too(api: TestClient, world: World) -> None:
    """An operator who asks what waits for a silent participant would see orders come and go with each attempt."""
    place(api)
    for name in ("reply:reserve_inventory.0.1", "retry:reserve_inventory.0.1"):
        found = api.get("/v1/orders?waiting_on=inventory", headers=VIEWER).json()["items"]
        assert [(order["order_id"], order["attempts"]) for order in found] == [("order-1", 1)]
        deadline = world.queries.orders()[0][0].deadlines[name]
        assert deadline.due_at is not None
        world.clock = deadline.due_at
        world.submit(Work(order_id="order-1", input=DeadlineDue(name=name, generation=deadline.generation)))
    [order] = api.get("/v1/orders?waiting_on=inventory", headers=VIEWER).json()["items"]
    assert order["attempts"] == 2
    assert api.get("/v1/orders?waiting_on=operator", headers=VIEWER).json()["items"] == []


def test_the_history_pages_and_tells_who_and_why(api: TestClient) -> None:
    """Nobody could say who stopped an order, or a long history would be cut."""
    place(api)
    act(api, "holds", seq=1)
    act(api, "releases", seq=2)
    first = api.get("/v1/orders/order-1/history?limit=2", headers=VIEWER).json()
    HistoryPage.model_validate(first)
    assert [(item["seq"], item["kind"], item["name"], item["actor"], item["reason"]) for item in first["items"]][1] == (
        2,
        "act",
        "hold",
        "the-operator",
        "Ticket 4711",
    )
    rest = api.get("/v1/orders/order-1/history", params={"cursor": first["next_cursor"]}, headers=VIEWER).json()
    assert ([item["seq"] for item in rest["items"]], rest["next_cursor"]) == ([3], None)


def test_what_customers_wrote_is_for_operators(api: TestClient) -> None:
    """A viewer's token would read e-mail addresses out of orders and histories."""
    place(api)
    for path in ("/v1/orders/order-1", "/v1/orders", "/v1/orders/order-1/history"):
        assert "canary" not in api.get(path, headers=VIEWER).text
    body = {"definition": "order", "order_id": "order-1", "data": {**DATA, "lines": "canary"}}
    assert "canary" not in post(api, body).text
    effects = api.get("/v1/orders/order-1/history", headers=as_role("operator")).json()["items"][0]["effects"]
    assert effects["commands"][0]["data"]["lines"] == DATA["lines"]


def test_a_database_that_is_away_is_503(api: TestClient, world: World) -> None:
    """Callers would take an outage for a bug, and not try again."""
    world.queries.failure = StoreUnavailable()
    answer = api.get("/v1/orders/order-1", headers=VIEWER)
    assert assert_problem(answer, 503, "unavailable")["retryable"] is True
    assert answer.headers["retry-after"] == "1"


def test_a_bug_is_500_without_its_traceback(api: TestClient, world: World) -> None:
    """A caller would read our source and our secrets."""
    world.queries.failure = RuntimeError("password=canary")
    answer = api.get("/v1/orders/order-1", headers=VIEWER)
    assert_problem(answer, 500, "internal")
    assert "canary" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
