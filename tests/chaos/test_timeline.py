"""Which of several PostgreSQL servers is written to: the one on the highest timeline, and never one that was left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from orchestrator.errors import StoreUnavailable
from orchestrator.store import schema, timeline
from orchestrator.store.dialect import reading, writing
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import jobs, timelines
from tests.support.address import address_of
from tests.support.processes import eventually
from tests.support.replicated import Node, PostgresPair, postgres_pair

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: The watch's interval, the wait for a host that is silent, and some.
FOLLOWED_WITHIN_S = 15.0
_PORT = sa.text("SELECT current_setting('port')::int")
_HANGS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

EngineOf = Callable[[str], sa.Engine]


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch does not come round: what a process knows, it has from its own sessions."""
    monkeypatch.setattr(timeline, "WATCH_S", 3_600.0)


@pytest.fixture(scope="module")
def servers() -> Iterator[PostgresPair]:
    """Migrated."""
    with postgres_pair() as made:
        schema.upgrade(made.url)
        yield made


@pytest.fixture
def pair(servers: PostgresPair) -> Iterator[PostgresPair]:
    """A primary and its standby; of two primaries, the test leaves one."""
    yield servers
    if not servers.standby.ask("SELECT pg_is_in_recovery()"):
        servers.rejoin()


@pytest.fixture
def engine_of(pair: PostgresPair) -> Iterator[EngineOf]:
    """Makes engines that let go of the servers when the test ends."""
    with ExitStack() as made:

        def make(url: str) -> sa.Engine:
            engine = make_engine(url, clock=None)
            made.callback(engine.dispose)
            return engine

        yield make


def test_the_old_primary_is_refused_and_the_new_one_found(pair: PostgresPair, engine_of: EngineOf) -> None:
    """A process would write to a server that the others have left: two histories, of which one is lost."""
    both = engine_of(pair.url)
    timeline.keep(both)
    pair.kill_primary()
    pair.promote()
    pair.start_old()

    eventually(lambda: _port(both) == pair.primary.port, 5)
    newcomer = engine_of(pair.url)
    assert _port(newcomer) == pair.primary.port
    timeline.keep(both)
    with reading(both) as connection:
        seen = list(connection.scalars(sa.select(timelines.c.timeline).order_by(timelines.c.timeline)))
    assert seen == [1, 2]

    # What a process knows of one server it holds against another that its address leads to.
    fence = timeline.Fence(lambda at: psycopg.connect(**at))
    fence.connect(_at(pair.primary)).close()
    with pytest.raises(StoreUnavailable, match=r"timeline 1, and timeline 2 was seen: it is an old primary.*Fix: stop that server"):
        fence.connect(_at(pair.standby))


def test_a_database_that_remembers_a_higher_timeline_is_refused(pair: PostgresPair, engine_of: EngineOf) -> None:
    """Data that was carried back to an old server by hand would be written there."""
    engine = engine_of(pair.url)
    with writing(engine) as connection:
        row = sa.select(timelines).order_by(timelines.c.timeline.desc()).limit(1)
        highest = connection.execute(row).one()._asdict()
        connection.execute(sa.insert(timelines), highest | {"timeline": 99})
    with pytest.raises(StoreUnavailable, match="timeline 99 was seen"):
        timeline.keep(engine)
    with writing(engine) as connection:
        connection.execute(sa.delete(timelines).where(timelines.c.timeline == 99))
    timeline.keep(engine)


@pytest.mark.usefixtures("unwatched")
def test_nothing_is_sent_to_the_old_primary_once_the_new_one_is_known(pair: PostgresPair, engine_of: EngineOf) -> None:
    """A process whose own session has met the new primary would go on committing to the old one until its watch comes round."""
    engine = engine_of(pair.url)
    with engine.connect() as pending, engine.connect() as idle:
        before = _claimed(pair.primary)
        _claim(pending, "pending")
        _claim(idle, "idle")
        idle.rollback()
        pair.promote_beside()
        assert _port(engine) == pair.primary.port
        with pytest.raises(sa.exc.DBAPIError):
            pending.commit()
    later = {f"later {n}" for n in range(5)}
    for name in later:
        with writing(engine) as connection:
            _claim(connection, name)
    assert _claimed(pair.standby) == before
    assert _claimed(pair.primary) == before | later


