"""Registered definitions: what orders are pinned to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.errors import NotFound
from orchestrator.web import params, views
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import JsonResponse, operation
from orchestrator.web.auth import VIEWER, services_of
from orchestrator.web.params import Cursor, Limit
from orchestrator.web.services import Services

router = APIRouter(tags=["definitions"])

With = Annotated[Services, Depends(services_of)]


@router.get(
    "/v1/definitions",
    **operation(VIEWER, summary="List definitions", answers=models.DefinitionsPage, example=examples.DEFINITIONS),
)
def list_definitions(services: With, cursor: Cursor = None, limit: Limit = params.LIMIT_DEFAULT) -> Response:
    """Every registered version, by name and version. An order stays with the version it began with."""
    found, next_cursor = services.queries.definitions(after=cursor, limit=limit)
    return JsonResponse({"items": [views.definition_view(row) for row in found], "next_cursor": next_cursor})


@router.get(
    "/v1/definitions/{name}/{version}",
    **operation(
        VIEWER, summary="Show a definition", answers=models.DefinitionDocuments, example=examples.DEFINITION, problems=("not_found",)
    ),
)
def show(
    services: With,
    name: Annotated[str, Path(pattern=f"^{NAME_PATTERN}$", description="Name of the definition.")],
    version: Annotated[int, Path(ge=1, le=params.VERSION_MAX, description="Its version.")],
) -> Response:
    """One version: the document as it was written, and the one with every default written out, on which its orders run."""
    row = services.queries.definition(name, version)
    if row is None:
        raise NotFound(f"There is no definition {name} version {version}.")
    return JsonResponse(views.definition_view(row, whole=True))
