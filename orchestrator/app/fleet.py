"""What workers know of each other and do in common: who is alive, whose outbox rows need another sender (R17), whose turn a job is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.app.circuit import Found, Suspicion
from orchestrator.app.ports import Due, OutboxMessage

#: How long an idempotency key stands for its order, from its first use; the API says so.
KEYS_KEPT_FOR = timedelta(days=7)
#: How often the fleet deletes older ones.
_FORGET_KEYS, _FORGET_KEYS_EVERY = "forget_keys", timedelta(hours=1)


class Beat(Protocol):
    """What one beat learns from the database."""

    @property
    def now(self) -> datetime:
        """The database's clock."""

    @property
    def next_due_at(self) -> datetime | None:
        """The next instant at which a deadline can fire."""

    @property
    def dead_owners(self) -> Sequence[str | None]:
        """Owners of outbox rows that have fallen silent; None stands for rows without owner."""

    @property
    def unwell(self) -> Mapping[str, str]:
        """The participants that are `silent` or `recovering` (R8)."""

    @property
    def suspected(self) -> Mapping[str, Found]:
        """What the living processes together find of participants that they do not hear, as of their last words of it."""

    @property
    def refuted(self) -> Collection[str]:
        """Of whom this worker told something, and another has heard them since it began."""

    @property
    def earliest_link_up_at(self) -> datetime | None:
        """Since when some living worker has heard without a break (R9)."""


class Fleet(Protocol):
    """What the workers know of each other, and of the rows they send."""

    def beat(self, incarnation: str, role: str, link_up_at: datetime | None, behind: timedelta) -> Beat:
        """Say that this worker lives, and look around. One short transaction.

        `behind`: what it took from the inbox longer ago is committed.
        """

    def adopt(self, owner: str | None, by: str, limit: int) -> list[OutboxMessage]:
        """Become the owner of a dead owner's rows (R17), or of those that may go to a participant that was silent (R8).

        Returns them in journal order per order.
        """

    def heard(self, names: Collection[str]) -> None:
        """Write down that participants spoke."""

    def recover(self, name: str) -> bool:
        """A silent participant spoke: whether this worker is the first to say so."""

    def tell_suspicions(self, incarnation: str, suspicions: Mapping[str, Suspicion]) -> None:
        """Say what this worker finds of participants that it does not hear; what it said before counts no more."""

    def silence(self, name: str, since: datetime) -> bool:
        """Many orders find a participant silent since then: whether nobody heard it meanwhile, or knew."""

    def canary(self, name: str) -> Due | None:
        """What to ask a silent participant for, if it is time to try."""

    def to_resync(self, name: str, limit: int) -> list[Due] | None:
        """What a resync sends anew next, excused; empty: that was all. None: none is under way."""

    def resynced(self, name: str) -> None:
        """Nothing more was found to send anew: the resync is done. Idempotent."""

    def owned(self, incarnation: str, outbox_ids: Sequence[str]) -> Sequence[str]:
        """Those of these rows that are still this worker's."""

    def release(self, incarnation: str, outbox_ids: Sequence[str]) -> None:
        """Leave rows without owner."""

    def forget_outbox(self, outbox_ids: Sequence[str]) -> None:
        """Delete confirmed rows."""

    def expire_parked(self, now: datetime, limit: int) -> int:
        """Move parked messages whose time is over to the quarantine. Returns how many."""

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        """Whether this run of a job of the fleet is this worker's: it is nobody else's then until `every` has passed."""

    def forget_keys(self, stored_before: datetime, limit: int) -> int:
        """Delete the oldest idempotency keys of those stored before, at most `limit`. Returns how many. Idempotent."""

    def leave(self, incarnation: str) -> None:
        """This worker stops cleanly: its rows are left without owner."""


class KeyRetention:
    """The job of the fleet that deletes old idempotency keys: one worker's each hour, and one batch a tick, so that no event waits for it.

    A worker that dies in its run leaves the rest to the next one. A worker asks for the run once an hour, so that a tick costs nothing.
    """

    def __init__(self, fleet: Fleet, *, batch_count_max: int) -> None:
        self._fleet = fleet
        self._batch_count_max = batch_count_max
        self._ask_again_at: datetime | None = None
        self._is_running = False

    def ticked(self, now: datetime) -> None:
        """Ask for the run, or go on with it. `now`: the database's clock. Raises: StoreUnavailable (the next tick tries again)."""
        if not self._is_running and (self._ask_again_at is None or self._ask_again_at <= now):
            self._is_running = self._fleet.claim(_FORGET_KEYS, now, _FORGET_KEYS_EVERY)
            self._ask_again_at = now + _FORGET_KEYS_EVERY
        if self._is_running:
            self._is_running = self._fleet.forget_keys(now - KEYS_KEPT_FOR, self._batch_count_max) == self._batch_count_max
