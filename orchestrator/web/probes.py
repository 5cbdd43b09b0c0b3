"""What every process serves on `ESCROW_METRICS_ADDRESS`: /healthz, /readyz and /metrics, for probes and scrapers, without tokens."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from orchestrator.web.services import Services

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_probes(services: Services) -> FastAPI:
    """The application. Bind it to loopback or to a network that only scrapers reach."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        checks = dict(services.readiness())
        is_ready = all(checks.values())
        return JSONResponse({"status": "ready" if is_ready else "not_ready", "checks": checks}, status_code=200 if is_ready else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(services.metrics_text(), media_type=METRICS_TYPE)

    return app
