"""The API: one FastAPI application made from the services it is given."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator import logs
from orchestrator.errors import EscrowError, InvariantViolated, JournalDamaged, RequestError, TemporaryError
from orchestrator.web import params, problems
from orchestrator.web.api import about, acts, definitions, health, models, orders, participants, quarantine, travel
from orchestrator.web.auth import Needs, Open
from orchestrator.web.services import Services
from orchestrator.web.shield import Shield

log = logs.get(__name__)

ROUTERS = (
    orders.router,
    travel.router,
    acts.router,
    definitions.router,
    participants.router,
    quarantine.router,
    health.router,
    about.router,
)
#: The API's own version; `/v1` in the addresses changes only when a caller would break.
API_VERSION = "1"


class Api(FastAPI):
    """FastAPI with our OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _openapi(self)
        return self.openapi_schema


def create_app(services: Services) -> FastAPI:
    """The application. `def` routes run in threads; the services are called from many at once.

    Raises: InvariantViolated when a route names neither a role nor that it is open.
    """
    app = Api(title="Escrow", version=API_VERSION, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.add_middleware(Shield)
    for router in ROUTERS:
        # The routes themselves, rather than include_router(), which hides them: the guards are checked below.
        app.router.routes.extend(router.routes)
    guards(app)
    app.add_exception_handler(EscrowError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_status)
    return app


def guards(app: FastAPI) -> dict[tuple[str, str], Needs | Open]:
    """Who may call what, by (method, path). Raises: InvariantViolated for a route without exactly one guard."""
    found: dict[tuple[str, str], Needs | Open] = {}
    for route in app.routes:
        path = getattr(route, "path", repr(route))
        inside = _guards(route.dependant) if isinstance(route, APIRoute) else set()
        if not isinstance(route, APIRoute) or len(inside) != 1:
            raise InvariantViolated(f"The route {path} names {len(inside)} guards; it must name one.")
        found |= {(method, path): next(iter(inside)) for method in route.methods or ()}
    return found


def _guards(dependant: Dependant) -> set[Needs | Open]:
    own = {dependant.call} if isinstance(dependant.call, Needs | Open) else set()
    return own.union(*(_guards(inner) for inner in dependant.dependencies))


async def _on_error(request: Request, error: Exception) -> Response:
    """Errors of the taxonomy. Those of the caller are the caller's; the others are logged."""
    error = cast(EscrowError, error)
    answer = problems.respond_to(error, instance=request.url.path)
    if answer.status_code >= 500 and not isinstance(error, RequestError):
        where = {"method": request.method, "path": request.url.path}
        if isinstance(error, TemporaryError):
            log.warning("A request met a service that does not answer", action="request_unavailable", error=str(error), **where)
        elif isinstance(error, JournalDamaged):
            log.error("A request met a damaged journal", action="journal_damaged", order_id=error.order_id, error=str(error), **where)
        else:
            log.error("A request ended in a bug of ours", action="request_failed", exc_info=error, **where)
    return answer


async def _on_invalid(request: Request, error: Exception) -> Response:
    findings = cast(RequestValidationError, error).errors()
    return problems.respond_to(params.unprocessable(findings), instance=request.url.path)


async def _on_status(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return problems.respond_to_status(error.status_code, instance=request.url.path, headers=headers)


def _methods(request: Request) -> list[str]:
    """Every method that the path takes; the framework names those of the first route alone."""
    routes = [route for route in request.app.routes if isinstance(route, APIRoute)]
    here = [route for route in routes if route.path_regex.match(request.scope["path"])]
    return sorted({method for route in here for method in route.methods or ()})


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Escrow",
        version=API_VERSION,
        summary="Where every order stands, and what can be done about it.",
        description="Every error is `application/problem+json` (RFC 9457); its `type` leads to an explanation. Times are RFC 3339 UTC. "
        "`x-role` of an operation is the least role that may call it: viewer < client < operator < admin.",
        routes=app.routes,
    )
    _restore_examples(app, document)
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = models.ProblemView.model_json_schema()
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return document


def _restore_examples(app: FastAPI, document: dict[str, Any]) -> None:
    """Put the examples of answers back whole: the framework drops every null of the document, theirs too."""
    for route in (route for route in app.routes if isinstance(route, APIRoute)):
        for method in route.methods or ():
            shown = document["paths"][route.path][method.lower()]["responses"][str(route.status_code)]["content"]
            for media_type, content in route.responses[route.status_code or 200]["content"].items():
                shown[media_type]["example"] = content["example"]
