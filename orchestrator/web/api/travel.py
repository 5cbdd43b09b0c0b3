"""Time travel over the API: an order as it stood after an entry, or at an instant."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.app import travel
from orchestrator.contract import canonical
from orchestrator.web import params, views
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import IF_NONE_MATCH, operation, with_etag
from orchestrator.web.auth import VIEWER, Caller, services_of
from orchestrator.web.params import OrderIdPath
from orchestrator.web.problems import ApiError
from orchestrator.web.services import Services

router = APIRouter(tags=["orders"])

#: What stood after an entry stands for ever. For one reader alone, as another token may see less.
_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_seq = re.compile("[0-9]{1,18}")
_DESCRIPTION = "An entry's `seq`, or a time (RFC 3339 with a zone)."


@router.get(
    "/v1/orders/{order_id}/at/{when}",
    **operation(
        VIEWER,
        summary="Show an order as it stood",
        answers=models.ThenView,
        example=examples.THEN,
        also={304: {"description": "It stood as in `If-None-Match`."}},
        problems=("not_found", "journal_damaged"),
        headers=(IF_NONE_MATCH,),
    ),
)
def at(
    request: Request,
    caller: Annotated[Caller, Depends(VIEWER)],
    services: Annotated[Services, Depends(services_of)],
    order_id: OrderIdPath,
    when: Annotated[str, Path(max_length=64, description=_DESCRIPTION)],
) -> Response:
    """State, ledger, deadlines, and what was outstanding then; folded from its history.

    The answer for a seq never changes, and says so to caches. That for a time names the address of its seq in `Content-Location`.
    404 when the order has no such entry, or was not open yet; 422 for a time still to come; 500 when its history is damaged before then.
    """
    if _seq.fullmatch(when):
        then, headers = travel.after_entry(services.queries, order_id, int(when)), _FOR_EVER
    else:
        try:
            instant = canonical.parse_time(when)
        except (ValueError, OverflowError) as error:
            detail = "Neither an entry's seq, as 17, nor a time with a zone, as 2026-11-01T12:00:00Z."
            raise ApiError("unprocessable", detail) from error
        then = travel.at_time(services.queries, order_id, instant, services.queries.now())
        headers = {"Content-Location": f"/v1/orders/{order_id}/at/{then.entry.seq}"}
    order = then.order
    if params.is_unchanged(request, order.seq):
        return Response(status_code=304, headers={"ETag": params.etag(order.seq), "Vary": "Authorization", **headers})
    rulebook = services.registry.rulebook(order.definition, order.version)
    return with_etag(views.then_view(rulebook, then, caller), order.seq, headers=headers)
