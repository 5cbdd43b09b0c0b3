"""The line: the handler thread on the in-process bus and a real store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.fleet import KEYS_KEPT_FOR
from orchestrator.app.handle import Context
from orchestrator.app.line import Limits, Line, read
from orchestrator.app.ports import Changes, Delivery
from orchestrator.app.watch import LineWatcher
from orchestrator.app.work import Work
from orchestrator.bus.memory import MemoryBroker, MemoryBus
from orchestrator.contract import Envelope, Topology, encode
from orchestrator.errors import DataRefused, StoreUnavailable, TemporaryError
from orchestrator.metrics import Metrics
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import idempotency
from orchestrator.store.transaction import SqlStore, SqlTransaction
from orchestrator.wiring import monotonic, sleep
from tests.app.house import DATA, House, placed
from tests.support.processes import eventually

PARTICIPANTS = ("inventory", "payment", "invoice")


class TroubledStore(SqlStore):
    """The real store; it can be told to refuse what names an order, and to be away."""

    refuses: str | None = None
    is_away = False

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        if self.is_away:
            raise StoreUnavailable
        with super().transaction() as tx:
            write = tx.write

            def refusing(changes: Changes) -> None:
                if any(entry.order_id == self.refuses for entry in changes.entries):
                    raise DataRefused("planted")
                write(changes)

            tx.write = refusing  # type: ignore[method-assign]
            yield tx


class Running:
    """A line at work, and the broker it listens to."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.broker = MemoryBroker(Topology())
        self.metrics = Metrics()
        self.killed = threading.Event()
        self.line = self.make_line(house.context)
        self.line.start()
        eventually(lambda: self.line.link.consuming)

    def make_line(self, context: Context, failpoint: str | None = None) -> Line:
        return Line(
            context,
            MemoryBus(self.broker, PARTICIPANTS),
            self.house.store,
            LineWatcher(self.metrics, failpoint=failpoint, die=self.killed.set),
            Limits(require_user_id=False, batch_count_max=50, batch_bytes_max=1 << 20, linger_s=0.001, drain_grace_s=1),
            role="worker",
            monotonic=monotonic,
            pause=sleep,
            wake_at=lambda _: None,
            consume=True,
        )

    def place(self, *order_ids: str) -> None:
        for order_id in order_ids:
            envelope = Envelope(
                id=f"placed-{order_id}", source="shop", type="OrderPlaced", subject=order_id, data=DATA | {"order_id": order_id}
            )
            self.broker.route(Topology().events, "shop.OrderPlaced", encode(envelope))

    def state(self, order_id: str) -> str | None:
        order = self.house.queries.order(order_id)
        return order.state if order is not None else None


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    house = House(f"sqlite:///{tmp_path}/escrow.db", TroubledStore)
    running = Running(house)
    yield running
    running.line.stop()
    running.broker.close()
    house.close()


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
