"""What processes tell each other of participants that they do not hear, on both databases (R8)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from orchestrator.app.circuit import Found, Suspicion
from orchestrator.store import tables
from orchestrator.store.dialect import writing
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World


def suspicion(since: datetime, asked: int = 0, overdue: int = 0, waiting: int = 0) -> Suspicion:
    return Suspicion(found=Found(asked=asked, overdue=overdue, waiting=waiting), since=since)


@pytest.fixture
def told(store: SqlStore, world: World) -> SqlStore:
    """Two processes live, and told what they find."""
    for incarnation in ("one", "two"):
        store.beat(incarnation, "worker", None)
    store.tell_suspicions("one", {"inventory": suspicion(world.now, 3, 2, 4), "payment": suspicion(world.now, 1)})
    store.tell_suspicions("two", {"inventory": suspicion(world.now, 10, 20, 30)})
    return store


def test_what_the_living_find_is_added_up(told: SqlStore) -> None:
    """Otherwise each would count for itself, and the more of them there are the longer it would take."""
    beat = told.beat("one", "worker", None)
    assert beat.suspected == {"inventory": Found(asked=13, overdue=22, waiting=34), "payment": Found(asked=1)}
    assert beat.refuted == frozenset()


def test_what_a_process_tells_replaces_what_it_told(told: SqlStore, world: World) -> None:
    """Otherwise orders that were answered would be held against a participant for ever."""
    told.tell_suspicions("one", {"inventory": suspicion(world.now, 1)})
    assert told.beat("two", "worker", None).suspected == {"inventory": Found(asked=11, overdue=20, waiting=30)}
    told.tell_suspicions("one", {})
    told.leave("two")
    assert told.beat("one", "worker", None).suspected == {}


def test_the_dead_say_nothing(told: SqlStore, world: World, engine: sa.Engine) -> None:
    """Otherwise what a process found before it died would never be taken back."""
    with writing(engine) as connection:
        dead = sa.update(tables.workers).where(tables.workers.c.incarnation == "two")
        connection.execute(dead.values(beat_at=world.now - timedelta(minutes=1)))
    assert told.beat("one", "worker", None).suspected["inventory"] == Found(asked=3, overdue=2, waiting=4)
    with writing(engine) as connection:
        connection.execute(sa.delete(tables.workers).where(tables.workers.c.incarnation == "two"))
    told.tell_suspicions("one", {})
    with writing(engine) as connection:
        assert connection.execute(sa.select(tables.suspicions)).all() == [], "what the dead said is deleted"


def test_a_word_of_the_participant_refutes_what_began_before_it(told: SqlStore, world: World) -> None:
    """Otherwise a process that does not hear would hold against a participant what it answered to another."""
    told.heard(["inventory"])
    told.tell_suspicions("two", {"inventory": suspicion(told.now() + timedelta(seconds=1), 5)})
    one, two = (told.beat(incarnation, "worker", None) for incarnation in ("one", "two"))
    assert (set(one.refuted), set(two.refuted)) == ({"inventory"}, set())
    assert one.suspected == two.suspected == {"inventory": Found(asked=5), "payment": Found(asked=1)}
