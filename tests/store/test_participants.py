"""The circuit in the database, on both (R8): what workers agree on, the tap, and the resync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from orchestrator.app.circuit import held_by
from orchestrator.app.ports import Changes
from orchestrator.saga.order import Order
from orchestrator.store import participants, tables
from orchestrator.store.dialect import reading, writing
from orchestrator.store.participants import Health, Pace
from orchestrator.store.queries import Queries
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World, moved

Put = Callable[..., Order]
PACE = Pace(canary=timedelta(seconds=10), first_per_s=4, max_per_s=16)
HELD = held_by("inventory")


@pytest.fixture
def store(engine: sa.Engine) -> SqlStore:
    """The store, at the pace of these tests."""
    return SqlStore(engine, shard=3, pace=PACE)


@pytest.fixture
def silent(store: SqlStore, world: World) -> SqlStore:
    """Inventory is silent."""
    assert store.silence("inventory", world.now)
    return store


def at(engine: sa.Engine, **values: object) -> None:
    """Set what stands of inventory: time cannot be moved on PostgreSQL, so what is written is moved back."""
    with writing(engine) as connection:
        connection.execute(sa.update(tables.participants).values(**values))


def health(engine: sa.Engine) -> Health:
    [found] = [one for one in Queries(engine).participants() if one.name == "inventory"]
    return found


def let_out(store: SqlStore, limit: int = 100) -> list[str]:
    """The orders whose messages may go."""
    return [message.order_id for message in store.adopt(HELD, "me", limit)]


def test_a_participant_becomes_silent_once_and_recovers_once(store: SqlStore, world: World, engine: sa.Engine) -> None:
    """Otherwise every worker would alert, and every reply would begin the recovery anew."""
    assert [store.silence("inventory", world.now) for _ in range(2)] == [True, False]
    assert store.beat("me", "worker", None).unwell == {"inventory": "silent"}
    assert [store.recover("inventory") for _ in range(2)] == [True, False]
    assert store.beat("me", "worker", None).unwell == {"inventory": "recovering"}
    assert health(engine).recovered_at is not None
    assert not store.recover("payment")


def test_who_was_heard_meanwhile_is_not_silent(store: SqlStore, world: World) -> None:
    """Otherwise a worker to whom no reply came would close the circuit for all."""
    store.heard(["inventory"])
    assert not store.silence("inventory", world.now - timedelta(seconds=3))
    assert store.beat("me", "worker", None).unwell == {}
    assert store.silence("inventory", store.now() + timedelta(seconds=1))


def test_who_is_heard_at_the_moment_it_is_called_silent_recovers(silent: SqlStore) -> None:
    """Otherwise its word would be lost between two workers, and it would be waited for until the next canary."""
    silent.heard(["inventory"])
    assert silent.beat("me", "worker", None).unwell == {"inventory": "recovering"}


def test_reply_deadlines_of_a_silent_participant_do_not_fire_and_come_back_excused(
    store: SqlStore, world: World, put: Put, engine: sa.Engine
) -> None:
    """Otherwise an outage would spend the attempts of every order, or what was held back would count as silence."""
    put(world.order("old", due_in_s=-1, opened_ago_s=60))
    store.silence("inventory", world.now)
    assert store.due(10) == []
    assert store.beat("me", "worker", None).next_due_at is None
    store.recover("inventory")
    put(replace(world.order("young", due_in_s=-1), updated_at=store.now()))
    at(engine, recovered_at=world.now - timedelta(seconds=1))
    assert sorted((due.order_id, due.excused) for due in store.due(10)) == [("old", True), ("young", False)]


def test_what_falls_due_after_the_silence_is_not_excused(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant that has been well for days would be sent the same attempt again, and the order wait a deadline longer."""
    put(world.order("later", due_in_s=-1, opened_ago_s=60))
    store.silence("inventory", world.now)
    store.recover("inventory")
    at(engine, recovered_at=world.now - timedelta(seconds=30))
    assert [(due.order_id, due.excused) for due in store.due(10)] == [("later", False)]
    assert let_out(store) == []
    assert health(engine).state == "healthy", "the silence held nothing back"


