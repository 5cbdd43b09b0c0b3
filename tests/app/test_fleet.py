"""What the fleet does in common: each job by one worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from orchestrator.app.fleet import KEYS_KEPT_FOR, KeyRetention
from orchestrator.errors import StoreUnavailable
from orchestrator.store import idempotency
from orchestrator.store.tables import idempotency_keys
from orchestrator.store.transaction import SqlStore
from tests.app.house import House

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOUR = timedelta(hours=1)


def store_keys(house: House, *ages: timedelta) -> None:
    """Keys of these ages at NOW."""
    for place, age in enumerate(ages):
        idempotency.claim(house.engine, key=f"k{place}-{age}", actor="ada", fingerprint="f", order_id="o1", now=NOW - age)


def kept(house: House) -> int:
    """How many keys are stored."""
    with house.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(idempotency_keys)).scalar_one()


def retention(house: House) -> KeyRetention:
    """The job as one worker does it."""
    return KeyRetention(house.store, batch_count_max=2)


def test_old_keys_go_a_batch_a_tick_and_young_ones_stay(house: House) -> None:
    """If it failed, the table would grow for ever, events would wait for a long clean-up, or a repeated request place a second order."""
    store_keys(house, *[KEYS_KEPT_FOR + HOUR] * 5, KEYS_KEPT_FOR - HOUR, timedelta(0))
    job, left = retention(house), []
    for _ in range(4):
        job.ticked(NOW)
        left.append(kept(house))
    assert left == [5, 3, 2, 2]


def test_one_worker_does_it_and_not_before_an_hour_has_passed(house: House) -> None:
    """If it failed, every worker would delete the same rows, at every tick."""
    ours, theirs = retention(house), retention(house)
    ours.ticked(NOW)
    store_keys(house, KEYS_KEPT_FOR + HOUR)
    for after in (timedelta(0), HOUR - timedelta(seconds=1)):
        theirs.ticked(NOW + after)
        ours.ticked(NOW + after)
        assert kept(house) == 1
    ours.ticked(NOW + HOUR)
    assert kept(house) == 0


def test_another_worker_takes_over(house: House) -> None:
    """If it failed, nothing would be deleted after the death of the worker that did it first."""
    dead, alive = retention(house), retention(house)
    dead.ticked(NOW)
    alive.ticked(NOW)
    store_keys(house, KEYS_KEPT_FOR + HOUR)
    alive.ticked(NOW + HOUR)
    assert kept(house) == 0


def test_a_run_that_the_database_interrupts_goes_on(small_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an outage would put the rest off for an hour."""
    store_keys(small_house, KEYS_KEPT_FOR + HOUR)
    job = retention(small_house)

    def away(*_: object) -> int:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "forget_keys", away)
        with pytest.raises(StoreUnavailable):
            job.ticked(NOW)
    job.ticked(NOW)
    assert kept(small_house) == 0
