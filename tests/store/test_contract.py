"""The store's contract, on both databases: what `app` may rely on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from queue import Queue

import pytest
import sqlalchemy as sa

from orchestrator.app.ports import Changes, Parked, Quarantined, Resolved
from orchestrator.app.replay import entry_of
from orchestrator.errors import Conflict, DataRefused, InvariantViolated, StoreBusy, Unprocessable
from orchestrator.saga.order import Order
from orchestrator.store import audit, tables, verify
from orchestrator.store.dialect import writing
from orchestrator.store.orders import lock, projection, read_document
from orchestrator.store.queries import Queries
from orchestrator.store.tokens import Tokens
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World, moved

Put = Callable[..., Order]
WITHIN_S = 10.0


def test_an_order_comes_back_as_it_was_written(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, orders would change by being stored."""
    order = put(world.order("o-1"))

    with store.transaction() as transaction:
        assert transaction.lock_orders(["o-1", "o-2"]) == {"o-1": order}
    assert Queries(engine).order("o-1") == order
    for one in verify.journals(engine):
        kept, lines = one, list(one.lines)
    assert kept.row == projection(order)
    assert (kept.row["waiting_on"], kept.row["attempts"]) == ("inventory", 2)
    assert read_document(kept.document or b"") == order
    assert [entry_of(line) for line in lines] == [world.entry(order)]
    assert [row["due_at"] for row in kept.deadlines] == [order.next_due_at]


