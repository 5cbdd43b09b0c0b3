"""The quarantine: messages that could not be understood or applied, with their reasons."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import Response

from orchestrator.app import operate
from orchestrator.errors import NotFound
from orchestrator.store.quarantine import QuarantineRow
from orchestrator.web import params, views
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import JsonResponse, operation
from orchestrator.web.auth import VIEWER, Caller, Needs, audit_done, services_of
from orchestrator.web.params import Cursor, Limit, NameFilter, OrderId, RowIdPath
from orchestrator.web.services import Services

router = APIRouter(tags=["quarantine"])

REPLAYER = Needs(role="operator", act="replay")
DISCARDER = Needs(role="operator", act="discard")
Viewer = Annotated[Caller, Depends(VIEWER)]
With = Annotated[Services, Depends(services_of)]
Body = Annotated[dict[str, Any], Depends(params.json_body)]


def _resolution(guard: Needs, *, summary: str, answers: type[BaseModel], example: Any) -> dict[str, Any]:
    """What the routes say that resolve a message: each takes a reason."""
    return operation(
        guard,
        summary=summary,
        answers=answers,
        example=example,
        problems=("not_found", "conflict"),
        body=models.ReasonBody,
        body_example={"reason": "Ticket 4711: the participant is corrected"},
    )


@router.get(
    "/v1/quarantine",
    **operation(VIEWER, summary="List quarantined messages", answers=models.QuarantinePage, example=examples.QUARANTINE),
)
def list_quarantine(
    caller: Viewer,
    services: With,
    reason: NameFilter = None,
    type_: Annotated[NameFilter, Query(alias="type", description="A message type.")] = None,
    order: Annotated[OrderId | None, Query(description="An order id.")] = None,
    cursor: Cursor = None,
    limit: Limit = params.LIMIT_DEFAULT,
) -> Response:
    """Newest first. Equal messages are one row with a count."""
    rows, next_cursor = services.queries.quarantine(reason=reason, type=type_, order=order, after=cursor, limit=limit)
    return JsonResponse({"items": [views.quarantine_view(row, caller) for row in rows], "next_cursor": next_cursor})


@router.get(
    "/v1/quarantine/{quarantine_id}",
    **operation(
        VIEWER,
        summary="Show a quarantined message",
        answers=models.QuarantinedMessage,
        example=examples.MESSAGE,
        problems=("not_found",),
    ),
)
def show(caller: Viewer, services: With, quarantine_id: RowIdPath) -> Response:
    """With its headers and body, for operators."""
    return JsonResponse(views.quarantine_view(_find(services, quarantine_id), caller, whole=True))


@router.post(
    "/v1/admin/quarantine/{quarantine_id}/replays",
    **_resolution(REPLAYER, summary="Replay a quarantined message", answers=models.ReplayView, example=examples.REPLAY),
)
def replay(caller: Annotated[Caller, Depends(REPLAYER)], services: With, quarantine_id: RowIdPath, body: Body) -> Response:
    """Through the line, with its original id: it cannot be applied twice."""
    reason = params.parse(models.ReasonBody, body).reason
    replayed = operate.replay(services.gateway, quarantine_id, actor=caller.name, reason=reason)
    audit_done(services, caller, "replay", f"{quarantine_id}: {reason}")
    return JsonResponse(replayed)


@router.post(
    "/v1/admin/quarantine/{quarantine_id}/discards",
    **_resolution(DISCARDER, summary="Discard a quarantined message", answers=models.QuarantineView, example=examples.QUARANTINED),
)
def discard(caller: Annotated[Caller, Depends(DISCARDER)], services: With, quarantine_id: RowIdPath, body: Body) -> Response:
    """It is kept, marked as discarded, and no longer counted."""
    reason = params.parse(models.ReasonBody, body).reason
    operate.discard(services.gateway, quarantine_id, actor=caller.name, reason=reason)
    audit_done(services, caller, "discard", f"{quarantine_id}: {reason}")
    return JsonResponse(views.quarantine_view(_find(services, quarantine_id), caller))


def _find(services: Services, quarantine_id: str) -> QuarantineRow:
    row = services.queries.quarantined(quarantine_id)
    if row is None:
        raise NotFound(f"There is no quarantined message {quarantine_id}.")
    return row
