"""Acks and answers wait for the recorder, in order, and not for ever (R28)."""

from __future__ import annotations

import gc

from orchestrator.app.ports import Delivery
from orchestrator.app.protection import WAIT_MAX_S, Committed, Protection
from orchestrator.app.work import Outcome, Work
from orchestrator.contract import Wire
from orchestrator.errors import TemporaryError


def batch(at_s: float, *records: str, tag: int = 1) -> Committed:
    """A batch of one delivery."""
    delivery = Delivery(wire=Wire(content_type="", headers={}, body=b""), tag=tag, link_epoch=1, redelivered=False)
    return Committed(at_s, [delivery], records=set(records))


def test_a_batch_waits_for_all_of_its_records() -> None:
    """If it failed, a message would be acked that nothing could recover."""
    protection, one = Protection(), batch(0, "r1", "r2")
    protection.committed(one)
    assert protection.released() == []
    protection.confirmed("r1")
    protection.confirmed("a command")
    assert protection.released() == []
    protection.confirmed("r2")
    assert protection.released() == [one]
    assert protection.released() == []


def test_batches_are_let_go_in_order() -> None:
    """If it failed, the ack of a later batch, which takes every earlier delivery along, would ack what is not recorded."""
    protection, first, second, third = Protection(), batch(0, "r1"), batch(1), batch(2, "r3")
    for one in (first, second, third):
        protection.committed(one)
    protection.confirmed("r3")
    assert protection.released() == []
    protection.confirmed("r1")
    assert protection.released() == [first, second, third]


def test_what_records_nothing_waits_for_nobody() -> None:
    """If it failed, an installation without a recorder would ack nothing."""
    protection, one = Protection(), batch(0)
    protection.committed(one)
    assert protection.released() == [one]
    assert protection.looked_at(1e9, broker_takes=True) == 0


def test_when_the_broker_takes_nothing_they_go_on_and_the_time_is_counted() -> None:
    """If it failed, a broker's alarm would stop all orders, or nobody would know that they are unprotected."""
    protection, first, second = Protection(), batch(10, "r1"), batch(16, "r2")
    protection.committed(first)
    assert protection.looked_at(10 + WAIT_MAX_S - 0.1, broker_takes=True) == 0
    assert protection.released() == []
    assert protection.looked_at(10 + WAIT_MAX_S, broker_takes=True) == WAIT_MAX_S
    assert protection.released() == [first]

    protection.committed(second)
    assert protection.released() == [second], "nobody waits for what is known not to come"
    assert protection.looked_at(17, broker_takes=True) == 2
    protection.confirmed("r1")
    assert protection.looked_at(18, broker_takes=True) == 1
    assert not protection.is_on
    protection.confirmed("r2")
    assert protection.looked_at(20, broker_takes=True) == 2
    assert protection.is_on

    third = batch(21, "r3")
    protection.committed(third)
    assert protection.released() == [], "everything is recorded again, so acks wait again"
    assert protection.looked_at(22, broker_takes=True) == 0


def test_a_record_that_another_worker_sends_is_waited_for_no_longer_than_any() -> None:
    """If it failed, its batch would never be acked, or the rest of the process' life would count as unprotected."""
    protection, one = Protection(), batch(0, "r1")
    protection.committed(one)
    protection.left_to_others(["r1"])
    assert protection.released() == []
    assert protection.looked_at(WAIT_MAX_S, broker_takes=True) == WAIT_MAX_S
    assert protection.released() == [one]
    assert protection.is_on


def test_while_the_broker_is_away_nobody_waits_again_for_what_was_left_to_others() -> None:
    """If it failed, an API that leaves its records to the workers would make every caller of an outage wait five seconds."""
    protection = Protection()
    protection.committed(batch(0, "r1"))
    protection.looked_at(WAIT_MAX_S, broker_takes=False)
    protection.left_to_others(["r1"])
    assert protection.looked_at(6, broker_takes=False) == 1
    second = batch(7, "r2")
    protection.committed(second)
    assert second in protection.released()
    protection.left_to_others(["r2"])
    protection.looked_at(8, broker_takes=True)
    assert protection.is_on


def test_who_waits_when_the_process_stops_is_told() -> None:
    """If it failed, a caller would wait for its own timeout."""
    told: list[Outcome] = []
    work = Work(order_id="o1", input=None, on_outcome=told.append)
    protection = Protection()
    protection.committed(Committed(0, outcomes=[(work, Outcome(decision=None, order=None))], records={"r1"}))
    protection.give_up("stopping")
    assert [str(outcome.error) for outcome in told] == ["stopping"]
    assert isinstance(told[0].error, TemporaryError)
    assert protection.is_empty


def test_what_went_on_without_the_recorder_is_not_kept() -> None:
    """If it failed, an alarm of the broker would fill the memory with messages and orders that nobody waits for any more."""
    protection, first, second = Protection(), batch(10, "r1"), batch(16, "r2")
    protection.committed(first)
    protection.looked_at(10 + WAIT_MAX_S, broker_takes=False)
    protection.committed(second)
    assert protection.released() == [first, second]
    assert not any(isinstance(held, Committed) for held in gc.get_referents(protection._unconfirmed))
    protection.confirmed("r1")
    assert not protection.is_on
    protection.confirmed("r2")
    protection.looked_at(20, broker_takes=True)
    assert protection.is_on
