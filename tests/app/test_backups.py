"""The job of the fleet that writes backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.app.backups import Backups
from orchestrator.errors import RequestError, StoreUnavailable

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


def test_one_backup_is_written_for_each_interval_whoever_asks() -> None:
    """If it failed, each worker would write one, or none would."""
    jobs, written, failed = Jobs(), list[datetime](), list[bool]()

    def write(at: datetime) -> str:
        written.append(at)
        return "name"

    workers = [Backups(jobs, every=timedelta(hours=1), write=write, failed=lambda: failed.append(True)) for _ in range(2)]
    for minutes in (0, 1, 59, 60, 61):
        jobs.at = NOW + timedelta(minutes=minutes)
        for worker in workers:
            worker.ask()
    assert written == [NOW, NOW + timedelta(hours=1)]
    assert not failed


def test_one_that_fails_is_told_and_the_next_comes_at_its_time() -> None:
    """If it failed, a full disk would end the backups without a word."""
    jobs, failed, written = Jobs(), list[bool](), list[datetime]()

    def write(at: datetime) -> str:
        written.append(at)
        if len(written) == 1:
            raise RequestError("The disk is full.")
        return "name"

    backups = Backups(jobs, every=timedelta(hours=1), write=write, failed=lambda: failed.append(True))
    backups.ask()
    assert failed == [True]
    jobs.is_away = True
    backups.ask()
    assert failed == [True, True]
    jobs.is_away, jobs.at = False, NOW + timedelta(hours=1)
    backups.ask()
    assert len(written) == 2
