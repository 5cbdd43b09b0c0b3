"""Canonical JSON: one byte string per value, so that hashes and comparisons mean something.

Sorted keys, no spaces, UTF-8, integers exact, NaN and Infinity refused, NUL refused, times RFC 3339 with six digits and Z.
What JSON cannot say is refused where it comes in, by `decode` and `check`; `encode` trusts what went through them.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.errors import MalformedMessage

#: Containers inside containers that a message may have; deeper ones are refused before they can exhaust the stack.
DEPTH_MAX = 32

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()


def encode(value: Any) -> bytes:
    """The canonical bytes of a JSON value that `decode` gave, `check` passed, or the house made of those.

    Raises: UnicodeEncodeError for lone surrogates; TypeError for most of what JSON cannot hold.

    >>> encode({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return _encoder.encode(value)


def decode(raw: bytes | str, *, depth_max: int = DEPTH_MAX) -> Any:
    """Read JSON written by anyone, of at most so many containers inside one another. Raises: MalformedMessage, naming what is wrong.

    Of a name given twice in one object the last value counts, here and for everyone who is sent the canonical form: RFC 8259 leaves that
    open, and telling such objects apart would take a second, slower reading of every message.
    """
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"The body is not JSON: {error}.") from error
    _check(value, depth_max)
    return value


def load(raw: bytes | str) -> Any:
    """Read JSON that `encode` wrote: trusted, so not checked again."""
    return _decoder.decode(raw)


def check(value: Any) -> None:
    """See that a value from elsewhere is JSON and can be kept: no NaN, no NUL, not nested too deep. Raises: MalformedMessage."""
    _check(value, DEPTH_MAX)


def _check(value: Any, depth_left: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if depth_left == 0:
            raise MalformedMessage(f"The data is nested deeper than {DEPTH_MAX} levels.")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise MalformedMessage(f"{key!r} is no name: the names of a JSON object are texts.")
                _check_text(key)
            value = value.values()
        for item in value:
            _check(item, depth_left - 1)
    elif not (value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))):
        raise MalformedMessage(f"{value!r} is not a JSON value.")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise MalformedMessage("A string holds the character NUL.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MalformedMessage("A string holds a lone surrogate, which is no character.") from error


# A batch writes its few instants many times over.
@lru_cache(maxsize=4096)
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
