"""A message as pika gives it, as the contract has it: whatever its sender put into its properties."""

from __future__ import annotations

from typing import Any

from orchestrator.contract import Wire


def wire_of(properties: Any, body: bytes) -> Wire:
    """Any message that the broker took; never raises."""
    return Wire(content_type=_text(properties.content_type or ""), headers=_plain(properties.headers or {}), body=body)


def user_of(properties: Any) -> str | None:
    """The broker user that published it, when the broker vouches for it."""
    return None if properties.user_id is None else _text(properties.user_id)


def _text(value: str | bytes) -> str:
    """As text: pika gives short strings that are not UTF-8 as bytes."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _plain(value: Any) -> Any:
    """Plain integers, and names that are text: pika gives 64-bit integers as a class of its own, whose `str` ends in L."""
    match value:
        case dict():
            return {_text(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case int() if not isinstance(value, bool):
            return int(value)
        case _:
            return value
