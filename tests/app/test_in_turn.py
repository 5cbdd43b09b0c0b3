"""Jobs of the fleet: one worker's in turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.app.in_turn import InTurn
from orchestrator.errors import EscrowError, RequestError, StoreUnavailable

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Jobs:
    """One job, claimed once an hour by whoever asks first."""

    def __init__(self) -> None:
        self.at = NOW
        self.next_at = NOW
        self.is_away = False

    def now(self) -> datetime:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.at

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        assert name == "backup"
        if now < self.next_at:
            return False
        self.next_at = now + every
        return True


def test_a_job_is_done_once_for_each_interval_whoever_asks() -> None:
    """If it failed, each worker would write one, or none would."""
    jobs, written, failed = Jobs(), list[datetime](), list[EscrowError | OSError]()
    workers = [InTurn(jobs, "backup", every=timedelta(hours=1), run=written.append, failed=failed.append) for _ in range(2)]
    for minutes in (0, 1, 59, 60, 61):
        jobs.at = NOW + timedelta(minutes=minutes)
        for worker in workers:
            worker.ask()
    assert written == [NOW, NOW + timedelta(hours=1)]
    assert not failed


@pytest.mark.parametrize("error", [RequestError("pg_dump failed."), OSError(28, "No space left on device")])
def test_one_that_fails_is_told_and_the_next_comes_at_its_time(error: EscrowError | OSError) -> None:
    """If it failed, a full disk would end the backups without a word."""
    jobs, failed, written = Jobs(), list[EscrowError | OSError](), list[datetime]()

    def write(at: datetime) -> None:
        written.append(at)
        if len(written) == 1:
            raise error

    backups = InTurn(jobs, "backup", every=timedelta(hours=1), run=write, failed=failed.append)
    backups.ask()
    assert len(failed) == 1
    jobs.is_away = True
    backups.ask()
    assert len(failed) == 2
    jobs.is_away, jobs.at = False, NOW + timedelta(hours=1)
    backups.ask()
    assert len(written) == 2
