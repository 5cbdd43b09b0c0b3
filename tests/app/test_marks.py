"""The mark of the database is moved forward by the workers in turn, and by none once the database is older than it was (R28)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.app.marks import Marks
from orchestrator.errors import BusUnavailable, EscrowError, StoreUnavailable

NOW = datetime(2026, 11, 21, tzinfo=UTC)
EVERY = timedelta(minutes=1)


class Database:
    """Its clock, its mark, whose turn it is, and what was said of it."""

    def __init__(self) -> None:
        self.at = self.next_at = NOW
        self.marked_at: datetime | None = None
        self.trouble: EscrowError | None = None
        self.is_recovered = True
        self.is_behind = False
        self.replaced = 0
        self.failed: list[EscrowError | OSError] = []

    def now(self) -> datetime:
        return self.at

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        assert (name, every) == ("mark", EVERY)
        if now < self.next_at:
            return False
        self.next_at = now + every
        return True

    def move(self) -> datetime | None:
        if self.trouble is not None:
            raise self.trouble
        if not self.is_recovered:
            return None
        self.marked_at = self.at
        return self.at

    def look(self) -> datetime | None:
        if isinstance(self.trouble, StoreUnavailable):
            raise self.trouble
        return self.marked_at

    def found_replaced(self) -> None:
        self.replaced += 1

    def worker(self) -> Marks:
        """One that marks it."""
        return Marks(
            self,
            every=EVERY,
            marked_at=self.look,
            move=self.move,
            lacks=lambda: self.is_behind,
            replaced=self.found_replaced,
            failed=self.failed.append,
        )

    def minute(self, *workers: Marks) -> None:
        """A minute passes, and each worker asks."""
        self.at += EVERY
        for worker in workers:
            worker.ask()


def test_the_mark_is_a_minute_old_whoever_moves_it() -> None:
    """If it failed, a recovery would read a week of events."""
    database = Database()
    workers = database.worker(), database.worker()
    for _ in range(3):
        database.minute(*workers)
        assert database.marked_at == database.at
    assert (database.replaced, database.failed) == (0, [])


def test_a_mark_that_is_older_than_one_that_was_seen_stays_and_is_told() -> None:
    """If it failed, a worker that lived through a restore by another tool would hide from `escrow recover` what is missing."""
    database = Database()
    wrote, saw = database.worker(), database.worker()
    database.minute(wrote, saw)
    backed_up = database.marked_at
    database.minute(wrote, saw)
    database.marked_at = backed_up
    database.minute(wrote, saw)
    assert (database.marked_at, database.replaced) == (backed_up, 2)
    database.marked_at = None
    database.minute(wrote, saw)
    assert (database.marked_at, database.replaced) == (None, 4), "a database from before the first mark"


def test_a_mark_that_cannot_be_moved_is_not_taken_for_a_restored_database() -> None:
    """If it failed, a recovery, or a broker that is away, would end the marks until every worker was restarted."""
    database = Database()
    worker = database.worker()
    database.minute(worker)
    database.is_recovered = False
    database.minute(worker)
    database.is_recovered, database.trouble = True, BusUnavailable("away")
    database.minute(worker)
    database.trouble = StoreUnavailable("away")
    database.minute(worker)
    database.trouble = None
    database.minute(worker)
    assert (database.marked_at, database.replaced, len(database.failed)) == (database.at, 0, 2)


def test_a_database_that_lacks_what_is_recorded_is_not_marked_and_is_told() -> None:
    """If it failed, a worker that starts on a database restored by another tool would hide from `escrow recover` what is missing."""
    database = Database()
    database.marked_at, database.is_behind = NOW, True
    worker = database.worker()
    database.minute(worker)
    database.minute(worker)
    assert (database.marked_at, database.replaced) == (NOW, 2)
    database.is_behind = False
    database.minute(worker)
    assert database.marked_at == database.at
    # Looked once: what it commits from now on is recorded after it.
    database.is_behind = True
    database.minute(worker)
    assert (database.marked_at, database.replaced) == (database.at, 2)