def test_what_a_resync_has_yet_to_send_is_excused(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant that lost what it was sent would be held to the deadlines of it, until it is sent anew."""
    put(world.order("lost", due_in_s=-1, opened_ago_s=60))
    put(world.order("before", due_in_s=-1, opened_ago_s=90))
    store.begin_resync("inventory", world.now - timedelta(seconds=75))
    at(engine, recovered_at=world.now - timedelta(seconds=30))
    assert sorted((due.order_id, due.excused) for due in store.due(10)) == [("before", False), ("lost", True)]


def test_the_next_due_instant_is_never_past(store: SqlStore, world: World, put: Put) -> None:
    """Otherwise one deadline that cannot fire would hide all others from the clock."""
    put(world.order("past", due_in_s=-60), world.message(world.order("past"), owner="me"))
    put(world.order("soon", due_in_s=30))
    assert store.beat("me", "worker", None).next_due_at == world.now + timedelta(seconds=30)


def test_a_silent_participant_gets_one_order_at_an_interval(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise the queue of one that is away would fill with what nobody takes."""
    for number in range(3):
        order = world.order(f"o{number}")
        put(order, world.message(order, owner=HELD, age_s=30 - number), world.message(order, owner=HELD, seq=2, age_s=30 - number))
    assert let_out(silent) == ["o0", "o0"]
    assert let_out(silent) == []
    at(engine, canary_at=world.now - timedelta(seconds=1))
    assert let_out(silent) == ["o1", "o1"]


def test_the_oldest_overdue_deadline_is_the_canary(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant whose every order waits for an answer would never be tried again."""
    put(world.order("a", due_in_s=-1))
    put(world.order("b", due_in_s=-5))
    waiting = world.order("c", due_in_s=-9)
    put(waiting, world.message(waiting, owner=HELD))
    due = silent.canary("inventory")
    assert due is not None
    assert (due.order_id, due.excused) == ("b", True)
    at(engine, canary_at=world.now + timedelta(seconds=60))
    assert silent.canary("inventory") is None
    silent.recover("inventory")
    assert silent.canary("inventory") is None


def test_the_tap_opens_slowly_and_lets_old_and_young_go(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant that is just back would be flooded, or new orders would wait behind all of the outage."""
    for number in range(40):
        order = world.order(f"o{number:02}")
        put(order, world.message(order, owner=HELD, age_s=60 - number))
    silent.recover("inventory")
    # Time goes on between two questions, so each may get a little more than what was waited for.
    gone = let_out(silent)
    assert 4 <= len(gone) <= 7
    assert_old_and_young(gone, gone)
    at(engine, refilled_at=silent.now() - timedelta(seconds=1), tokens=0.0, rate_per_s=4.0)
    more = let_out(silent)
    assert 8 <= len(more) <= 12
    assert_old_and_young(gone + more, more)
    at(engine, refilled_at=silent.now() - timedelta(days=30))
    assert len(let_out(silent)) == 16
    assert health(engine).state == "recovering"


def assert_old_and_young(all_gone: list[str], last: list[str]) -> None:
    """Of forty orders the oldest and the youngest went, three old ones for a young one."""
    young = sorted(order_id for order_id in all_gone if order_id >= "o30")
    old = sorted(set(all_gone) - set(young))
    assert old == [f"o{number:02}" for number in range(len(old))]
    assert young == [f"o{number:02}" for number in range(40 - len(young), 40)]
    assert sum(order_id >= "o30" for order_id in last) == len(last) // 4


def test_more_than_was_allowed_is_owed(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise orders with many messages would pass the rate."""
    order = world.order("o")
    put(order, *(world.message(order, owner=HELD, seq=seq) for seq in range(1, 9)))
    silent.recover("inventory")
    assert len(let_out(silent)) == 8
    other = world.order("p")
    put(other, world.message(other, owner=HELD))
    at(engine, refilled_at=silent.now() - timedelta(milliseconds=500))
    assert let_out(silent) == []


def test_with_nothing_left_it_is_healthy(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise it would be asked at a pace for ever; or be called well while the outage still waits to be fed."""
    overdue = put(world.order("late", due_in_s=-1, opened_ago_s=60))
    silent.recover("inventory")
    assert let_out(silent) == []
    assert health(engine).state == "recovering"
    with silent.transaction() as transaction:
        transaction.lock_orders(["late"])
        transaction.write(
            Changes(moved=[(moved(overdue, "done"), 1)], before={"late": overdue}, disarmed=[("late", name) for name in overdue.deadlines])
        )
    assert let_out(silent) == []
    assert health(engine).state == "healthy"


def test_what_was_kept_back_a_moment_too_long_goes_at_once(store: SqlStore, world: World, put: Put) -> None:
    """Otherwise what a worker wrote that did not know yet that the participant is well would lie for ever."""
    order = world.order("o")
    put(order, world.message(order, owner=HELD))
    assert store.beat("me", "worker", None).dead_owners == [HELD]
    assert let_out(store) == ["o"]


def test_taking_over_leaves_what_is_kept_back(store: SqlStore, world: World, put: Put) -> None:
    """Otherwise any word of an order would send what its silent participant is to be spared; or overtake it once that is well (R17)."""
    order = world.order("o")
    put(order, world.message(order, owner=HELD), world.message(order, owner="dead", seq=2))
    with store.transaction() as transaction:
        assert [message.seq for message in transaction.take_over(["o"], "me", except_of=[HELD])] == [2]
    with store.transaction() as transaction:
        assert [message.seq for message in transaction.take_over(["o"], "me")] == [1]


def test_an_answer_takes_what_is_kept_back_along(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant would be asked again for what it has just answered."""
    order = world.order("o")
    put(order, world.message(order, owner=HELD))
    with silent.transaction() as transaction:
        transaction.lock_orders(["o"])
        transaction.write(Changes(answered=[("o", "command-of-o")]))
    assert health(engine).held == 0


def test_two_workers_let_out_no_more_than_one(silent: SqlStore, world: World, put: Put) -> None:
    """Otherwise the rate would grow with the number of workers, or a message would be sent by both."""
    for number in range(40):
        order = world.order(f"o{number:02}")
        put(order, world.message(order, owner=HELD, age_s=60 - number))
    silent.recover("inventory")
    got: list[str] = []
    workers = [threading.Thread(target=lambda: got.extend(let_out(silent))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert len(got) == len(set(got))
    assert 4 <= len(got) <= 16


@pytest.mark.real
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_span_is_refilled_once(silent: SqlStore, engine: sa.Engine) -> None:
    """Otherwise a worker that waited for another's lock would let out again what that one has let out, by its older clock."""
    silent.recover("inventory")
    refilled_at: list[datetime] = []

    def let_another_be_first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FOR UPDATE" in statement and not refilled_at:
            refilled_at.append(silent.now())
            at(engine, refilled_at=refilled_at[0])

    sa.event.listen(engine, "before_cursor_execute", let_another_be_first)
    let_out(silent)
    with reading(engine) as connection:
        assert connection.scalars(sa.select(tables.participants.c.refilled_at)).one() > refilled_at[0]


def test_a_worker_that_dies_with_its_share_leaves_it_to_another(silent: SqlStore, world: World, put: Put) -> None:
    """Otherwise what was let out just before a death would be lost: it is kept back no longer, and nobody sends it."""
    for number in range(8):
        order = world.order(f"o{number}")
        put(order, world.message(order, owner=HELD, age_s=60 - number))
    silent.recover("inventory")
    share = [message.order_id for message in silent.adopt(HELD, "dead", 100)]
    assert share
    assert set(silent.beat("other", "worker", None).dead_owners) == {HELD, "dead"}
    assert sorted(message.order_id for message in silent.adopt("dead", "other", 100)) == sorted(share)


def test_a_resync_sends_anew_what_is_outstanding_each_once(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise a participant that lost its queue would wait for every deadline, or be asked in a circle."""
    early, late = put(world.order("early", opened_ago_s=90)), put(world.order("late", opened_ago_s=30))
    unsent = world.order("unsent", opened_ago_s=30)
    put(unsent, world.message(unsent, owner="me"))
    assert store.to_resync("inventory", 10) is None
    store.begin_resync("inventory", world.now - timedelta(seconds=60))
    assert [due.order_id for due in store.to_resync("inventory", 10) or []] == ["late"]
    store.begin_resync("inventory", None)
    found = store.to_resync("inventory", 10) or []
    assert [(due.order_id, due.excused) for due in found] == [("early", True), ("late", True)]
    store.resynced("inventory")
    assert health(engine).resync_under_way
    for order in (early, late):
        armed = [(order.order_id, replace(deadline, armed_at=store.now())) for deadline in order.deadlines.values()]
        with store.transaction() as transaction:
            transaction.lock_orders([order.order_id])
            transaction.write(Changes(armed=armed))
    assert store.to_resync("inventory", 10) == []
    store.resynced("inventory")
    assert store.to_resync("inventory", 10) is None
    assert health(engine).state == "recovering"


def test_a_resync_of_a_silent_participant_waits_for_its_word(silent: SqlStore, engine: sa.Engine) -> None:
    """Otherwise an operator would flood one that is still away; or what it lost would be forgotten by the time it is back."""
    silent.begin_resync("inventory", None)
    assert (health(engine).state, health(engine).resync_under_way) == ("silent", True)
    silent.recover("inventory")
    assert (health(engine).state, health(engine).resync_under_way) == ("recovering", True)
    silent.silence("inventory", silent.now() + timedelta(seconds=1))
    assert health(engine).resync_under_way


def test_health_tells_what_waits(silent: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """Otherwise an operator could not see how much an outage holds up."""
    order = put(world.order("a", due_in_s=-1))
    put(world.order("b"), world.message(order, owner=HELD))
    found = health(engine)
    assert (found.state, found.held, found.overdue, found.resync_under_way) == ("silent", 1, 1, False)
    assert isinstance(found.since, datetime)
    assert Queries(engine).outbox_age_s() == 0.0


@pytest.mark.parametrize("passed_s", [0.0, 1.0, 1e9])
def test_the_rate_never_overflows(passed_s: float) -> None:
    """Otherwise a fleet that was away for an hour could never feed a participant again."""
    assert participants.faster(4, passed_s, PACE) <= 16
    assert 16 <= participants.faster(16, passed_s, PACE) <= 32
