"""The line: the handler thread on the in-process bus and a real store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.app import line as line_module
from orchestrator.app import sending
from orchestrator.app.fleet import KEYS_KEPT_FOR
from orchestrator.app.handle import Context, handle
from orchestrator.app.line import Line
from orchestrator.app.ports import Delivery, OutboxMessage
from orchestrator.app.watch import LineWatcher
from orchestrator.app.work import Handled, Work, read
from orchestrator.contract import Envelope, Topology, encode
from orchestrator.errors import InvariantViolated, StoreBusy, StoreUnavailable, TemporaryError
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import idempotency
from orchestrator.store.tables import order_data
from orchestrator.store.transaction import SqlStore
from tests.app.house import answer, placed
from tests.app.running import Running, TroubledStore
from tests.support.processes import eventually


def put_off_count(running: Running) -> int:
    name = "reply:reserve_inventory.0.1"
    with running.house.store.transaction() as tx:
        return tx.put_off_counts([("bad", name)]).get(("bad", name), 0)


def store_of(running: Running) -> TroubledStore:
    assert isinstance(running.house.store, TroubledStore)
    return running.house.store


def test_an_event_becomes_a_command_on_the_bus_and_leaves_the_outbox(running: Running) -> None:
    """If it failed, nothing would move."""
    running.place("o1")
    eventually(lambda: running.broker.depth(Topology().command_queue("inventory")) == 1)
    eventually(lambda: running.house.queries.outbox_size() == 0)
    eventually(lambda: running.broker.depth(Topology().inbox) == 0)


def test_a_batch_that_the_database_refuses_loses_only_its_culprit(running: Running) -> None:
    """If it failed, one message could hold up all others, or take them with it."""
    store_of(running).refuses = "bad"
    running.place("a", "bad", "b", "c")
    eventually(lambda: [running.state(order_id) for order_id in ("a", "b", "c")] == ["reserving_inventory"] * 3)
    eventually(lambda: [row.reason for row in running.house.queries.quarantine()[0]] == ["malformed"])
    assert running.state("bad") is None


def test_while_the_database_is_away_nothing_is_lost(running: Running) -> None:
    """If it failed, an outage of the database would drop what came in it."""
    store_of(running).is_away = True
    running.place("o1")
    eventually(lambda: not running.line.database_up)
    store_of(running).is_away = False
    eventually(lambda: running.state("o1") == "reserving_inventory")


def test_what_a_commit_in_doubt_left_behind_is_sent(running: Running) -> None:
    """If it failed, a failover could leave a command unsent for as long as its worker lives: nobody adopts the rows of the living."""
    store_of(running).loses_answer = True
    running.place("o1")
    eventually(lambda: running.state("o1") == "reserving_inventory")
    running.house.clock += timedelta(seconds=2)

    def is_sent() -> bool:
        running.line.tick()
        return running.broker.depth(Topology().command_queue("inventory")) == 1

    eventually(is_sent)
    eventually(lambda: running.house.queries.outbox_size() == 0)


def test_a_batch_that_waits_for_a_lock_is_run_again_and_nobody_is_let_go(running: Running) -> None:
    """If it failed, somebody's open transaction would be taken for an outage: deadlines excused, and the inbox given away (R19)."""
    store_of(running).is_busy = True
    running.place("o1")
    eventually(lambda: store_of(running).times_busy > 2)
    store_of(running).is_busy = False
    eventually(lambda: running.state("o1") == "reserving_inventory")
    assert running.line.database_up
    assert not running.bus.was_paused


def test_a_worker_that_is_stuck_says_how_far_behind_it_is(running: Running) -> None:
    """If it failed, a replay would be made while answers are in a worker's hands, and tell them as missing (R29)."""

    def handled_until() -> datetime | None:
        return running.house.store.readers().get("worker-1")

    def is_reading() -> bool:
        running.line.tick()
        return handled_until() is not None

    eventually(is_reading)
    store_of(running).is_busy = True
    running.place("o1")
    eventually(lambda: store_of(running).times_busy > 0)
    running.line.tick()
    running.ahead_s += 5
    before = handled_until()
    assert before is not None
    store_of(running).is_busy = False
    eventually(lambda: running.state("o1") == "reserving_inventory")
    eventually(lambda: (handled_until() or before) <= running.house.clock - timedelta(seconds=5))


def test_a_database_that_stays_busy_counts_as_away(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a worker whose session is shut out would hold its messages back from the others for ever."""
    monkeypatch.setattr(line_module, "_BUSY_MAX_S", 0.0)
    store_of(running).is_busy = True
    running.place("o1")
    eventually(lambda: running.bus.was_paused and not running.line.database_up)
    store_of(running).is_busy = False
    eventually(lambda: running.state("o1") == "reserving_inventory")


def test_a_tick_that_meets_a_lock_is_the_next_ones_matter(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, two workers that adopt at once would each let their inbox go."""
    asked: list[str | None] = []

    def locked(_store: SqlStore, owner: str | None, *_: object) -> list[OutboxMessage]:
        asked.append(owner)
        raise StoreBusy

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "adopt", locked)
        running.house.handle(placed("o1"), context=running.house.as_worker("dead"))

        def is_asked() -> bool:
            running.line.tick()
            return bool(asked)

        eventually(is_asked)
    running.place("o2")
    eventually(lambda: running.state("o2") == "reserving_inventory")
    assert not running.bus.was_paused


