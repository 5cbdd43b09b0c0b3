"""The line: the handler thread on the in-process bus and a real store."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.app import line as line_module
from orchestrator.app.fleet import KEYS_KEPT_FOR
from orchestrator.app.ports import Delivery, OutboxMessage
from orchestrator.app.watch import LineWatcher
from orchestrator.app.work import Work, read
from orchestrator.contract import Envelope, Topology, encode
from orchestrator.errors import InvariantViolated, StoreBusy, StoreUnavailable, TemporaryError
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import idempotency
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
