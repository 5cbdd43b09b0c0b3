"""What a worker sees of its participants (R8): whom it suspects, whom it heard, and when it says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.app.circuit import NOTE_EVERY_S, SUSPECT_FOR, UNATTENDED_FOR, Circuit, Found, held_by, participant_of
from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.saga.decision import Command, Decision, Entry
from orchestrator.saga.inputs import DeadlineDue
from orchestrator.saga.order import Ask, Order
from tests.app.house import answer

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOON = NOON + SUSPECT_FOR
KEY = "reserve_inventory.0.1"


def entry(at: datetime) -> Entry:
    blank: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    return Entry(**blank | {"at": at})


def order_of(order_id: str) -> Order:
    blank: dict[str, Any] = dict.fromkeys(Ask.__dataclass_fields__)
    ask = Ask(**blank | {"step": "reserve_inventory", "participant": "inventory"})
    empty: dict[str, Any] = dict.fromkeys(Order.__dataclass_fields__)
    return Order(**empty | {"order_id": order_id, "asks": {KEY: ask}})


def asked(order_id: str, at: datetime = NOON, *, attempt: int = 1) -> tuple[Work, Outcome]:
    """An input that asked inventory something."""
    blank: dict[str, Any] = dict.fromkeys(Command.__dataclass_fields__)
    command = Command(**blank | {"participant": "inventory", "attempt": attempt})
    decision = Decision(order=None, verdict="moved", entry=entry(at), commands=(command,))
    return Work(order_id=order_id, input=None), Outcome(decision=decision, order=None)


def overdue(order_id: str, at: datetime = NOON, *, excused: bool = False) -> tuple[Work, Outcome]:
    """A reply deadline of inventory that fired."""
    decision = Decision(order=None, verdict="moved", entry=entry(at))
    due = DeadlineDue(name=f"reply:{KEY}", generation=1, excused=excused)
    return Work(order_id=order_id, input=due), Outcome(decision=decision, order=order_of(order_id))


def spoke(order_id: str) -> tuple[Work, Outcome]:
    """A reply of inventory."""
    decision = Decision(order=None, verdict="moved", entry=entry(NOON), answered=("command",))
    return answer(order_id, "reserve_inventory", "InventoryReserved"), Outcome(decision=decision, order=None)


def seen(*outcomes: tuple[Work, Outcome], circuit: Circuit | None = None) -> Circuit:
    circuit = circuit or Circuit(orders_min=10)
    circuit.noted(Handled(outcomes=list(outcomes)))
    return circuit


def together(*circuits: Circuit, now: datetime = SOON) -> dict[str, Found]:
    """What these processes find together, as the database adds it up."""
    found = [circuit.suspicions(now)["inventory"].found for circuit in circuits if circuit.suspicions(now)]
    sums = {name: sum(getattr(one, name) for one in found) for name in ("asked", "overdue", "waiting")}
    return {"inventory": Found(**sums)} if found else {}


def suspects(*circuits: Circuit, now: datetime = SOON) -> dict[str, datetime]:
    """Whom the first of these processes suspects."""
    return circuits[0].suspects(now, together(*circuits, now=now))


def unanswered(*circuits: Circuit, now: datetime = SOON) -> list[str]:
    """At whose queues the first of these processes looks."""
    return circuits[0].unanswered(now, together(*circuits, now=now))


def many(number: int) -> list[str]:
    return [f"o{place}" for place in range(number)]


def test_ten_orders_and_half_of_those_that_asked_make_a_suspect() -> None:
    """Otherwise a few slow orders would close the circuit, or thousands would spend their attempts on one that is away."""
    twenty = [asked(order_id) for order_id in many(20)]
    assert suspects(seen(*twenty, *(overdue(order_id) for order_id in many(10)))) == {"inventory": NOON}
    assert suspects(seen(*twenty, asked("o21"), *(overdue(order_id) for order_id in many(10)))) == {}
    assert suspects(seen(*(overdue(order_id) for order_id in many(9)))) == {}
    assert suspects(seen(*(overdue("o1") for _ in range(10)))) == {}


def test_what_several_processes_find_counts_together() -> None:
    """Otherwise the more workers there are, the more orders would spend their attempts before any of them has seen ten."""
    first, second = (seen(*(overdue(f"{place}-{who}") for place in range(5))) for who in "ab")
    assert suspects(first) == {}
    assert suspects(first, second) == {"inventory": NOON}


def test_who_asks_need_not_be_who_hears() -> None:
    """Otherwise orders that are placed over the API, which no worker asked for, would wait for their deadlines."""
    serve, worker = seen(*(asked(order_id) for order_id in many(9))), seen(asked("o10"))
    assert (unanswered(serve), unanswered(worker)) == ([], [])
    assert unanswered(serve, worker) == unanswered(worker, serve) == ["inventory"]


def test_many_that_were_asked_do_not_hide_those_that_are_overdue() -> None:
    """Otherwise the API's process, which asks and fires no deadline, would count every order twice, and half be never reached."""
    serve = seen(*(asked(order_id) for order_id in many(20)))
    worker = seen(*(overdue(order_id) for order_id in many(10)), *(asked(order_id, attempt=2) for order_id in many(10)))
    assert suspects(worker, serve) == {"inventory": NOON}


def test_later_attempts_are_not_counted_as_asked() -> None:
    """Otherwise an order would count twice: where it was asked first, and where its deadline passed."""
    assert seen(*(asked(order_id, attempt=2) for order_id in many(10))).suspicions(SOON) == {}


