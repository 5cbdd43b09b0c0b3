"""The line with a recorder: nothing is acked or answered before the recorder has it (R28)."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.app.handle import Context
from orchestrator.app.line import Line
from orchestrator.app.ports import Bus, Delivery, OutboxMessage, Settled
from orchestrator.app.protection import WAIT_MAX_S
from orchestrator.app.work import Work
from orchestrator.bus.memory import MemoryBroker
from orchestrator.contract import RECORD, Topology
from orchestrator.errors import TemporaryError
from orchestrator.saga.inputs import OperatorAct
from tests.app.house import House
from tests.app.running import PARTICIPANTS, Running, WatchedBus
from tests.support.processes import eventually


class RecordingBus(WatchedBus):
    """The real bus; what goes to the recorder it keeps until it is told to confirm it."""

    has_recorder = True

    def __init__(self, broker: MemoryBroker, participants: Collection[str]) -> None:
        super().__init__(broker, participants)
        self.records: list[OutboxMessage] = []
        self.acked: list[Delivery] = []

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        self.records += [message for message in messages if message.content_type == RECORD]
        super().publish([message for message in messages if message.content_type != RECORD])

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += deliveries
        super().ack(deliveries)

    def confirm(self) -> None:
        """The recorder has everything by now."""
        for record in self.records:
            self._sink(Settled(outbox_id=record.outbox_id, outcome="confirmed"))
        self.records.clear()


class Recorded(Running):
    """A line at work with a recorder."""

    def __init__(self, house: House) -> None:
        house.context = replace(house.context, records=True)
        super().__init__(house)

    def make_line(self, context: Context, failpoint: str | None = None, bus: Bus | None = None) -> Line:
        self.bus = RecordingBus(self.broker, PARTICIPANTS)
        return super().make_line(context, failpoint, bus)

    @property
    def recorder(self) -> RecordingBus:
        assert isinstance(self.bus, RecordingBus)
        return self.bus


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    running = Recorded(House(f"sqlite:///{tmp_path}/escrow.db"))
    yield running
    running.recorder.confirm()
    running.line.stop()
    running.broker.close()
    running.house.close()


def test_an_event_is_acked_when_it_is_recorded_and_not_before(recorded: Recorded) -> None:
    """If it failed, an order could be accepted that nothing brings back when the database is lost."""
    recorded.place("o1")
    eventually(lambda: len(recorded.recorder.records) == 1)
    eventually(lambda: recorded.broker.depth(Topology().command_queue("inventory")) == 1, what="its command waits for nobody")
    assert recorded.recorder.acked == []
    recorded.recorder.confirm()
    eventually(lambda: len(recorded.recorder.acked) == 1)
    eventually(lambda: recorded.house.queries.outbox_size() == 0)


def test_a_caller_is_answered_when_it_is_recorded_and_not_before(recorded: Recorded) -> None:
    """If it failed, an order that was answered with 201 could be missing after a recovery."""
    recorded.place("o1")
    eventually(lambda: recorded.state("o1") is not None)
    act = OperatorAct(act="abort", actor="ann", reason="test", seq=recorded.house.order("o1").seq)
    future = recorded.line.submit(Work(order_id="o1", input=act))
    eventually(lambda: recorded.state("o1") == "undoing_reserve_inventory")
    assert not future.done()
    recorded.recorder.confirm()
    assert future.result(timeout=10).error is None


def test_a_broker_that_takes_nothing_stops_nobody_for_long(recorded: Recorded) -> None:
    """If it failed, an alarm of the broker would stop all orders; or nobody would know what is unprotected."""
    recorded.place("o1")
    eventually(lambda: len(recorded.recorder.records) == 1)
    recorded.ahead_s += WAIT_MAX_S

    def unprotected_s() -> float:
        recorded.line.tick()
        return recorded.metrics.registry.get_sample_value("escrow_unprotected_seconds_total") or 0.0

    eventually(lambda: unprotected_s() >= WAIT_MAX_S and len(recorded.recorder.acked) == 1)
    recorded.place("o2")
    eventually(lambda: len(recorded.recorder.acked) == 2)
    recorded.recorder.confirm()
    eventually(lambda: not any(recorded.recorder.records))
    recorded.line.tick()
    eventually(lambda: recorded.house.queries.outbox_size() == 0)
    recorded.line.tick()
    before = unprotected_s()
    recorded.ahead_s += 60
    assert unprotected_s() == before, "everything is recorded again"


def test_who_waits_when_the_process_stops_is_told_to_ask_again(recorded: Recorded) -> None:
    """If it failed, a caller would take for done what may have to be recovered, or wait for its timeout."""
    recorded.place("o1")
    eventually(lambda: recorded.state("o1") is not None)
    act = OperatorAct(act="abort", actor="ann", reason="test", seq=recorded.house.order("o1").seq)
    future = recorded.line.submit(Work(order_id="o1", input=act))
    eventually(lambda: recorded.state("o1") == "undoing_reserve_inventory")
    recorded.line.stop()
    assert isinstance(future.result(timeout=1).error, TemporaryError)
    assert recorded.recorder.acked == []


def test_a_process_that_stops_in_the_middle_of_a_batch_waits_for_the_recorder(recorded: Recorded) -> None:
    """If it failed, every stop under load would leave what it had committed to be delivered once more."""
    house = recorded.house
    with house.store.transaction() as held:
        # The handler waits for the database with the batch in its hands while the process is told to stop.
        held.lock_orders(["o0"])
        recorded.place("o1")
        eventually(lambda: recorded.broker.depth(Topology().inbox) == 0)
        stopping = threading.Thread(target=recorded.line.stop)
        stopping.start()
        eventually(lambda: not recorded.line._queue.empty())
    eventually(lambda: len(recorded.recorder.records) == 1)
    recorded.recorder.confirm()
    stopping.join(10)
    assert len(recorded.recorder.acked) == 1
