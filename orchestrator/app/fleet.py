"""What the workers of an installation know of each other: who is alive, and whose outbox rows need another sender (R17)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.app.ports import OutboxMessage


class Beat(Protocol):
    """What one beat learns from the database."""

    @property
    def now(self) -> datetime:
        """The database's clock."""

    @property
    def next_due_at(self) -> datetime | None:
        """The earliest instant at which a deadline can fire, perhaps past."""

    @property
    def dead_owners(self) -> Sequence[str | None]:
        """Owners of outbox rows that have fallen silent; None stands for rows without owner."""

    @property
    def earliest_link_up_at(self) -> datetime | None:
        """Since when some living worker has heard without a break (R9)."""


class Fleet(Protocol):
    """What the workers know of each other, and of the rows they send."""

    def beat(self, incarnation: str, role: str, link_up_at: datetime | None) -> Beat:
        """Say that this worker lives, and look around. One short transaction."""

    def adopt(self, owner: str | None, by: str, limit: int) -> list[OutboxMessage]:
        """Become the owner of a dead owner's rows (R17). Returns them in journal order per order."""

    def owned(self, incarnation: str, outbox_ids: Sequence[str]) -> Sequence[str]:
        """Those of these rows that are still this worker's."""

    def release(self, incarnation: str, outbox_ids: Sequence[str]) -> None:
        """Leave rows without owner."""

    def forget_outbox(self, outbox_ids: Sequence[str]) -> None:
        """Delete confirmed rows."""

    def expire_parked(self, now: datetime, limit: int) -> int:
        """Move parked messages whose time is over to the quarantine. Returns how many."""

    def leave(self, incarnation: str) -> None:
        """This worker stops cleanly: its rows are left without owner."""
