"""What the tests of the web layer say often."""

from __future__ import annotations

from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

DATA: dict[str, Any] = {
    "lines": [{"sku": "TEA-1", "quantity": 2}],
    "amount_minor": 1980,
    "currency": "EUR",
    "customer_email": "canary-7d1f@example.org",
}
REASON = {"reason": "Ticket 4711"}


def as_role(role: str, **headers: str) -> dict[str, str]:
    """Headers of a caller with this role."""
    return {"Authorization": f"Bearer escrow_{role}", **{name.replace("_", "-"): value for name, value in headers.items()}}


def place(api: TestClient, order_id: str = "order-1", **headers: str) -> Response:
    """Place an order of the shipped definition."""
    body = {"definition": "order", "order_id": order_id, "data": DATA}
    return api.post("/v1/orders", json=body, headers=as_role("client", **headers))


def act(api: TestClient, path: str, *, seq: int = 1, role: str = "operator", order_id: str = "order-1", **body: object) -> Response:
    """Do an act on an order."""
    headers = as_role(role, If_Match=f'"{seq}"')
    return api.post(f"/v1/admin/orders/{order_id}/{path}", json={**REASON, **body}, headers=headers)


def assert_problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """The answer is the problem of this code, as RFC 9457 wants it."""
    assert status == response.status_code, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert code == problem["code"]
    assert f"/problems/{code}" == problem["type"]
    assert status == problem["status"]
    assert problem["detail"]
    assert problem["title"]
    return problem
