"""Who may do what: bearer tokens, four roles, default deny.

Every route names the role it needs by a `Needs` among its dependencies; `create_app` refuses to start with a route that names none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from starlette.requests import Request

from orchestrator.web.problems import ApiError
from orchestrator.web.services import Services

Role = Literal["viewer", "client", "operator", "admin"]
#: From the least to the most; a role may do all that those before it may.
ROLES: tuple[Role, ...] = get_args(Role)
#: Longer ones are nobody's, and not worth hashing.
TOKEN_CHARS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    #: The token's name: the actor of everything it does.
    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether the caller has this role or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """A dependency: the caller, if it has the role. Raises: ApiError `unauthenticated`, `forbidden`."""

    role: Role
    #: The act this route does, for the audit of those denied; None for reading and placing.
    act: str | None = None

    def __call__(self, request: Request) -> Caller:
        """Find the caller and check its role."""
        services = services_of(request)
        caller = _caller(request, services)
        if not caller.may(self.role):
            detail = f"This needs the role {self.role}; the token {caller.name!r} has {caller.role}."
            if self.act is not None:
                order_id = request.path_params.get("order_id")
                audit_denied(services, caller, self.act, order_id, detail)
            raise ApiError("forbidden", detail)
        return caller


class Open:
    """A dependency: no token needed. Health alone is open."""

    def __call__(self) -> None:
        """Let everyone in."""


VIEWER = Needs(role="viewer")
CLIENT = Needs(role="client")
OPEN = Open()


def services_of(request: Request) -> Services:
    """A dependency: what this application was created with."""
    return cast(Services, request.app.state.services)


def audit_denied(services: Services, caller: Caller, act: str, order_id: str | None, detail: str) -> None:
    """Note an act that was denied."""
    services.audit(at=services.now(), actor=caller.name, act=act, order_id=order_id, outcome="forbidden", detail=detail)


def audit_done(services: Services, caller: Caller, act: str, detail: str) -> None:
    """Note an act on no single order: no order's history holds it."""
    services.audit(at=services.now(), actor=caller.name, act=act, order_id=None, outcome="done", detail=detail)


def _caller(request: Request, services: Services) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_CHARS_MAX:
        raise _unauthenticated("No bearer token was sent.")
    row = services.tokens.check(token)
    if row is None or row.revoked_at is not None or row.role not in ROLES:
        raise _unauthenticated("The token is unknown or revoked.")
    return Caller(name=row.name, role=row.role)


def _unauthenticated(detail: str) -> ApiError:
    return ApiError("unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="escrow"'})
