"""What requests carry: query parameters, the body, headers. Nothing unknown is ignored, nothing is read twice."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_origin

from fastapi import Path, Query
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator, BaseModel, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect, Request

from orchestrator.contract import canonical, is_order_id
from orchestrator.contract.envelope import BODY_BYTES_MAX
from orchestrator.contract.ids import ORDER_ID_PATTERN
from orchestrator.saga.labels import LABELS_MAX, VALUE_CHARS_MAX
from orchestrator.web.problems import ApiError

Model = TypeVar("Model", bound=BaseModel)

#: At most so many items a page, and so many when nothing is said.
LIMIT_MAX = 200
LIMIT_DEFAULT = 50
#: Versions of a definition are 1 to this.
VERSION_MAX = 1_000_000
#: An order's seq fits a 64-bit column; no order has this many entries.
_SEQ_DIGITS_MAX = 18
_KEY_CHARS_MAX = 255
_seq_tag = re.compile(rf'"([0-9]{{1,{_SEQ_DIGITS_MAX}}})"')
_visible = re.compile(rf"[\x21-\x7e]{{1,{_KEY_CHARS_MAX}}}")


def _order_id(text: str) -> str:
    if not is_order_id(text):
        raise PydanticCustomError("order_id", "An order id is 1 to 128 characters of A-Z a-z 0-9 . _ : ~ -")
    return text


def _time(text: str) -> datetime:
    try:
        return canonical.parse_time(text)
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("time", "A time is RFC 3339 with a zone, as 2026-11-01T12:00:00Z") from error


def _only_true(text: str) -> str:
    if text != "true":
        raise PydanticCustomError("only_true", "Only true is taken; without this parameter everything is listed")
    return text


OrderId = Annotated[str, AfterValidator(_order_id)]
#: A filter that is there or not: `false` could mean the others, or all.
OnlyTrue = Annotated[str, AfterValidator(_only_true), WithJsonSchema({"type": "string", "const": "true"})]
#: Checked text; `parse_time` reads it.
TimeText = Annotated[str, AfterValidator(lambda text: canonical.format_time(_time(text)))]
OrderIdPath = Annotated[OrderId, Path(description=f"Order id: `{ORDER_ID_PATTERN}`, compared bytewise.")]
RowIdPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$", description="Id of the quarantined message.")]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items a page.")]
Cursor = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_=-]{1,512}$", description="`next_cursor` of the page before. Opaque.")]
#: `NAME:VALUE`, read by `label_pairs`. Repeated: all must match.
LabelFilter = Annotated[
    list[Annotated[str, Field(pattern=rf"^[A-Za-z0-9_-]{{1,64}}:[^\x00]{{1,{VALUE_CHARS_MAX}}}$")]],
    Query(max_length=LABELS_MAX, description="`NAME:VALUE`: orders with this label. Repeated: with all of them."),
]
NameFilter = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
VersionFilter = Annotated[int | None, Query(ge=1, le=VERSION_MAX, description="Orders of this version of `definition`, given with it.")]


def refuse_unknown(request: Request) -> None:
    """A dependency: query parameters that the route does not declare, or given twice where one is meant, are an error (400)."""
    repeatable = _query_names(request.scope["route"].dependant)
    allowed = sorted(repeatable)
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in allowed:
            takes = f"Allowed: {', '.join(allowed)}." if allowed else "This address takes none."
            raise ApiError("unknown_parameter", f"{_shown(name)} is no query parameter here. {takes}", allowed=allowed)
        if given.count(name) > 1 and not repeatable[name]:
            raise ApiError("unknown_parameter", f"{_shown(name)} is given more than once.", allowed=allowed)


async def json_body(request: Request) -> dict[str, Any]:
    """A dependency: the body as a JSON object.

    Read here rather than by the framework: after the token is checked, no further than the limit, and by the rules of the contract
    (no NaN, no NUL, bounded depth). Raises: ApiError `unsupported_media_type`, `too_large`; MalformedMessage.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ApiError("unsupported_media_type", "The body must be application/json.")
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > BODY_BYTES_MAX:
                raise ApiError("too_large", f"At most {BODY_BYTES_MAX} bytes are taken.", limit_bytes=BODY_BYTES_MAX)
    except ClientDisconnect as error:
        raise ApiError("malformed_request", "The body ended early.") from error
    body = canonical.decode(bytes(raw))
    if not isinstance(body, dict):
        raise ApiError("malformed_request", "The body must be a JSON object.")
    return body


def parse(model: type[Model], body: dict[str, Any]) -> Model:
    """The body as a value of the model. Raises: ApiError `unprocessable`, with each finding."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise unprocessable(error.errors(include_url=False, include_context=False)) from error


def unprocessable(findings: Any) -> ApiError:
    """The problem for findings of pydantic. Values are left out: they may be secrets."""
    problems = [
        {"location": ".".join(_shown(str(part)) for part in finding["loc"]), "message": _shown(finding["msg"], 200)} for finding in findings
    ]
    detail = "; ".join(f"{problem['location']}: {problem['message']}" for problem in problems[:3])
    return ApiError("unprocessable", detail or None, errors=problems[:20])


def seen_seq(request: Request) -> int:
    """A dependency: the seq of `If-Match: "<seq>"`. Raises: ApiError `if_match_required`, `malformed_request`."""
    given = request.headers.getlist("if-match")
    if not given:
        raise ApiError("if_match_required")
    match = _seq_tag.fullmatch(given[0].strip())
    if len(given) > 1 or match is None:
        raise ApiError("malformed_request", 'If-Match must be one ETag of the order, as "17" with the quotes.')
    return int(match[1])


def is_unchanged(request: Request, seq: int) -> bool:
    """Whether `If-None-Match` names this seq; anything that is no ETag of ours matches nothing."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in tags or etag(seq) in tags


def etag(seq: int) -> str:
    """The ETag of an order at a seq."""
    return f'"{seq}"'


def idempotency_key(request: Request) -> str | None:
    """A dependency: the `Idempotency-Key`, if any. Raises: ApiError `malformed_request`."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _visible.fullmatch(given[0]) is None:
        raise ApiError("malformed_request", f"Idempotency-Key must be one text of 1 to {_KEY_CHARS_MAX} visible ASCII characters.")
    return given[0]


def label_pairs(filters: list[str]) -> list[tuple[str, str]]:
    """(name, value) of each `LabelFilter`."""
    return [(name, value) for name, _, value in (text.partition(":") for text in filters)]


def refuse_lone_version(definition: str | None, version: int | None) -> None:
    """A version is one of a definition. Raises: ApiError `unprocessable`."""
    if version is not None and definition is None:
        message = "A version is one of a definition: give `definition` with it."
        raise ApiError("unprocessable", message, errors=[{"location": "query.version", "message": message}])


def _query_names(dependant: Dependant) -> dict[str, bool]:
    """The query parameters that a route declares, and whether each may be repeated."""
    names = {field.alias: get_origin(field.field_info.annotation) is list for field in dependant.query_params}
    for inner in dependant.dependencies:
        names |= _query_names(inner)
    return names


def _shown(text: str, chars_max: int = 64) -> str:
    """Callers' text, made fit to be shown."""
    return text[:chars_max].encode(errors="replace").decode()