def test_who_was_heard_elsewhere_is_suspected_no_more() -> None:
    """Otherwise a process that never hears would hold for ever against a participant what that answered to others."""
    circuit = seen(*(asked(order_id) for order_id in many(10)))
    circuit.was_heard("inventory", NOON - timedelta(seconds=1))
    assert unanswered(circuit) == ["inventory"]
    circuit.was_heard("inventory", NOON)
    assert circuit.suspicions(SOON) == {}


def test_a_suspicion_must_last() -> None:
    """Otherwise a participant that another worker heard a moment ago, and has not written down yet, would be called silent."""
    circuit = seen(*(overdue(order_id) for order_id in many(10)))
    assert suspects(circuit, now=SOON - timedelta(milliseconds=1)) == {}
    assert timedelta(seconds=NOTE_EVERY_S + 0.5) < SUSPECT_FOR


def test_a_reply_ends_the_suspicion() -> None:
    """Otherwise a slow participant would be called silent while it answers."""
    circuit = seen(*(overdue(order_id) for order_id in many(10)), spoke("o3"))
    assert suspects(circuit) == {}
    assert unanswered(circuit) == []


def test_excused_deadlines_are_no_evidence() -> None:
    """Otherwise what was sent anew after an outage of ours would be held against the participant (R9)."""
    assert suspects(seen(*(overdue(order_id, excused=True) for order_id in many(10)))) == {}


def test_dry_runs_are_no_evidence() -> None:
    """Otherwise an operator who looks at plans would change what is sent."""
    outcomes = [asked(order_id) for order_id in many(10)]
    for work, _ in outcomes:
        work.dry_run = True
    assert unanswered(seen(*outcomes)) == []


def test_a_queue_without_consumers_makes_a_suspect_before_any_deadline() -> None:
    """Otherwise a participant with long deadlines would be sent everything for as long as they take."""
    circuit = seen(*(asked(order_id) for order_id in many(10)))
    assert unanswered(circuit, now=NOON) == []
    assert unanswered(circuit) == ["inventory"]
    circuit.attended("inventory", SOON, 0)
    circuit.attended("inventory", SOON + timedelta(seconds=5), 0)
    assert suspects(circuit, now=SOON + UNATTENDED_FOR - timedelta(milliseconds=1)) == {}
    assert suspects(circuit, now=SOON + UNATTENDED_FOR) == {"inventory": SOON}


@pytest.mark.parametrize("consumers", [1, None])
def test_a_consumer_or_not_knowing_ends_that_suspicion(consumers: int | None) -> None:
    """Otherwise a participant that was started anew would be called silent for the seconds it took."""
    circuit = seen(*(asked(order_id) for order_id in many(10)))
    circuit.attended("inventory", SOON, 0)
    circuit.attended("inventory", SOON + timedelta(seconds=5), consumers)
    assert suspects(circuit, now=SOON + UNATTENDED_FOR) == {}


def test_a_few_orders_do_not_have_the_queue_looked_at() -> None:
    """Otherwise every quiet participant would cost a question at every tick."""
    assert unanswered(seen(*(asked(order_id) for order_id in many(9)))) == []


def test_who_is_known_to_be_silent_is_no_suspect_and_comes_back_once() -> None:
    """Otherwise it would be declared silent again at every tick, or its recovery begun anew by every reply."""
    circuit = seen(*(overdue(order_id) for order_id in many(10)))
    circuit.told({"inventory": "silent", "payment": "recovering"})
    assert suspects(circuit) == {}
    assert circuit.held == {"inventory", "payment"}
    seen(spoke("o1"), circuit=circuit)
    assert circuit.revived() == ["inventory"]
    assert circuit.revived() == []
    assert not circuit.silent
    assert circuit.recovering == {"inventory", "payment"}


def test_what_is_heard_is_noted_now_and_then() -> None:
    """Otherwise every reply would cost a write, or other workers would not know that the participant lives."""
    circuit = seen(spoke("o1"))
    assert circuit.to_note(100.0) == ["inventory"]
    assert circuit.to_note(100.0 + NOTE_EVERY_S) == []
    seen(spoke("o2"), circuit=circuit)
    assert circuit.to_note(100.0 + NOTE_EVERY_S) == ["inventory"]


def test_the_last_word_is_noted_though_late() -> None:
    """Otherwise a worker that did not hear it would call a participant silent that spoke after its orders began to wait."""
    circuit = seen(spoke("o1"))
    assert circuit.to_note(0.0) == ["inventory"]
    seen(spoke("o2"), circuit=circuit)
    assert circuit.to_note(1.9) == []
    assert circuit.to_note(2.4) == ["inventory"]
    assert circuit.to_note(4.8) == []


def test_a_word_of_before_the_silence_does_not_end_it() -> None:
    """Otherwise a participant would recover by what it said before it fell silent, and be sent what it does not take."""
    circuit = seen(spoke("o1"))
    assert circuit.to_note(0.0) == ["inventory"]
    seen(spoke("o2"), circuit=circuit)
    assert circuit.to_note(1.0) == []
    circuit.fell_silent("inventory")
    assert circuit.to_note(2.0) == []


def test_others_that_publish_are_not_noted() -> None:
    """Otherwise every shop and customer would become a participant."""
    work, outcome = spoke("o1")
    assert outcome.decision is not None
    assert seen((work, replace(outcome, decision=replace(outcome.decision, answered=())))).to_note(0.0) == []


def test_who_keeps_messages_back_is_told_from_workers() -> None:
    """Otherwise messages that are kept back would be adopted like those of a dead worker."""
    assert participant_of(held_by("inventory")) == "inventory"
    assert [participant_of(owner) for owner in (None, "worker-1-abc", "nobody")] == [None, None, None]
