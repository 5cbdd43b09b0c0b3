"""Canonical JSON: one byte string per value, so that hashes and comparisons mean something.

Sorted keys, no spaces, UTF-8, integers exact, NaN and Infinity refused, NUL refused, times RFC 3339 with six digits and Z.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NoReturn

from orchestrator.errors import MalformedMessage

#: Containers inside containers that a message may have; deeper ones are refused before they can exhaust the stack.
DEPTH_MAX = 32

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def encode(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises: ValueError for NaN and Infinity; TypeError for what JSON cannot hold; UnicodeEncodeError for lone surrogates.

    >>> encode({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return _encoder.encode(value).encode()


def decode(raw: bytes | str) -> Any:
    """Read JSON written by anyone. Raises: MalformedMessage, naming what is wrong."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except MalformedMessage:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"The body is not JSON: {error}.") from error
    _check(value, DEPTH_MAX)
    return value


def load(raw: bytes | str) -> Any:
    """Read JSON that `encode` wrote: trusted, so not checked again."""
    return json.loads(raw)


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedMessage(f"{name} is not a JSON number.")


def _check(value: Any, depth_left: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise MalformedMessage("A string holds the character NUL.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise MalformedMessage("A string holds a lone surrogate, which is no character.") from error
    elif isinstance(value, float):
        if value in {float("inf"), float("-inf")}:
            raise MalformedMessage("A number is too large for a float.")
    elif isinstance(value, dict | list):
        if depth_left == 0:
            raise MalformedMessage(f"The data is nested deeper than {DEPTH_MAX} levels.")
        if isinstance(value, dict):
            for key in value:
                _check(key, depth_left)
            value = value.values()
        for item in value:
            _check(item, depth_left - 1)


def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with six digits and Z. Raises: ValueError for a time without zone.

    >>> format_time(datetime(2026, 11, 1, 12, tzinfo=UTC))
    '2026-11-01T12:00:00.000000Z'
    """
    if at.tzinfo is None:
        raise ValueError("a time without zone")
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time. Raises: ValueError when it is none, or has no zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without zone")
    if at.tzinfo is UTC:
        return at
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time outside of the years 1 to 9999 in UTC") from error
