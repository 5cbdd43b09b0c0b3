"""What every process serves on `ESCROW_METRICS_ADDRESS`: /healthz, /readyz and /metrics, for probes and scrapers, without tokens."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from orchestrator.web import problems
from orchestrator.web.services import Services

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def ready(services: Services) -> Response:
    """The answer of `/readyz`, at every door: 200, or the problem `not_ready`; either says what was found."""
    found = services.readiness()
    checks = dict(found.checks)
    if found.missing:
        members = {"missing": found.missing, "checks": checks}
        return problems.respond("not_ready", f"Missing: {', '.join(found.missing)}.", instance="/readyz", members=members)
    return JSONResponse({"status": "ready", "checks": checks})


def create_probes(services: Services) -> FastAPI:
    """The application. Bind it to loopback or to a network that only scrapers reach."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        return ready(services)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics_text(), media_type=METRICS_TYPE)

    return app