def test_an_order_decided_on_another_seq_is_not_overwritten(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, a lost update would go unnoticed (R19)."""
    first, second = put(world.order("a")), put(world.order("b"))
    later = [(moved(first, "taking"), 1), (moved(second, "taking"), 7)]

    with pytest.raises(InvariantViolated), store.transaction() as transaction:
        transaction.write(Changes(moved=later, before={"a": first, "b": second}))
    assert Queries(engine).order("a") == first


def test_two_transactions_on_one_order_go_one_after_the_other(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, two workers would decide on the same order at once, or on what it was before the wait."""
    order = put(world.order("o"))
    seen: Queue[Order] = Queue()

    def follow() -> None:
        with store.transaction() as transaction:
            seen.put(transaction.lock_orders(["o"])["o"])

    follower = threading.Thread(target=follow)
    with store.transaction() as transaction:
        transaction.lock_orders(["o"])
        follower.start()
        assert seen.empty()
        transaction.write(Changes(moved=[(moved(order, "taking"), 1)], before={"o": order}))
    follower.join(WITHIN_S)
    assert seen.get(timeout=WITHIN_S).state == "taking"


def test_an_opening_and_an_event_for_it_cannot_miss_each_other(store: SqlStore, world: World) -> None:
    """If this failed, an event would stay parked for ever beside the order it is for (R19)."""
    order = world.order("new")
    seen: Queue[dict[str, Order]] = Queue()

    def come_second() -> None:
        with store.transaction() as transaction:
            seen.put(transaction.lock_orders(["new"]))

    second = threading.Thread(target=come_second)
    with store.transaction() as transaction:
        assert transaction.lock_orders(["new"]) == {}
        second.start()
        transaction.write(Changes(opened=[order]))
    second.join(WITHIN_S)
    assert seen.get(timeout=WITHIN_S) == {"new": order}


def test_a_held_lock_is_the_worlds_fault(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, a lock timeout would be charged to a message, be taken for an outage, or hang a worker."""
    put(world.order("o"))
    outcome: Queue[StoreBusy | None] = Queue()

    def wait() -> None:
        try:
            with store.transaction() as transaction:
                transaction.lock_orders(["o"])
            outcome.put(None)
        except StoreBusy as error:
            outcome.put(error)

    waiter = threading.Thread(target=wait)
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            # Or the holder's session would be ended for idling, and the waiter have the lock.
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        lock(connection, ["o"])
        waiter.start()
        assert isinstance(outcome.get(timeout=WITHIN_S), StoreBusy)
    waiter.join(WITHIN_S)


def test_only_confirmed_commands_have_deadlines_that_fire(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, silence would be declared for a command nobody has received (R5), or a deadline would fire early."""
    waiting = world.order("waiting", due_in_s=-2)
    message = world.message(waiting, owner="w")
    put(waiting, message)
    late, later = put(world.order("late", due_in_s=-5)), put(world.order("later", due_in_s=-3))
    put(world.order("future"))

    assert [due.order_id for due in store.due(10)] == ["late", "later"]
    assert [due.order_id for due in store.due(1)] == ["late"]
    [name] = late.deadlines

    store.forget_outbox([message.outbox_id])
    until = store.now() + timedelta(minutes=1)
    with store.transaction() as transaction:
        transaction.write(Changes(put_off=[("later", name, until)], disarmed=[("late", name)]))
        assert transaction.put_off_counts([("later", name), ("none", name)]) == {("later", name): 1}
    assert [due.order_id for due in store.due(10)] == ["waiting"]
    assert later.next_due_at is not None
    with store.transaction() as transaction:
        transaction.write(Changes(armed=[("later", later.deadlines[name])]))
    assert [due.order_id for due in store.due(10)] == ["later", "waiting"]


def test_an_answered_command_leaves_the_outbox_and_its_next_sending_stays(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, answered commands would be sent again, or a new sending be lost with the old one."""
    order = world.order("o")
    old, new = world.message(order, owner="w"), world.message(order, owner="w", seq=2)
    put(order, old)

    with store.transaction() as transaction:
        transaction.write(Changes(answered=[("o", "command-of-o")], outbox=[new]))
    assert store.owned("w", [old.outbox_id, new.outbox_id]) == [new.outbox_id]


def test_a_writer_takes_over_what_others_have_not_sent(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, an undo could leave before the command it undoes (R17)."""
    order = world.order("o")
    mine = world.message(order, owner="me")
    rows = [world.message(order, owner="other", seq=2, place=1), world.message(order, owner=None, seq=2), mine]
    put(order, *rows)

    with store.transaction() as transaction:
        taken = transaction.take_over(["o"], "me")
    assert taken == [replace(rows[1], owner="me"), replace(rows[0], owner="me")]
    assert store.owned("me", [row.outbox_id for row in rows]) == [mine.outbox_id, rows[1].outbox_id, rows[0].outbox_id]


def test_a_dead_workers_messages_are_adopted_whole(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, the commands of a killed worker would never leave."""
    store.beat("alive", "worker", None)
    store.beat("dead", "worker", None)
    order = world.order("o")
    put(order, *(world.message(order, owner="dead", seq=seq) for seq in (1, 2, 3)))
    assert store.beat("alive", "worker", None).dead_owners == []
    assert store.adopt("dead", "alive", 1) == []

    with engine.begin() as connection:
        silent = sa.update(tables.workers).where(tables.workers.c.incarnation == "dead")
        connection.execute(silent.values(beat_at=world.now - timedelta(seconds=2)))
    assert store.beat("alive", "worker", None).dead_owners == ["dead"]
    assert [message.seq for message in store.adopt("dead", "alive", 1)] == [1, 2, 3]
    assert store.adopt("dead", "alive", 1) == []
    assert store.beat("alive", "worker", None).dead_owners == []


def test_messages_of_nobody_and_of_unknown_owners_are_adopted(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, what the API process could not publish would stay in the outbox."""
    order, other = world.order("o"), world.order("p")
    young, released = world.message(order, owner=None), world.message(order, owner="me")
    put(order, young, released)
    put(other, world.message(other, owner="never-beat"))

    assert store.beat("me", "worker", None).dead_owners == ["never-beat"]
    store.release("me", [released.outbox_id])
    old = world.message(order, owner=None, age_s=3)
    with store.transaction() as transaction:
        transaction.write(Changes(outbox=[old]))
    assert set(store.beat("me", "worker", None).dead_owners) == {None, "never-beat"}
    assert {message.outbox_id for message in store.adopt(None, "me", 10)} == {young.outbox_id, released.outbox_id, old.outbox_id}
    assert len(store.adopt("never-beat", "me", 10)) == 1
    store.leave("me")
    assert store.owned("me", [old.outbox_id]) == []


def test_a_beat_tells_the_time_the_next_deadline_and_the_first_link(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, deadlines would wait for the next tick, or be excused wrongly (R9)."""
    order = put(world.order("o"))
    first = store.beat("a", "worker", world.now)
    second = store.beat("b", "worker", world.now + timedelta(seconds=5))

    assert first.now >= world.now
    assert (second.next_due_at, second.earliest_link_up_at) == (order.next_due_at, world.now)
    assert store.beat("b", "worker", None).earliest_link_up_at == world.now


def test_workers_that_read_say_how_far_they_are(store: SqlStore, world: World) -> None:
    """Otherwise a replay would be made while a worker has answers in its hands (R29), or wait for a process that takes none."""
    store.beat("api", "serve", None)
    store.beat("stuck", "worker", world.now, timedelta(seconds=60))
    store.beat("quick", "worker", world.now)
    readers = store.readers()
    assert readers.keys() == {"stuck", "quick"}
    stuck, quick = readers["stuck"], readers["quick"]
    assert stuck is not None
    assert quick is not None
    assert stuck < world.now - timedelta(seconds=50) < world.now <= quick


def test_messages_are_recorded_once(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, an event could be applied twice (R15)."""
    order = put(world.order("o"))
    two, three = moved(order, "taking"), moved(moved(order, "taking"), "taking")
    with store.transaction() as transaction:
        transaction.write(Changes(entries=[world.entry(two, message_id="m")]))
        found = transaction.recorded([("o", "inventory", "m"), ("o", "payment", "m"), ("x", "inventory", "m")])
        assert transaction.bodies([("o", 2), ("o", 9)]) == {("o", 2): b'{"seq":2}'}
    assert {key: record.seq for key, record in found.items()} == {("o", "inventory", "m"): 2}

    with pytest.raises(DataRefused), store.transaction() as transaction:
        transaction.write(Changes(entries=[world.entry(three, message_id="m")]))


def test_a_recorded_message_moves_an_order_once(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, a parked message and its replay could both be applied (R15)."""
    order = put(world.order("o"))
    two, three = moved(order, "taking"), moved(moved(order, "taking"), "taking")
    entries = [world.entry(two, cause_seq=1), world.entry(three, cause_seq=1)]

    with pytest.raises(DataRefused), store.transaction() as transaction:
        transaction.write(Changes(entries=entries))


def test_data_that_the_database_refuses_is_told_apart(store: SqlStore, world: World, put: Put) -> None:
    """If this failed, one bad message would be retried for ever with its whole batch."""
    order = put(world.order("o"))
    with pytest.raises(DataRefused), store.transaction() as transaction:
        transaction.write(Changes(opened=[order]))
    with pytest.raises(DataRefused), store.transaction() as transaction:
        transaction.write(Changes(entries=[replace(world.entry(moved(order, "x")), reason="\ud800")]))


def test_counters_follow_the_orders(store: SqlStore, world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, the numbers on every dashboard would drift."""
    first, second, _ = put(world.order("a")), put(world.order("b")), put(replace(world.order("c"), version=10))
    done = replace(moved(first, "completed"), direction="ended", deadlines={})
    migrated = replace(moved(second, "reserving"), version=10)
    with SqlStore(engine, shard=20).transaction() as transaction:
        transaction.write(Changes(moved=[(done, 1), (migrated, 1)], before={"a": first, "b": second}))

    assert Queries(engine).counts() == {("order", "reserving", "running"): 2, ("order", "completed", "completed"): 1}
    counted = {("order@10", "reserving", "running"): 2, ("order@1", "completed", "completed"): 1}
    assert verify.counter_sums(engine) == (counted, counted)


def test_parked_messages_keep_their_order_and_expire(store: SqlStore, world: World, engine: sa.Engine) -> None:
    """If this failed, events would be applied in another order than they came, or wait for ever."""
    rows = [
        Parked(
            order_id="o",
            source="inventory",
            message_id=message_id,
            message_type="T",
            envelope=message_id.encode(),
            parked_at=world.now,
            expires_at=world.now + timedelta(hours=hours),
        )
        for message_id, hours in (("z", 1), ("a", 2), ("m", 3))
    ]
    with store.transaction() as transaction:
        transaction.write(Changes(parked=rows))
        assert transaction.parked(["o", "p"]) == {"o": rows}
        transaction.write(Changes(unparked=[("o", "inventory", "a")]))
    later = world.now + timedelta(hours=2)
    assert store.expire_parked(later, 10) == 1
    assert store.expire_parked(later, 10) == 0
    [row], _ = Queries(engine).quarantine(reason="parked_expired")
    assert (row.order_id, row.message_id, row.body) == ("o", "z", b"z")
    assert Queries(engine).parked_count() == 1
    with pytest.raises(InvariantViolated), store.transaction() as transaction:
        transaction.write(Changes(unparked=[("o", "inventory", "z")]))
    with pytest.raises(DataRefused), store.transaction() as transaction:
        transaction.write(Changes(parked=rows[2:]))


def test_a_message_that_expires_again_is_one_row(store: SqlStore, world: World, engine: sa.Engine) -> None:
    """If this failed, each replay of a message that still fits nothing would leave one row more."""
    row = Parked(
        order_id="o", source="inventory", message_id="m", message_type="T", envelope=b"{}", parked_at=world.now, expires_at=world.now
    )  # fmt: skip
    for _ in range(2):
        with store.transaction() as transaction:
            transaction.write(Changes(parked=[row]))
        store.expire_parked(world.now, 10)
    assert [(row.reason, row.count) for row in Queries(engine).quarantine()[0]] == [("parked_expired", 2)]


def test_equal_quarantined_messages_are_one_row(store: SqlStore, world: World, engine: sa.Engine) -> None:
    """If this failed, a message in a loop would fill the database, or a resolved one come back unseen."""
    message = Quarantined(
        quarantine_id="q-1", reason="malformed", detail="", source=None, message_id=None, message_type=None,
        order_id=None, content_type="text/plain", headers=b"{}", body=b"\x00\xff", at=world.now,
    )  # fmt: skip
    with store.transaction() as transaction:
        transaction.write(Changes(quarantined=[message, replace(message, quarantine_id="q-2", at=world.now + timedelta(seconds=1))]))
    queries = Queries(engine)
    row = queries.quarantined("q-1")
    assert row is not None
    assert (row.count, row.body, row.last_at - row.first_at) == (2, b"\x00\xff", timedelta(seconds=1))
    decided = Resolved(quarantine_id="q-1", resolution="discarded", actor="ada", reason="noise")
    with store.transaction() as transaction:
        assert transaction.lock_quarantined(["q-1", "q-2"]) == {"q-1": None}
        transaction.write(Changes(resolved=[(decided, world.now)]))
        assert transaction.lock_quarantined(["q-1", "q-2"]) == {"q-1": "discarded"}
    with pytest.raises(InvariantViolated), store.transaction() as transaction:
        transaction.write(Changes(resolved=[(decided, world.now)]))
    assert (queries.quarantine_count(), queries.quarantined("q-2")) == (0, None)
    with store.transaction() as transaction:
        # In the binary mode the headers say which message it is.
        transaction.write(Changes(quarantined=[message, replace(message, quarantine_id="q-3", headers=b'{"ce-id":"2"}')]))
    assert queries.quarantine_count() == 2


def test_lists_walk_pages_and_filter(world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, a list would skip or repeat orders, or show the wrong ones."""
    for number in range(5):
        put(world.order(f"o-{number}", opened_ago_s=number // 2, due_in_s=-1 if number == 3 else 60))
    queries = Queries(engine)
    pages, cursor = [], None
    while True:
        page, cursor = queries.orders(after=cursor, limit=2)
        pages.append([order.order_id for order in page])
        if cursor is None:
            break
    assert pages == [["o-1", "o-0"], ["o-3", "o-2"], ["o-4"]]
    assert [order.order_id for order in queries.orders(overdue=queries.now())[0]] == ["o-3"]
    assert len(queries.orders(waiting_on="inventory", status="running", state="reserving", definition="order")[0]) == 5
    assert queries.orders(waiting_on="payment") == ([], None)
    with pytest.raises(Unprocessable):
        queries.orders(after="bm9uc2Vuc2U")
    assert [entry.seq for entry in queries.history("o-1")] == [1]
    assert queries.history("o-1", after_seq=1) == []


def test_the_outbox_is_measured(world: World, put: Put, engine: sa.Engine) -> None:
    """If this failed, a broker that takes nothing would not be alerted."""
    queries = Queries(engine)
    assert (queries.outbox_age_s(), queries.outbox_size()) == (0.0, 0)
    order = world.order("o")
    put(order, world.message(order, owner="w", age_s=7))
    assert (queries.outbox_age_s() >= 7, queries.outbox_size()) == (True, 1)


def test_tokens_are_kept_as_hashes(engine: sa.Engine) -> None:
    """If this failed, a copy of the database would let its reader in."""
    tokens, text = Tokens(engine), "escrow_" + "x" * 43
    tokens.create("ops", "operator", text)
    row = tokens.check(text)
    assert row is not None
    assert (row.name, row.role, tokens.list()) == ("ops", "operator", [row])
    with engine.connect() as connection:
        stored = connection.execute(sa.select(tables.api_tokens)).one()
    assert text not in map(str, stored)
    with pytest.raises(Conflict):
        tokens.create("ops", "admin", text + "y")
    assert (tokens.revoke("ops"), tokens.revoke("ops"), tokens.check(text), tokens.check("\udcff")) == (True, False, None, None)


def test_a_job_is_run_by_one(store: SqlStore, world: World) -> None:
    """If this failed, the whole fleet would run every job."""
    hour = timedelta(hours=1)
    assert [store.claim("health", world.now, hour) for _ in range(2)] == [True, False]
    assert store.claim("health", world.now + hour, hour)


def test_a_denied_act_is_noted(engine: sa.Engine, world: World) -> None:
    """If this failed, nobody would know who tried what."""
    audit.note(engine, at=world.now, actor="eve", act="abandon", order_id="o", outcome="forbidden", detail="needs admin")
    with engine.connect() as connection:
        row = connection.execute(sa.select(tables.audit)).one()
    assert (row.at, row.actor, row.outcome) == (world.now, "eve", "forbidden")
