"""What the API says of itself: the problem catalogue and the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import NotFound
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import JsonResponse, operation
from orchestrator.web.auth import VIEWER
from orchestrator.web.problems import CATALOGUE

router = APIRouter(tags=["about"])


@router.get(
    "/problems/{code}",
    **operation(
        VIEWER,
        summary="Explain a problem",
        answers=models.KindView,
        example=examples.entry_of_catalogue(CATALOGUE["stale"]),
        problems=("not_found",),
    ),
)
def explain(code: str) -> Response:
    """What the problem of this code means and what to do next: the `type` of every error leads here."""
    kind = CATALOGUE.get(code)
    if kind is None:
        raise NotFound(f"There is no such problem. Known: {', '.join(CATALOGUE)}.")
    return JsonResponse(examples.entry_of_catalogue(kind))


@router.get(
    "/openapi.json",
    **operation(VIEWER, summary="The OpenAPI document", answers=models.Document, example={"openapi": "3.1.0"}),
)
def openapi(request: Request) -> Response:
    """This document."""
    return JsonResponse(request.app.openapi())
