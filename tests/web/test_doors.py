"""What holds for every address: who may call it, how errors look, what is refused, and that nothing breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from orchestrator.errors import InvariantViolated
from orchestrator.saga.order import CAUSES
from orchestrator.web.api import models
from orchestrator.web.app import ROUTERS, create_app, guards
from orchestrator.web.auth import ROLES, Needs
from orchestrator.web.probes import create_probes
from orchestrator.web.problems import CATALOGUE
from tests.web.kit import DATA, as_role, assert_problem, place
from tests.web.world import World

VIEWER = as_role("viewer")
VALUES = {"order_id": "order-1", "quarantine_id": "none", "code": "stale", "name": "order", "version": "1", "when": "1"}
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
VIEWERS = {
    ("GET", path)
    for path in (
        "/v1/orders",
        "/v1/orders/{order_id}",
        "/v1/orders/{order_id}/history",
        "/v1/orders/{order_id}/graph",
        "/v1/orders/{order_id}/at/{when}",
        "/v1/definitions",
        "/v1/definitions/{name}/{version}",
        "/v1/participants",
        "/v1/participants/{name}",
        "/v1/quarantine",
        "/v1/quarantine/{quarantine_id}",
        "/metrics",
        "/problems/{code}",
        "/openapi.json",
    )
}
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
EVERY = sorted((method, route.path) for route in ROUTES for method in route.methods or ())
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def role_wanted(method: str, path: str) -> str | None:
    """The role that the design gives an address; None: open. A new address must be placed here."""
    if (method, path) in OPEN:
        return None
    if (method, path) in VIEWERS:
        return "viewer"
    if (method, path) == ("POST", "/v1/orders"):
        return "client"
    assert method == "POST"
    assert path.startswith("/v1/admin/")
    return "admin" if path.endswith(("/abandonments", "/migrations")) else "operator"


def app_of(api: TestClient) -> FastAPI:
    """The application behind the client."""
    assert isinstance(api.app, FastAPI)
    return api.app


def filled(path: str) -> str:
    return path.format_map(VALUES) if "{" in path else path


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_every_address_asks_for_its_role(api: TestClient, method: str, path: str) -> None:
    """Somebody could do what their role does not allow, or read without a token."""
    wanted = role_wanted(method, path)
    guard = guards(app_of(api))[method, path]
    assert wanted == (guard.role if isinstance(guard, Needs) else None)
    bare = api.request(method, filled(path))
    if wanted is None:
        assert bare.status_code == 200
        return
    assert_problem(bare, 401, "unauthenticated")
    assert bare.headers["www-authenticate"] == 'Bearer realm="escrow"'
    for role in ROLES:
        answer = api.request(method, filled(path), headers=as_role(role))
        assert (answer.status_code == 403) == (ROLES.index(role) < ROLES.index(wanted)), role
        assert answer.status_code != 401


def test_an_address_without_a_role_does_not_start(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new address, forgotten, would be open to everybody."""
    app = app_of(api)
    app.add_api_route("/forgotten", lambda: None)
    with pytest.raises(InvariantViolated, match="/forgotten"):
        guards(app)
    monkeypatch.setattr("orchestrator.web.app.ROUTERS", (FastAPI().router,))
    with pytest.raises(InvariantViolated, match=r"/openapi\.json"):
        create_app(app.state.services)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic escrow_admin", "Bearer nobody", "Bearer escrow_revoked", "Bearer " + "x" * 9000],
)
def test_what_is_no_token_is_401(api: TestClient, header: str) -> None:
    """A revoked or made-up token would still open the door."""
    assert_problem(api.get("/v1/orders", headers={"Authorization": header}), 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_unknown_query_parameters_are_400(api: TestClient, method: str, path: str) -> None:
    """A filter that is misspelt would be ignored, and what follows would hit orders never looked at."""
    place(api)
    problem = assert_problem(api.request(method, f"{filled(path)}?sate=x", headers=as_role("admin")), 400, "unknown_parameter")
    assert "sate" in problem["detail"]
    assert isinstance(problem["allowed"], list)


def test_the_allowed_parameters_are_named(api: TestClient) -> None:
    """A caller would have to guess how a filter is called."""
    problem = assert_problem(api.get("/v1/orders?page=2", headers=VIEWER), 400, "unknown_parameter")
    assert problem["allowed"] == ["cursor", "definition", "label", "limit", "overdue", "state", "status", "version", "waiting_on"]
    assert_problem(api.get("/v1/orders?state=a&state=b", headers=VIEWER), 400, "unknown_parameter")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "status=lost", "cursor=%00", "overdue=false", "state=a%20b", "definition=order&version=0"]
)
def test_impossible_values_are_422(api: TestClient, query: str) -> None:
    """A page would be as large as the table, or a value would reach the database that it cannot hold."""
    assert_problem(api.get(f"/v1/orders?{query}", headers=VIEWER), 422, "unprocessable")