@pytest.mark.usefixtures("unwatched")
def test_the_pool_lends_no_session_of_the_old_primary(pair: PostgresPair, engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that came back to the pool in the moment in which the others were cut would be written to."""
    monkeypatch.setattr(timeline, "_cut", lambda _session: None)
    engine = engine_of(pair.url)
    with engine.connect() as pooled:
        _claim(pooled, "pooled")
        pooled.rollback()
        pair.promote_beside()
        assert _port(engine) == pair.primary.port
    # Last in, first out: the pool would lend the old one.
    assert _port(engine) == pair.primary.port


@pytest.mark.usefixtures("unwatched")
def test_the_old_primary_is_not_remembered_as_the_present_one(pair: PostgresPair, engine_of: EngineOf) -> None:
    """The database would be told that its old primary is in use, by a process that has met the new one a moment before."""
    engine = engine_of(pair.url)
    fence: timeline.Fence = engine.get_execution_options()[timeline.FENCE_OPTION]
    written = "SELECT count(*) FROM timelines"
    before = pair.primary.ask(written)
    with engine.connect():
        pair.promote_beside()
    event.listen(engine, "begin", lambda _connection: fence.connect(_at(pair.primary)).close(), once=True)
    with pytest.raises(StoreUnavailable, match="it is an old primary that came back"):
        timeline.keep(engine)
    assert pair.standby.ask(written) == before


@pytest.mark.parametrize("hosts", ["several", "one"])
def test_a_commit_that_hangs_on_a_primary_that_was_left_is_cut(pair: PostgresPair, engine_of: EngineOf, hosts: str) -> None:
    """A worker would wait for ever for a standby that has become the primary, while others go on; also behind a moved address."""
    with address_of(pair.primary.port) as address:
        engine = engine_of(pair.url if hosts == "several" else _url_of(address.port))
        assert _port(engine) == pair.primary.port
        answers: list[str] = []

        def write() -> None:
            try:
                with writing(engine) as connection:
                    _claim(connection, "hangs")
                answers.append("committed")
            except StoreUnavailable:
                answers.append("lost")

        pair.promote()  # the old primary lives on, without its standby
        hanging = threading.Thread(target=write, daemon=True)
        hanging.start()
        eventually(lambda: pair.standby.ask(_HANGS), what="the commit hangs")
        address.leads_to = pair.primary.port
        hanging.join(FOLLOWED_WITHIN_S)
        assert answers == ["lost"]
        assert _port(engine) == pair.primary.port
        assert "hangs" not in _claimed(pair.primary)


def test_a_server_that_became_read_only_is_left(pair: PostgresPair, engine_of: EngineOf) -> None:
    """Sessions of the pool would fail for as long as the process lives."""
    engine = engine_of(pair.url)
    with engine.connect() as connection:
        first = connection.connection.dbapi_connection
        connection.execute(sa.text("SET default_transaction_read_only = on"))
        connection.commit()
    with pytest.raises(StoreUnavailable, match="read-only"), writing(engine) as connection:
        connection.execute(sa.delete(jobs))
    with writing(engine) as connection:
        assert connection.connection.dbapi_connection is not first
        connection.execute(sa.delete(jobs))


def _claim(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.insert(jobs), {"name": name, "next_at": connection.scalar(sa.func.now())})


def _claimed(node: Node) -> set[str]:
    return set(node.ask("SELECT coalesce(array_agg(name), '{}') FROM jobs"))


def _url_of(port: int) -> str:
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"


def _at(node: Node) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": node.port, "user": "postgres", "dbname": "postgres"}


def _port(engine: sa.Engine) -> int:
    try:
        with reading(engine) as connection:
            port: int = connection.execute(_PORT).scalar_one()
            return port
    except StoreUnavailable:
        return 0
