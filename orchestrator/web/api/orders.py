"""Orders: place one, read one, list them, read a history."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.app import operate
from orchestrator.contract import canonical, is_order_id
from orchestrator.errors import InvariantViolated, NotFound
from orchestrator.saga.order import Order, Status
from orchestrator.web import params, views
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import IDEMPOTENCY_KEY, IF_NONE_MATCH, JsonResponse, operation, with_etag
from orchestrator.web.auth import CLIENT, VIEWER, Caller, services_of
from orchestrator.web.params import Cursor, Limit, NameFilter, OrderIdPath, VersionFilter
from orchestrator.web.problems import ApiError
from orchestrator.web.services import Services

router = APIRouter(tags=["orders"])

Viewer = Annotated[Caller, Depends(VIEWER)]
With = Annotated[Services, Depends(services_of)]
Body = Annotated[dict[str, Any], Depends(params.json_body)]


@router.post(
    "/v1/orders",
    **operation(
        CLIENT,
        summary="Place an order",
        answers=models.OrderView,
        example=examples.ORDER,
        status=201,
        also={200: {"model": models.OrderView, "description": "The order was placed before, with equal data."}},
        problems=("not_found", "conflict", "idempotency_key_reused"),
        body=models.PlaceOrder,
        body_example=examples.PLACE,
        headers=(IDEMPOTENCY_KEY,),
    ),
)
def place(
    caller: Annotated[Caller, Depends(CLIENT)],
    services: With,
    key: Annotated[str | None, Depends(params.idempotency_key)],
    body: Body,
) -> Response:
    """201 with the new order, 200 with the existing one when its data is equal, 409 when it is not.

    The id is put into the data, under the definition's key, where that is missing, before data is compared. An `Idempotency-Key` is
    stored before the order is placed, and is kept for days: whoever never saw the answer asks again, and gets the order of the first time.
    """
    wish = params.parse(models.PlaceOrder, body)
    rulebook = services.registry.latest(wish.definition)
    data_key = rulebook.key
    order_id = _order_id(wish, data_key) or services.new_id()
    # Before the key is claimed: what is refused for its data can be corrected under the same key.
    operate.refuse_oversized(rulebook, order_id, {**wish.data, data_key: order_id}, services.now())
    if key is not None:
        order_id = _claim(services, caller, key, body, order_id)
    data = {**wish.data, data_key: order_id}
    placed = operate.place(services.gateway, definition=wish.definition, order_id=order_id, data=data, actor=caller.name)
    order = services.queries.order(placed.order_id)
    if order is None:
        raise InvariantViolated(f"The order {placed.order_id} was placed and cannot be found.")
    location = {"Location": f"/v1/orders/{order.order_id}"}
    return with_etag(_view(services, order, caller), order.seq, status=201 if placed.created else 200, headers=location)


@router.get(
    "/v1/orders",
    **operation(VIEWER, summary="List orders", answers=models.OrdersPage, example=examples.ORDERS),
)
def list_orders(
    caller: Viewer,
    services: With,
    state: NameFilter = None,
    status: Annotated[Status | None, Query()] = None,
    waiting_on: Annotated[NameFilter, Query(description="A participant, or `operator`: orders that wait for it, among others.")] = None,
    overdue: Annotated[params.OnlyTrue | None, Query(description="Only orders whose deadline has passed.")] = None,
    definition: NameFilter = None,
    version: VersionFilter = None,
    label: params.LabelFilter = [],  # noqa: B006  # FastAPI copies it
    cursor: Cursor = None,
    limit: Limit = params.LIMIT_DEFAULT,
) -> Response:
    """Newest opened first. A cursor goes on with the same filters."""
    params.refuse_lone_version(definition, version)
    found, next_cursor = services.queries.orders(
        state=state,
        status=status,
        waiting_on=waiting_on,
        overdue=services.queries.now() if overdue else None,
        definition=definition,
        version=version,
        labels=params.label_pairs(label),
        after=cursor,
        limit=limit,
    )
    return JsonResponse({"items": [_view(services, order, caller) for order in found], "next_cursor": next_cursor})


@router.get(
    "/v1/orders/{order_id}",
    **operation(
        VIEWER,
        summary="Show an order",
        answers=models.OrderView,
        example=examples.ORDER,
        also={304: {"description": "The order is still the one of `If-None-Match`."}},
        problems=("not_found",),
        headers=(IF_NONE_MATCH,),
    ),
)
def show(request: Request, caller: Viewer, services: With, order_id: OrderIdPath) -> Response:
    """Where the order stands, whom it waits for, and what this caller may do with it. Its ETag is its seq."""
    order = _find(services, order_id)
    if params.is_unchanged(request, order.seq):
        return Response(status_code=304, headers={"ETag": params.etag(order.seq), "Vary": "Authorization"})
    return with_etag(_view(services, order, caller), order.seq)


@router.get(
    "/v1/orders/{order_id}/history",
    **operation(VIEWER, summary="Show an order's history", answers=models.HistoryPage, example=examples.HISTORY, problems=("not_found",)),
)
def history(
    caller: Viewer,
    services: With,
    order_id: OrderIdPath,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before.")] = None,
    limit: Limit = params.LIMIT_DEFAULT,
) -> Response:
    """Everything that happened to the order, oldest first. What commands carried is shown to operators."""
    _find(services, order_id)
    entries = services.queries.history(order_id, after_seq=int(cursor or 0), limit=limit + 1)
    page = entries[:limit]
    next_cursor = str(page[-1].seq) if len(entries) > limit else None
    return JsonResponse({"items": [views.entry_view(entry, caller) for entry in page], "next_cursor": next_cursor})


@router.get(
    "/v1/orders/{order_id}/graph",
    **operation(VIEWER, summary="Draw an order", answers=models.GraphView, example=examples.GRAPH, problems=("not_found",)),
)
def graph(services: With, order_id: OrderIdPath) -> Response:
    """The states of the order's version as a Mermaid diagram: where it is, where it was, and where it can come to next."""
    order = _find(services, order_id)
    rulebook = services.registry.rulebook(order.definition, order.version)
    return JsonResponse(views.graph_view(rulebook, order, services.queries.states(order_id)))