def test_a_filter_that_can_only_be_there_says_so(api: TestClient) -> None:
    """Whoever asks for `overdue=false` would read a sentence of the framework, and not what to ask instead."""
    problem = assert_problem(api.get("/v1/orders?overdue=false", headers=VIEWER), 422, "unprocessable")
    assert problem["detail"] == "query.overdue: Only true is taken; without this parameter everything is listed"
    assert api.get("/v1/orders?overdue=true", headers=VIEWER).json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("GET", "/v1/orders/"), ("POST", "/v2/orders"), ("GET", "/docs"), ("GET", "/")]
)
def test_other_addresses_are_404(api: TestClient, method: str, path: str) -> None:
    """Programs would meet an error that is no problem document."""
    assert_problem(api.request(method, path, headers=VIEWER), 404, "not_found")


def test_other_methods_are_405_and_name_those_that_are_there(api: TestClient) -> None:
    """Programs would meet an error that is no problem document, or be told of some methods only."""
    answer = api.delete("/v1/orders", headers=VIEWER)
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "malformed_request"),
        (b"{", 400, "malformed_request"),
        (b"[]", 400, "malformed_request"),
        (b"\xff\xfe", 400, "malformed_request"),
        (b'{"definition": "order", "data": {"a": NaN}}', 400, "malformed_request"),
        (b'{"definition": "order", "data": {"a": 1e999}}', 400, "malformed_request"),
        (b'{"definition": "order", "data": {"a": "\\u0000"}}', 400, "malformed_request"),
        (b'{"definition": "order", "data": {"a": "\\ud800"}}', 400, "malformed_request"),
        (b'{"data": ' + b"[" * 60 + b"]" * 60 + b"}", 400, "malformed_request"),
        (b"[" * 60_000, 400, "malformed_request"),
        (b'{"definition": "order", "data": {"a": "' + b"x" * 65_536 + b'"}}', 413, "too_large"),
    ],
)
def test_bodies_that_are_no_json_object_are_refused(api: TestClient, raw: bytes, status: int, code: str) -> None:
    """Data that no message may carry would enter an order, and poison its commands."""
    headers = {**as_role("client"), "Content-Type": "application/json"}
    assert_problem(api.post("/v1/orders", content=raw, headers=headers), status, code)


def test_the_largest_body_is_taken(api: TestClient) -> None:
    """The limit would be one byte off."""
    body = json.dumps({"definition": "order", "data": {**DATA, "note": ""}}).encode()
    body = body.replace(b'"note": ""', b'"note": "' + b"x" * (65_536 - len(body)) + b'"')
    assert len(body) == 65_536
    headers = {**as_role("client"), "Content-Type": "application/json"}
    assert api.post("/v1/orders", content=body, headers=headers).status_code == 201


def test_a_body_of_another_type_is_415(api: TestClient) -> None:
    """A web page of another origin could post a form with a visitor's rights."""
    answer = api.post("/v1/orders", content=b"a=b", headers={**as_role("client"), "Content-Type": "application/x-www-form-urlencoded"})
    assert_problem(answer, 415, "unsupported_media_type")


def test_nobody_reads_a_body_before_the_token_is_checked(api: TestClient) -> None:
    """Strangers could make us read and parse what they like."""
    assert_problem(api.post("/v1/orders", content=b"{"), 401, "unauthenticated")


