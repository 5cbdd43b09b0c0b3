"""Which of several PostgreSQL servers is written to: the one on the highest timeline, and never one that was left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.errors import StoreUnavailable
from orchestrator.store import schema, timeline
from orchestrator.store.dialect import reading, writing
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import jobs, timelines
from tests.support.processes import eventually
from tests.support.replicated import Node, PostgresPair, postgres_pair

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: The watch's interval, the wait for a host that is silent, and some.
FOLLOWED_WITHIN_S = 15.0
_PORT = sa.text("SELECT current_setting('port')::int")


@pytest.fixture(scope="module")
def pair() -> Iterator[PostgresPair]:
    """Migrated. The tests of this module use it one after the other: the last leaves two primaries."""
    with postgres_pair() as made:
        schema.upgrade(made.url)
        yield made


def test_the_old_primary_is_refused_and_the_new_one_found(pair: PostgresPair) -> None:
    """A process would write to a server that the others have left: two histories, of which one is lost."""
    both = make_engine(pair.url, clock=None)
    timeline.keep(both)
    pair.kill_primary()
    pair.promote()
    pair.start_old()

    eventually(lambda: _port(both) == pair.primary.port, 5)
    newcomer = make_engine(pair.url, clock=None)
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
    for engine in (both, newcomer):
        engine.dispose()
    pair.rejoin()


def test_a_database_that_remembers_a_higher_timeline_is_refused(pair: PostgresPair) -> None:
    """Data that was carried back to an old server by hand would be written there."""
    engine = make_engine(pair.url, clock=None)
    with writing(engine) as connection:
        row = sa.select(timelines).order_by(timelines.c.timeline.desc()).limit(1)
        highest = connection.execute(row).one()._asdict()
        connection.execute(sa.insert(timelines), highest | {"timeline": 99})
    with pytest.raises(StoreUnavailable, match="timeline 99 was seen"):
        timeline.keep(engine)
    with writing(engine) as connection:
        connection.execute(sa.delete(timelines).where(timelines.c.timeline == 99))
    timeline.keep(engine)
    engine.dispose()


def test_a_commit_that_hangs_on_a_primary_that_was_left_is_cut(pair: PostgresPair) -> None:
    """A worker would wait for ever for a standby that has become the primary, while others go on."""
    engine = make_engine(pair.url, clock=None)
    assert _port(engine) == pair.primary.port
    answers: list[str] = []

    def write() -> None:
        try:
            with writing(engine) as connection:
                connection.execute(sa.insert(jobs), {"name": "hangs", "next_at": connection.scalar(sa.func.now())})
            answers.append("committed")
        except StoreUnavailable:
            answers.append("lost")

    pair.promote()  # the old primary lives on, without its standby
    hanging = threading.Thread(target=write)
    hanging.start()
    hanging.join(FOLLOWED_WITHIN_S)
    assert answers == ["lost"]
    assert _port(engine) == pair.primary.port
    with reading(engine) as connection:
        assert connection.execute(sa.select(jobs.c.name).where(jobs.c.name == "hangs")).all() == []
    engine.dispose()


def test_a_server_that_became_read_only_is_left(pair: PostgresPair) -> None:
    """Sessions of the pool would fail for as long as the process lives."""
    engine = make_engine(pair.url, clock=None)
    with engine.connect() as connection:
        first = connection.connection.dbapi_connection
        connection.execute(sa.text("SET default_transaction_read_only = on"))
        connection.commit()
    with pytest.raises(StoreUnavailable, match="read-only"), writing(engine) as connection:
        connection.execute(sa.delete(jobs))
    with writing(engine) as connection:
        assert connection.connection.dbapi_connection is not first
        connection.execute(sa.delete(jobs))
    engine.dispose()


def _at(node: Node) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": node.port, "user": "postgres", "dbname": "postgres"}


def _port(engine: sa.Engine) -> int:
    try:
        with reading(engine) as connection:
            port: int = connection.execute(_PORT).scalar_one()
            return port
    except StoreUnavailable:
        return 0
