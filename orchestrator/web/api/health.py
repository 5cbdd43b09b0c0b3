"""Health, readiness and metrics of the API process."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import JsonResponse, operation
from orchestrator.web.auth import OPEN, VIEWER, services_of
from orchestrator.web.probes import METRICS_TYPE, ready
from orchestrator.web.services import Services

router = APIRouter(tags=["health"])

With = Annotated[Services, Depends(services_of)]


@router.get("/healthz", **operation(OPEN, summary="Is the process there", answers=models.HealthView, example=examples.HEALTH))
async def healthz() -> Response:
    """The process answers. Asks no service: an outage of the database must not restart every process.

    On the event loop, so that it answers also when every thread is waiting for the database.
    """
    return JsonResponse({"status": "ok"})


@router.get(
    "/readyz",
    **operation(
        OPEN, summary="Can requests be taken", answers=models.ReadyView, example=examples.READY, problems=("not_ready", "unavailable")
    ),
)
def readyz(services: With) -> Response:
    """503 with what is missing: the database, or the metronome.

    The broker's state is shown and not needed: while it is away orders and acts are taken, and their commands wait in the outbox.
    """
    return ready(services)


@router.get(
    "/metrics",
    **operation(VIEWER, summary="Metrics for Prometheus", answers=None, example=examples.METRICS, media_type="text/plain"),
)
def metrics(services: With) -> Response:
    """The same as on `ESCROW_METRICS_ADDRESS`, which scrapers use; here it needs a token like everything else."""
    return Response(services.metrics_text(), media_type=METRICS_TYPE)
