"""What a participant says, and under which message ids. Every id is computed, so the same answer is the same message for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid5

from orchestrator.contract import COMMAND_TOO_LATE, ESCROW_NAMESPACE_UUID, Envelope, canonical, encode, undo_reply_id
from orchestrator.contract.envelope import BODY_BYTES_MAX

__all__ = ["COMMAND_TOO_LATE", "Refusal", "Reply", "body", "reply_id", "reused_id", "too_late_id", "undo_reply_id"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The command was done."""

    event_type: str
    #: JSON values.
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The command was refused, for a business reason, and nothing was changed."""

    event_type: str
    data: Mapping[str, Any] = field(default_factory=dict)


def reply_id(command_id: str) -> str:
    """The message id of the answer to a command."""
    return _derive(command_id, "reply")


def too_late_id(command_id: str) -> str:
    """The message id of `CommandTooLate`."""
    return _derive(command_id, "too late")


def reused_id(message_id: str) -> str:
    """The message id of the refusal of a copy whose command id was used with another body."""
    return _derive(message_id, "reused")


def body(envelope: Envelope) -> bytes:
    """The structured CloudEvent. Raises: ValueError, TypeError: the handler's data is no JSON, or too large."""
    encoded = encode(envelope).body
    if len(encoded) > BODY_BYTES_MAX:
        raise ValueError(f"The reply has {len(encoded)} bytes; at most {BODY_BYTES_MAX} may be sent.")
    return encoded


def _derive(*parts: str) -> str:
    return str(uuid5(ESCROW_NAMESPACE_UUID, canonical.encode(list(parts)).decode()))
