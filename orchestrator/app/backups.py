"""The job of the fleet that writes backups: one worker's in turn, at intervals, and no two at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator import logs
from orchestrator.errors import EscrowError

#: How often a worker asks whether it is its turn, in seconds.
ASK_EVERY_S = 60.0
_JOB = "backup"

_log = logs.get(__name__)


class Jobs(Protocol):
    """What the workers know of their common jobs."""

    def now(self) -> datetime:
        """The database's clock."""

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        """Whether this run of a job of the fleet is this worker's."""


class Backups:
    """Asks, and writes when it is its turn. One that fails is told, and the next run comes at its time."""

    def __init__(self, jobs: Jobs, *, every: timedelta, write: Callable[[datetime], str], failed: Callable[[], None]) -> None:
        """`write`: writes a backup named after the time, deletes old ones, and returns its name. `failed`: a human should look."""
        self._jobs = jobs
        self._every = every
        self._write = write
        self._failed = failed

    def ask(self) -> None:
        """Write a backup if it is due and nobody else does. Never raises for the database or the disk."""
        try:
            now = self._jobs.now()
            if self._jobs.claim(_JOB, now, self._every):
                _log.info("a backup was written", action="backup_written", name=self._write(now))
        except EscrowError as error:
            self._failed()
            _log.error("the backup failed", action="backup_failed", error=str(error))
