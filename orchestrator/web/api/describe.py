"""What a route says of itself: who may call it, what it takes and answers, with examples. OpenAPI is made from it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Depends
from pydantic import BaseModel
from starlette.responses import Response

from orchestrator.app.fleet import KEYS_KEPT_FOR
from orchestrator.web.api import examples
from orchestrator.web.auth import Needs, Open
from orchestrator.web.params import etag, refuse_unknown
from orchestrator.web.problems import CATALOGUE, MEDIA_TYPE

PROBLEM_SCHEMA = {"$ref": "#/components/schemas/Problem"}
#: What any route with a token may answer.
_COMMON = ("unknown_parameter", "unauthenticated", "forbidden", "unprocessable", "internal", "unavailable")
_BODY = ("malformed_request", "too_large", "unsupported_media_type")
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "ETag of the order as you saw it: its seq, in quotes.",
    "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    "example": '"4"',
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETag of the order you have: 304 when it is still that.",
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "1 to 255 visible ASCII characters. A repeat with the same key gets the same order, also when its id is made here. "
        f"A key is kept for {KEYS_KEPT_FOR.days} days from its first use."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def operation(
    guard: Needs | Open,
    *,
    summary: str,
    answers: type[BaseModel] | None,
    example: Any,
    media_type: str = "application/json",
    problems: tuple[str, ...] = (),
    status: int = 200,
    also: dict[int | str, dict[str, Any]] | None = None,
    body: type[BaseModel] | None = None,
    body_example: Any = None,
    headers: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """The keyword arguments of a route: its guard first, then its parameters, then what OpenAPI says about it.

    `answers` None: text of `media_type`.
    """
    codes = problems + (_COMMON if isinstance(guard, Needs) else ("unknown_parameter", "internal")) + (_BODY if body else ())
    extra: dict[str, Any] = {"x-role": guard.role, "security": [{"bearer": []}]} if isinstance(guard, Needs) else {"security": []}
    if headers:
        extra["parameters"] = list(headers)
    if body is not None:
        content = {"schema": body.model_json_schema(), "example": body_example}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    return {
        "summary": summary,
        "status_code": status,
        "dependencies": [Depends(guard), Depends(refuse_unknown)],
        "responses": {
            status: {**({"model": answers} if answers else {}), "content": {media_type: {"example": example}}},
            **(also or {}),
            **_problem_responses(codes),
        },
        "response_class": JsonResponse if answers else Response,
        "openapi_extra": extra,
    }


class JsonResponse(Response):
    """JSON of a document that is shown as it is, its members in the order of the documentation: people read it too."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes: UTF-8."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def with_etag(document: Any, seq: int, *, status: int = 200, headers: dict[str, str] | None = None) -> JsonResponse:
    """An answer that says which seq of the order it shows. What it shows depends on the caller's role."""
    return JsonResponse(document, status, {"ETag": etag(seq), "Vary": "Authorization", **(headers or {})})


def _problem_responses(codes: tuple[str, ...]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in sorted(set(codes)):
        kind = CATALOGUE[code]
        response = by_status.setdefault(
            kind.status, {"description": kind.title, "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "examples": {}}}}
        )
        response["content"][MEDIA_TYPE]["examples"][code] = {"summary": kind.when, "value": examples.problem(kind)}
    return by_status