def test_a_bug_that_shows_in_writing_is_quarantined_as_ours_and_alerted(running: Running) -> None:
    """If it failed, a sender would be blamed for our bug, and nobody would hear of it."""
    store_of(running).refuses, store_of(running).refuses_as = "bad", InvariantViolated
    running.place("a", "bad")
    eventually(lambda: [row.reason for row in running.house.queries.quarantine()[0]] == ["internal_error"])
    eventually(lambda: running.state("a") == "reserving_inventory")
    # Counted after the commit, so perhaps a moment after the row is there.
    eventually(lambda: running.metrics.registry.get_sample_value("escrow_alerts_total", {"name": "internal_error"}) == 1)


def test_what_was_committed_is_sent_after_an_outage_that_came_between(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a command would lie in the outbox for as long as its worker lives: nobody adopts the rows of the living (R17)."""
    owned, asked = SqlStore.owned, []

    def away_twice(store: SqlStore, owner: str, outbox_ids: Collection[str]) -> list[str]:
        asked.append(owner)
        if len(asked) <= 2:
            raise StoreUnavailable
        return owned(store, owner, outbox_ids)

    monkeypatch.setattr(SqlStore, "owned", away_twice)
    monkeypatch.setattr(LineWatcher, "reached", lambda _, point: setattr(running, "ahead_s", 2.0 if point == "committed" else 0.0))
    running.place("o1")
    eventually(lambda: running.broker.depth(Topology().command_queue("inventory")) == 1)
    assert len(asked) == 3


def test_what_expires_is_counted(running: Running) -> None:
    """If it failed, the quarantine would grow and its counter would not."""
    running.house.handle(answer("nobody", "reserve_inventory", "InventoryReserved"))
    running.house.clock += timedelta(hours=25)

    def count() -> float | None:
        running.line.tick()
        return running.metrics.registry.get_sample_value("escrow_quarantined_total", {"reason": "parked_expired"})

    eventually(lambda: count() == 1)


def test_a_deadline_that_the_database_refuses_is_put_off(running: Running) -> None:
    """If it failed, it would be tried at every tick, for ever."""
    running.place("bad")
    eventually(lambda: running.house.queries.outbox_size() == 0 and running.state("bad"))
    store_of(running).refuses = "bad"
    running.house.clock += timedelta(seconds=31)

    def is_put_off() -> bool:
        running.line.tick()
        return put_off_count(running) > 0

    eventually(is_put_off)
    assert running.house.store.due(10) == []


def test_what_was_not_committed_is_not_acked_when_a_worker_stops(running: Running) -> None:
    """If it failed, a worker stopped in an outage of the database would drop the batch in its hands."""
    store_of(running).is_away = True
    running.place("o1")
    eventually(lambda: not running.line.database_up)
    running.line.stop()
    assert running.broker.depth(Topology().inbox) == 1


def test_an_act_is_answered_after_its_commit(running: Running) -> None:
    """If it failed, a caller would be told of something that may not have happened."""
    running.place("o1")
    eventually(lambda: running.state("o1"))
    act = OperatorAct(act="abort", actor="op", reason="test", seq=1)
    outcome = running.line.submit(Work(order_id="o1", input=act)).result(timeout=5)
    assert outcome.decision is not None
    assert outcome.decision.verdict == "moved"
    assert running.state("o1") == "undoing_reserve_inventory"


def test_another_line_sends_what_a_dead_one_left(running: Running) -> None:
    """If it failed, a worker's death between commit and publish would silence its orders (R17)."""
    dead = running.house.as_worker("dead")
    running.house.handle(placed("o1"), context=dead)
    assert running.broker.depth(Topology().command_queue("inventory")) == 0

    def adopted() -> Any:
        running.line.tick()
        return running.broker.depth(Topology().command_queue("inventory")) == 1

    eventually(adopted)
    eventually(lambda: running.house.queries.outbox_size() == 0)


def test_a_tick_forgets_old_idempotency_keys(running: Running) -> None:
    """If it failed, the job would be there and nobody would run it."""
    house = running.house
    stored_at = house.clock - KEYS_KEPT_FOR - timedelta(seconds=1)

    def claim(order_id: str) -> str:
        return idempotency.claim(house.engine, key="k", actor="ada", fingerprint="f", order_id=order_id, now=stored_at).order_id

    assert claim("first") == "first"
    running.line.tick()
    eventually(lambda: claim("second") == "second")


@pytest.mark.parametrize(("user_id", "is_taken"), [("inventory", True), ("payment", False), (None, False)])
def test_where_users_are_required_a_message_is_taken_only_from_its_own(user_id: str | None, is_taken: bool) -> None:
    """If it failed, payment could speak for inventory."""
    envelope = Envelope(id="m", source="inventory", type="InventoryReserved", subject="o1", data={})
    delivery = Delivery(wire=encode(envelope), tag=1, link_epoch=1, redelivered=False, user_id=user_id)
    assert (read(delivery, require_user_id=True).unreadable is None) is is_taken
    assert read(delivery, require_user_id=False).unreadable is None


def test_a_stopped_line_refuses_new_work_clearly(running: Running) -> None:
    """If it failed, a caller of a stopping process would wait for nothing."""
    running.line.stop()
    with pytest.raises(TemporaryError, match="stopping"):
        running.line.submit(Work(order_id="o1", input=None)).result(timeout=5)


def test_what_meets_a_damaged_order_is_set_aside_and_its_neighbours_are_not(running: Running) -> None:
    """Otherwise one damaged row would take every message of its batch with it: acked by the next batch, and nowhere."""
    running.place("bad")
    eventually(lambda: running.state("bad") is not None and running.house.queries.outbox_size() == 0)
    with running.house.engine.begin() as connection:
        connection.execute(sa.update(order_data).values(document=b"{"))
    store = store_of(running)
    # The handler waits with the first, so that the next two come in one batch.
    store.is_busy = True
    running.place("first")
    eventually(lambda: store.times_busy > 0)
    wire = answer("bad", "reserve_inventory", "InventoryReserved").wire
    assert wire is not None
    running.broker.route(Topology().events, "inventory.InventoryReserved", wire)
    running.place("neighbour")
    eventually(lambda: running.broker.depth(Topology().inbox) == 0)
    store.is_busy = False
    eventually(lambda: running.state("neighbour") == "reserving_inventory")
    assert [row.reason for row in running.house.queries.quarantine()[0]] == ["internal_error"]


def test_a_bug_in_handling_sets_one_message_aside(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the batch would be forgotten, and the ack of the next one would take its messages from the broker."""

    def stumbling(context: Context, works: Sequence[Work], **more: Any) -> Handled:
        if any(work.order_id == "bad" for work in works):
            raise KeyError("planted")
        return handle(context, works, **more)

    monkeypatch.setattr(line_module, "handle", stumbling)
    running.place("one", "bad", "other")
    eventually(lambda: running.state("one") and running.state("other"))
    eventually(lambda: running.house.queries.quarantine_count() == 1)


def test_a_batch_that_stumbles_is_delivered_again_and_not_acked_with_the_next(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a bug that nothing else catches would lose what was in hand."""
    whole = Line._handle
    stumbled: list[list[Work]] = []

    def fails_once(line: Line, works: list[Work]) -> Handled:
        if works and not stumbled:
            stumbled.append(works)
            raise RuntimeError("planted")
        return whole(line, works)

    monkeypatch.setattr(Line, "_handle", fails_once)
    running.place("first")
    eventually(lambda: stumbled)
    running.place("second")
    eventually(lambda: running.state("second") and running.state("first"))


def test_what_was_committed_before_a_stumble_is_sent(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would belong to a living worker that knows nothing of it: sent by nobody, and its deadline never fired."""
    whole = LineWatcher.reached
    failures = iter([True])

    def fails_once(watcher: LineWatcher, point: str) -> None:
        if point == "committed" and running.state("o1") and next(failures, False):
            raise RuntimeError("planted")
        whole(watcher, point)

    monkeypatch.setattr(LineWatcher, "reached", fails_once)
    running.place("o1")
    eventually(lambda: running.state("o1") is not None)

    def is_sent() -> bool:
        running.house.clock += timedelta(seconds=1)
        running.line.tick()
        return running.broker.depth(Topology().command_queue("inventory")) >= 1

    eventually(is_sent)


def test_after_standing_still_the_only_worker_excuses_what_fell_due(running: Running) -> None:
    """Otherwise a frozen process would take its own silence for that of the participants, and undo orders that were done (R9)."""
    running.line.tick()
    running.place("o1")
    eventually(lambda: running.state("o1") is not None and running.house.queries.outbox_size() == 0)
    running.line.tick()
    # Stopped for 40 s: no tick and no delivery, while both clocks went on.
    running.ahead_s += 40
    running.house.clock += timedelta(seconds=40)

    def fired() -> list[str]:
        running.line.tick()
        return [entry.reason or "" for entry in running.house.queries.history("o1") if entry.kind == "deadline"]

    assert eventually(fired)[0].startswith("excused")


def test_while_the_broker_takes_nothing_what_is_too_much_waits_in_the_outbox_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an alarm of the broker would fill the memory of every worker until it dies."""
    monkeypatch.setattr(sending, "ON_THE_WAY_MAX", 100)
    running.bus.is_blocked = True
    order_ids = [f"o{number}" for number in range(200)]
    running.place(*order_ids)
    eventually(lambda: all(running.state(order_id) for order_id in order_ids))
    running.line.tick()
    assert len(running.bus.kept) <= 100
    running.bus.is_blocked = False
    running.bus.publish([])

    def all_sent() -> bool:
        running.house.clock += timedelta(seconds=0.5)
        running.line.tick()
        return running.broker.depth(Topology().command_queue("inventory")) == len(order_ids)

    eventually(all_sent)