def _order_id(wish: models.PlaceOrder, data_key: str) -> str | None:
    """The id that the body names, in either place. Raises: ApiError when there are two, or it is none."""
    in_data = wish.data.get(data_key, wish.order_id)
    if in_data is not None and not is_order_id(in_data):
        raise ApiError("unprocessable", f"data.{data_key} is not an order id: 1 to 128 characters of A-Z a-z 0-9 . _ : ~ -")
    if data_key in wish.data and in_data is None:
        raise ApiError("unprocessable", f"data.{data_key} is null; leave it out, or give the order id.")
    if wish.order_id is not None and in_data != wish.order_id:
        raise ApiError("unprocessable", f"order_id and data.{data_key} differ.")
    return in_data


def _claim(services: Services, caller: Caller, key: str, body: dict[str, Any], order_id: str) -> str:
    """The order id that the key stands for. Raises: ApiError `idempotency_key_reused`."""
    fingerprint = hashlib.sha256(canonical.encode(body)).hexdigest()
    claimed = services.claim_key(key=key, actor=caller.name, fingerprint=fingerprint, order_id=order_id, now=services.now())
    if claimed.fingerprint != fingerprint:
        raise ApiError("idempotency_key_reused", order_id=claimed.order_id)
    return claimed.order_id


def _find(services: Services, order_id: str) -> Order:
    order = services.queries.order(order_id)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    return order


def _view(services: Services, order: Order, caller: Caller) -> dict[str, Any]:
    return views.order_view(services.registry.rulebook(order.definition, order.version), order, caller)
