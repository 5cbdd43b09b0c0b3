"""The quarantine: messages that cannot be understood or applied, with their reason. Equal messages are one row with a count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa

from orchestrator.app.ports import Quarantined
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import quarantine

Resolution = Literal["replayed", "discarded"]

_WRITTEN = tuple(field.name for field in fields(Quarantined) if field.name != "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """A quarantined message as it is kept; `at` is when it first came."""

    quarantine_id: str
    fingerprint: str
    reason: str
    detail: str
    source: str | None
    message_id: str | None
    message_type: str | None
    order_id: str | None
    content_type: str
    headers: bytes
    body: bytes
    #: How many equal messages came, and when the first and the last of them did.
    count: int
    first_at: datetime
    last_at: datetime
    #: None: a human is still to decide.
    resolution: Resolution | None
    resolved_by: str | None
    resolved_at: datetime | None
    resolved_reason: str | None

    @property
    def at(self) -> datetime:
        """When it first came."""
        return self.first_at


def fingerprint(reason: str, body: bytes) -> str:
    """What makes two quarantined messages equal: sha256 over reason and body, hexadecimal."""
    return hashlib.sha256(reason.encode() + b"\0" + body).hexdigest()


def insert(connection: sa.Connection, messages: Sequence[Quarantined]) -> None:
    """Keep messages. An equal one that is kept already is counted, and is unresolved again: whatever was done did not end it."""
    if messages:
        rows = [
            {name: getattr(message, name) for name in _WRITTEN} | {"count": 1, "first_at": message.at, "last_at": message.at}
            # One order for all writers, so that two of them cannot wait for each other.
            for message in sorted(messages, key=lambda message: message.fingerprint)
        ]
        connection.execute(_insert_statement(of(connection)), rows)


def resolve(connection: sa.Connection, quarantine_id: str, resolution: Resolution, *, actor: str, reason: str, at: datetime) -> bool:
    """Note what a human decided. False: there is no such row, or it was resolved already; nothing changes."""
    c = quarantine.c
    statement = (
        sa.update(quarantine)
        .where(c.quarantine_id == quarantine_id, c.resolution.is_(None))
        .values(resolution=resolution, resolved_by=actor, resolved_reason=reason, resolved_at=at)
    )
    return connection.execute(statement).rowcount == 1


@cache
def _insert_statement(dialect: Dialect) -> Any:
    insert_ = dialect.insert(quarantine)
    return insert_.on_conflict_do_update(
        index_elements=[quarantine.c.fingerprint],
        set_={
            "count": quarantine.c.count + 1,
            "last_at": insert_.excluded.last_at,
            "resolution": None,
            "resolved_by": None,
            "resolved_at": None,
            "resolved_reason": None,
        },
    )
