"""The quarantine: messages that cannot be understood or applied, with their reason. Equal messages are one row with a count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import Quarantined, Resolution, Resolved
from orchestrator.contract import Wire, canonical
from orchestrator.errors import InvariantViolated
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import quarantine

_WRITTEN = ("fingerprint", *(field.name for field in fields(Quarantined) if field.name != "at"))


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

    @property
    def wire(self) -> Wire:
        """The message as it came."""
        return Wire(content_type=self.content_type, headers=canonical.load(self.headers), body=self.body)


def insert(connection: sa.Connection, messages: Sequence[Quarantined]) -> None:
    """Keep messages. An equal one that is kept already is counted, and is unresolved again: whatever was done did not end it."""
    if messages:
        rows = [
            {name: getattr(message, name) for name in _WRITTEN} | {"count": 1, "first_at": message.at, "last_at": message.at}
            # One order for all writers, so that two of them cannot wait for each other.
            for message in sorted(messages, key=lambda message: message.fingerprint)
        ]
        connection.execute(_insert_statement(of(connection)), rows)


def lock(connection: sa.Connection, quarantine_ids: Collection[str]) -> dict[str, Resolution | None]:
    """Lock rows, in id order; how each was resolved, None: not yet. Absent: there is no such row."""
    dialect = of(connection)
    return {row.quarantine_id: row.resolution for row in connection.execute(_lock_statement(dialect), dialect.pack("ids", quarantine_ids))}


def resolve(connection: sa.Connection, resolved: Sequence[tuple[Resolved, datetime]]) -> None:
    """Note what a human decided, and when. Raises: InvariantViolated when a row is not open, under its lock."""
    if not resolved:
        return
    rows = [
        {
            "k_quarantine": decided.quarantine_id,
            "resolution": decided.resolution,
            "resolved_by": decided.actor,
            "resolved_reason": decided.reason,
            "resolved_at": at,
        }
        for decided, at in resolved
    ]
    result = connection.execute(_RESOLVE, rows)
    if result.rowcount != len(rows):
        raise InvariantViolated(f"{result.rowcount} of {len(rows)} quarantined messages were open to be resolved.")


@cache
def _lock_statement(dialect: Dialect) -> sa.Select[Any]:
    c = quarantine.c
    return sa.select(c.quarantine_id, c.resolution).where(dialect.among(c.quarantine_id, "ids")).order_by(c.quarantine_id).with_for_update()


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


_RESOLVE = (
    sa.update(quarantine)
    .where(quarantine.c.quarantine_id == sa.bindparam("k_quarantine"), quarantine.c.resolution.is_(None))
    .values({name: sa.bindparam(name) for name in ("resolution", "resolved_by", "resolved_reason", "resolved_at")})
)
