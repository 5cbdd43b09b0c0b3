"""The participants: who is well, who is silent, and what waits for whom (R8); and sending one again what it lost (R29)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from orchestrator.contract.canonical import parse_time
from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.errors import NotFound
from orchestrator.store.participants import Health
from orchestrator.web import params, views
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import JsonResponse, operation
from orchestrator.web.auth import VIEWER, Caller, Needs, audit_done, services_of
from orchestrator.web.services import Services

router = APIRouter(tags=["participants"])

RESYNCER = Needs(role="operator", act="resync")
With = Annotated[Services, Depends(services_of)]
Body = Annotated[dict[str, Any], Depends(params.json_body)]
Name = Annotated[str, Path(pattern=f"^{NAME_PATTERN}$", description="Name of the participant.")]


@router.get(
    "/v1/participants",
    **operation(VIEWER, summary="List participants", answers=models.ParticipantsPage, example=examples.PARTICIPANTS),
)
def list_participants(services: With) -> Response:
    """Everyone whom a registered definition asks, by name. They are few: always one page."""
    return JsonResponse({"items": [views.participant_view(one) for one in services.queries.participants()], "next_cursor": None})


@router.get(
    "/v1/participants/{name}",
    **operation(
        VIEWER, summary="Show a participant", answers=models.ParticipantView, example=examples.PARTICIPANT, problems=("not_found",)
    ),
)
def show(services: With, name: Name) -> Response:
    """One of them."""
    return JsonResponse(views.participant_view(_find(services, name)))


@router.post(
    "/v1/admin/participants/{name}/resyncs",
    **operation(
        RESYNCER,
        summary="Send a participant again what is outstanding",
        answers=models.ParticipantView,
        example={**examples.PARTICIPANT, "state": "recovering", "resync_under_way": True},
        problems=("not_found",),
        status=202,
        body=models.ResyncBody,
        body_example={"reason": "Ticket 4711: restored from the backup of noon", "since": "2026-11-21T12:00:00Z"},
    ),
)
def resync(caller: Annotated[Caller, Depends(RESYNCER)], services: With, name: Name, body: Body) -> Response:
    """The same commands under the same ids, at the pace of a recovery: asking it does no harm. A silent one gets them later."""
    wanted = params.parse(models.ResyncBody, body)
    _find(services, name)
    services.begin_resync(name, None if wanted.since is None else parse_time(wanted.since))
    audit_done(services, caller, "resync", f"{name}: {wanted.reason}")
    return JsonResponse(views.participant_view(_find(services, name)), 202)


def _find(services: Services, name: str) -> Health:
    for one in services.queries.participants():
        if one.name == name:
            return one
    raise NotFound(f"There is no participant {name}.")
