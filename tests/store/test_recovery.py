"""While a recovery is not finished nobody else writes, and no second one runs (R28)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest
import sqlalchemy as sa

from orchestrator.errors import Conflict, StoreUnavailable
from orchestrator.store import recovery, unfinished
from orchestrator.store.dialect import writing
from orchestrator.store.engine import make_engine
from orchestrator.store.recovery import Guard
from orchestrator.store.tables import workers
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import utc_now
from tests.support.processes import eventually


def at_once(_: float) -> None:
    """The pause of a test."""


@contextmanager
def recovering(engine: sa.Engine) -> Iterator[Guard]:
    with recovery.alone(engine, at_once) as guard:
        yield guard


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[sa.Engine]:
    """PostgreSQL, left without checkpoints."""
    engine = make_engine(postgres_url, clock=None)
    yield engine
    Guard(engine, None).finish(None)
    engine.dispose()


def under_way(engine: sa.Engine) -> bool:
    return recovery.kept(engine, unfinished.UNDER_WAY) is not None


def test_a_process_that_could_not_reach_the_database_when_it_began_waits_for_its_end(engine: sa.Engine, store: SqlStore) -> None:
    """If it failed, a worker whose database was away for two seconds would decide on orders that are being folded."""
    with recovering(engine) as guard:
        with pytest.raises(StoreUnavailable, match="escrow recover"):
            store.beat("worker-1", "worker", None)
        with pytest.raises(StoreUnavailable, match="escrow recover"), store.transaction() as transaction:
            transaction.now()
        with SqlStore(engine, shard=1, recovers=True).transaction() as transaction:
            assert isinstance(transaction.now(), datetime)
        guard.finish(None)
    assert store.beat("worker-1", "worker", None).dead_owners == []
    with store.transaction() as transaction:
        assert isinstance(transaction.now(), datetime)


def test_who_waits_does_not_count_as_living(engine: sa.Engine, store: SqlStore) -> None:
    """If it failed, a recovery that was killed could not be run again before every supervised worker was stopped."""
    recovery.begin(engine)
    with pytest.raises(StoreUnavailable):
        store.beat("worker-1", "worker", None)
    with recovering(engine) as guard:
        guard.finish(None)


def test_a_process_of_an_older_release_is_found_when_it_comes_back(engine: sa.Engine) -> None:
    """If it failed, a worker that knows no such checkpoint would write beside the recovery."""
    paused = []

    def beat_meanwhile(seconds: float) -> None:
        paused.append(seconds)
        row = {"incarnation": "old-1", "role": "worker", "beat_at": utc_now(), "link_up_at": None}
        with writing(engine) as connection:
            connection.execute(sa.insert(workers), row)

    with pytest.raises(Conflict, match="old-1"), recovery.alone(engine, beat_meanwhile):
        pytest.fail("it is not alone")
    assert paused[0] > 2 + 1.5, "the longest wait between two tries, and the silence after which a worker is dead"
    assert under_way(engine), "no process starts"


@pytest.mark.real
def test_a_transaction_that_began_before_is_waited_for(postgres: sa.Engine) -> None:
    """If it failed, a batch that a worker commits late would meet the entries that are folded in."""
    inside = threading.Event()

    def recover() -> None:
        with recovering(postgres):
            inside.set()

    thread = threading.Thread(target=recover, daemon=True)
    with SqlStore(postgres, shard=1).transaction() as transaction:
        transaction.lock_orders(["some"])
        transaction.now()
        thread.start()
        eventually(lambda: waits_for_orders(postgres))
        assert not inside.is_set()
    assert inside.wait(5)
    thread.join(5)


def waits_for_orders(engine: sa.Engine) -> bool:
    statement = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass")
    with engine.connect() as connection:
        return bool(connection.execute(statement).scalar_one())


@pytest.mark.real
def test_a_second_recovery_is_refused(postgres: sa.Engine) -> None:
    """If it failed, two would fold the same entries, and the one finish what the other is at."""
    with recovering(postgres), pytest.raises(Conflict, match="Another recovery"), recovering(postgres):
        pytest.fail("it is not alone")


@pytest.mark.real
def test_a_recovery_that_loses_its_lock_ends_and_finishes_nothing(postgres: sa.Engine) -> None:
    """If it failed, a cut connection would let a second recovery in beside the first, or end in a traceback."""

    def look(guard: Guard) -> None:
        cut_the_idle(postgres)
        guard.look()

    def finish(guard: Guard) -> None:
        guard.finish(None)
        cut_the_idle(postgres)

    for work in (look, finish):
        with pytest.raises(StoreUnavailable):
            recover(postgres, work)
    assert under_way(postgres)


def recover(engine: sa.Engine, work: Callable[[Guard], None]) -> None:
    with recovering(engine) as guard:
        work(guard)


def cut_the_idle(engine: sa.Engine) -> None:
    """As an administrator, or a failover, does."""
    statement = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    with engine.connect() as connection:
        assert connection.execute(statement).all()