@pytest.mark.parametrize("path", ["/healthz", "/v1/orders", "/nothing"])
def test_every_answer_has_the_security_headers(api: TestClient, path: str) -> None:
    """An answer could be kept by a cache, framed, sniffed, or read by another origin."""
    answer = api.get(path, headers={**VIEWER, "Origin": "https://evil.example"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers


def test_readiness_says_what_is_missing_alike_at_both_doors(api: TestClient, world: World) -> None:
    """Requests would be sent to a process that cannot answer them, and nobody would know why; or each door would say it in its own form."""
    probes = TestClient(create_probes(world.services()))
    for door in (api, probes):
        world.checks |= {"database": True, "broker": False}
        assert (door.get("/readyz").status_code, door.get("/readyz").json()) == (200, {"status": "ready", "checks": world.checks})
        world.checks["database"] = False
        problem = assert_problem(door.get("/readyz"), 503, "not_ready")
        assert (problem["missing"], problem["checks"]) == (["database"], world.checks)
        assert door.get("/healthz").status_code == 200


def test_metrics_are_those_of_the_process(api: TestClient) -> None:
    """The scraper would find nothing."""
    answer = api.get("/metrics", headers=VIEWER)
    assert answer.text == "escrow_orders 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_problem_is_explained(api: TestClient, code: str) -> None:
    """The type of an error would lead nowhere."""
    entry = api.get(f"/problems/{code}", headers=VIEWER).json()
    models.KindView.model_validate(entry)
    assert (entry["code"], entry["type"]) == (code, f"/problems/{code}")
    assert_problem(api.get("/problems/none", headers=VIEWER), 404, "not_found")


def test_the_openapi_document_says_everything(api: TestClient) -> None:
    """Callers would find an operation without role, summary, example or problems; or an example that the API never answers."""
    document = api.get("/openapi.json", headers=VIEWER).json()
    operations = {(method.upper(), path): operation for path, item in document["paths"].items() for method, operation in item.items()}
    assert set(EVERY) == set(operations)
    routes = {(method, route.path): route for route in app_of(api).routes if isinstance(route, APIRoute) for method in route.methods or ()}
    for place_, operation in operations.items():
        assert operation["summary"], place_
        assert operation.get("x-role") == role_wanted(*place_)
        success = str(routes[place_].status_code)
        for media_type, content in operation["responses"][success]["content"].items():
            model = routes[place_].responses[int(success)].get("model")
            assert (model is None) == (media_type == "text/plain")
            if model is not None:
                model.model_validate(content["example"])
        for status, response in operation["responses"].items():
            for problem in response.get("content", {}).get("application/problem+json", {}).get("examples", {}).values():
                models.ProblemView.model_validate(problem["value"])
                assert problem["value"]["status"] == int(status)
        if place_[0] == "POST":
            assert operation["requestBody"]["content"]["application/json"]["example"]
    cause = document["components"]["schemas"]["OrderView"]["properties"]["cause"]["description"]
    assert all(f"`{code}`: {meaning}" in cause for code, meaning in CAUSES.items())
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["definition", "order_id", "data", "reason", "dry_run", "to", "until", "step", "name", "due_at"])
likely = st.sampled_from(["order", "order-1", "taking_payment", "2026-11-21T02:00:00Z", {}, True]) | json_values
POSTS = [path for method, path in EVERY if method == "POST"]
GETS = [path for method, path in EVERY if method == "GET"]


def assert_answered(answer: Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_problem(answer, answer.status_code, answer.json()["code"])


@FUZZ
@given(path=st.sampled_from(POSTS), body=st.dictionaries(fields, likely, max_size=6), seq=st.integers(0, 3))
def test_no_json_breaks_an_address(api: TestClient, path: str, body: dict[str, Any], seq: int) -> None:
    """A body could make a process answer 500, and hide real bugs among its noise."""
    place(api)
    raw = json.dumps(body).encode(errors="surrogatepass")
    headers = {**as_role("admin"), "If-Match": f'"{seq}"', "Content-Type": "application/json"}
    assert_answered(api.post(filled(path), content=raw, headers=headers))


@FUZZ
@given(path=st.sampled_from(POSTS), raw=st.binary(max_size=200), tag=st.binary(max_size=20), key=st.binary(max_size=20))
def test_no_bytes_break_an_address(api: TestClient, path: str, raw: bytes, tag: bytes, key: bytes) -> None:
    """Bytes that are no text, in the body or a header, could make a process answer 500."""
    headers = {b"authorization": b"Bearer escrow_admin", b"if-match": tag, b"idempotency-key": key}
    assert_answered(api.post(filled(path), content=raw, headers=headers))


@FUZZ
@given(
    path=st.sampled_from(GETS),
    name=st.sampled_from(["state", "status", "waiting_on", "overdue", "definition", "cursor", "limit", "reason", "type"]) | st.text(),
    value=st.text(max_size=30) | st.integers().map(str),
    tail=st.text(max_size=20),
)
def test_no_address_or_parameter_breaks_the_api(api: TestClient, path: str, name: str, value: str, tail: str) -> None:
    """A link with strange characters could make a process answer 500."""
    try:
        params = {name: value}
        json.dumps([name, value, tail], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert_answered(api.get(filled(path), params=params, headers=VIEWER))
    assert_answered(api.get(f"/v1/orders/{json.dumps(tail)[1:-1].replace('?', '%3F').replace('#', '%23')}", headers=VIEWER))


@FUZZ
@given(token=st.binary(max_size=40))
def test_no_token_breaks_the_api(api: TestClient, token: bytes) -> None:
    """Bytes that are no text, sent as a token, could make a process answer 500, or let somebody in."""
    answer = api.get("/v1/orders", headers={b"authorization": b"Bearer " + token})
    assert_problem(answer, 401, "unauthenticated")
