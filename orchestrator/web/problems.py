"""The problem catalogue (RFC 9457): every error that the API answers with, what it means, and what to do next.

One table feeds the answers, the OpenAPI document and `GET /problems/{code}`. A code, once published, keeps its meaning and status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from orchestrator import errors
from orchestrator.contract import canonical

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One entry of the catalogue."""

    code: str
    status: int
    title: str
    #: When it happens.
    when: str
    #: What the caller should do.
    next: str
    #: Whether the same request can succeed later, unchanged.
    retryable: bool = False

    @property
    def type(self) -> str:
        """The `type` member: a relative URI that is served."""
        return f"/problems/{self.code}"


def _catalogue(*kinds: Kind) -> dict[str, Kind]:
    return {kind.code: kind for kind in kinds}


CATALOGUE = _catalogue(
    Kind(
        code="malformed_request",
        status=400,
        title="The request cannot be read",
        when="The body is not a JSON object, nests too deep, holds NaN, NUL or a lone surrogate; or a header is not of its form.",
        next="Correct what `detail` names.",
    ),
    Kind(
        code="unknown_parameter",
        status=400,
        title="A query parameter is not known",
        when="A query parameter is not one of this address, or is given twice. A filter is never ignored.",
        next="Use the parameters that `allowed` lists, each once.",
    ),
    Kind(
        code="unauthenticated",
        status=401,
        title="No valid token",
        when="The request carries no bearer token, or one that is unknown or revoked.",
        next="Send `Authorization: Bearer <token>`; `escrow token create` makes one.",
    ),
    Kind(
        code="forbidden",
        status=403,
        title="Your role does not allow this",
        when="The role of the token is lower than the one needed. A denied act is noted in the audit.",
        next="Ask somebody with the role that `detail` names.",
    ),
    Kind(
        code="not_found",
        status=404,
        title="There is no such thing here",
        when="The address, order, definition, quarantined message or problem code does not exist.",
        next="Check the address and the id; ids are compared bytewise.",
    ),
    Kind(
        code="method_not_allowed",
        status=405,
        title="The address does not take this method",
        when="The address exists, with other methods.",
        next="Use a method that the header `Allow` lists.",
    ),
    Kind(
        code="conflict",
        status=409,
        title="This cannot be done at this moment",
        when="The order exists with other data, or is at a point where the act is not possible.",
        next="Read the order: `allowed_acts` says what can be done now.",
    ),
    Kind(
        code="stale",
        status=412,
        title="The order changed since you read it",
        when="The seq of `If-Match` is not the order's present one. Nothing was done.",
        next="Read the order again, decide again, and send its new ETag.",
    ),
    Kind(
        code="too_large",
        status=413,
        title="The body is too large",
        when="The body has more than 65,536 bytes.",
        next="Send less; keep large things elsewhere and send where they are.",
    ),
    Kind(
        code="unsupported_media_type",
        status=415,
        title="The body is not JSON",
        when="The header `Content-Type` names something other than JSON.",
        next="Send `Content-Type: application/json`.",
    ),
    Kind(
        code="unprocessable",
        status=422,
        title="The content is not acceptable",
        when="A field or parameter is missing, unknown, or not of its kind; or ids that must agree differ.",
        next="Correct what `detail` and `errors` name.",
    ),
    Kind(
        code="idempotency_key_reused",
        status=422,
        title="The idempotency key was used for another request",
        when="This `Idempotency-Key` was used before, by this token, with another body.",
        next="Use a new key for a new order, and the same body for the same key.",
    ),
    Kind(
        code="if_match_required",
        status=428,
        title="Say which state of the order you saw",
        when="An act comes without `If-Match`.",
        next="Read the order, and send its ETag as `If-Match`.",
    ),
    Kind(
        code="internal",
        status=500,
        title="Something is wrong in Escrow",
        when="A bug in Escrow. It is in the log, with its traceback.",
        next="Report it. Repeating is safe: an order opens once, and acts check the seq.",
    ),
    Kind(
        code="journal_damaged",
        status=500,
        title="The history of this order is damaged",
        when="An entry of the order's journal is missing, or was altered after it was written. `seq` is the first such entry.",
        next="Run `escrow verify`, and restore this order's journal from a backup. How it stood before `seq` can be asked for.",
    ),
    Kind(
        code="not_ready",
        status=503,
        title="Not ready for requests",
        when="`/readyz` finds something missing that requests need.",
        next="Wait for what `missing` names.",
        retryable=True,
    ),
    Kind(
        code="unavailable",
        status=503,
        title="A service that Escrow needs does not answer",
        when="The database or the line does not answer in time. Whether it was done is not known.",
        next="Repeat: an order opens once, and an act that was done answers 412.",
        retryable=True,
    ),
)

_BY_STATUS = {400: "malformed_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}
_BY_ERROR: tuple[tuple[type[errors.EscrowError], str], ...] = (
    (errors.Forbidden, "forbidden"),
    (errors.NotFound, "not_found"),
    (errors.Conflict, "conflict"),
    (errors.Stale, "stale"),
    (errors.Unprocessable, "unprocessable"),
    (errors.RequestError, "malformed_request"),
    (errors.OversizedMessage, "too_large"),
    (errors.MessageError, "malformed_request"),
    (errors.DataRefused, "unprocessable"),
    (errors.TemporaryError, "unavailable"),
    (errors.JournalDamaged, "journal_damaged"),
)


class ApiError(errors.RequestError):
    """A request that the web layer itself refuses, by a code of the catalogue."""

    def __init__(self, code: str, detail: str | None = None, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        self.kind = CATALOGUE[code]
        super().__init__(detail or self.kind.when)
        self.headers = headers or {}
        #: Members of the problem beyond those of RFC 9457.
        self.members = members


def respond(
    code: str, detail: str, *, instance: str, headers: dict[str, str] | None = None, members: dict[str, Any] | None = None
) -> Response:
    """The answer for one problem. `instance` is the path asked for, decoded."""
    kind = CATALOGUE[code]
    document = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": quote(instance, errors="replace"),
        "code": kind.code,
        "retryable": kind.retryable,
        "next": kind.next,
        **(members or {}),
    }
    extra = {"Retry-After": "1"} if kind.retryable else {}
    return Response(canonical.encode(document), kind.status, {**extra, **(headers or {})}, MEDIA_TYPE)


def respond_to(error: errors.EscrowError, *, instance: str) -> Response:
    """The answer for an error of the taxonomy. An error of ours says nothing about its cause: the log does."""
    if isinstance(error, ApiError):
        return respond(error.kind.code, str(error), instance=instance, headers=error.headers, members=error.members)
    members = {"order_id": error.order_id, "seq": error.seq} if isinstance(error, errors.JournalDamaged) else None
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return respond(code, _printable(str(error)), instance=instance, members=members)
    return internal(instance=instance)


def respond_to_status(status: int, *, instance: str, headers: dict[str, str] | None = None) -> Response:
    """The answer for an error that the framework found by itself."""
    code = _BY_STATUS.get(status, "malformed_request" if status < 500 else "internal")
    return respond(code, CATALOGUE[code].when, instance=instance, headers=headers)


def internal(*, instance: str) -> Response:
    """The answer for a bug of ours."""
    return respond("internal", CATALOGUE["internal"].when, instance=instance)


def _printable(text: str) -> str:
    """Callers' text may come back inside a message; what is not text must not break the answer."""
    return text.encode(errors="replace").decode()
