"""Jobs of the fleet beside the line: at intervals, each run one worker's. One that takes longer than the interval meets the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from orchestrator.errors import EscrowError


class Jobs(Protocol):
    """What the workers know of their common jobs."""

    def now(self) -> datetime:
        """The database's clock."""

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        """Whether this run of a job of the fleet is this worker's."""


class InTurn:
    """Asks whether it is this worker's turn, and does the job then. One that fails is told, and the next run comes at its time."""

    def __init__(
        self,
        jobs: Jobs,
        name: str,
        *,
        every: timedelta,
        run: Callable[[datetime], object],
        failed: Callable[[EscrowError | OSError], object],
    ) -> None:
        """`run` is given the database's time."""
        self._jobs = jobs
        self._name = name
        self._every = every
        self._run = run
        self._failed = failed

    def ask(self) -> None:
        """Do the job if it is due and nobody else has begun this run. Never raises for the database, the broker or the disk."""
        try:
            now = self._jobs.now()
            if self._jobs.claim(self._name, now, self._every):
                self._run(now)
        except (EscrowError, OSError) as error:
            self._failed(error)
