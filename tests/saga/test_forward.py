"""The way forward: asking, bodies, the happy path."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.contract import command_id
from orchestrator.saga.decide import decide
from orchestrator.saga.inputs import DeadlineDue
from orchestrator.saga.standing import waiting_on
from tests.saga.world import DATA, ORDER_RULES, START, Story, story


def test_the_happy_path_ends_completed_and_announced_once() -> None:
    """Else an order whose every step succeeds does not come to its end."""
    told = story("reserve_inventory", "take_payment", "email_invoice")
    assert told.order.status == told.order.state == "completed"
    assert told.sent == ["ReserveInventory", "TakePayment", "EmailInvoice"]
    assert told.announced == ["OrderCompleted"]
    assert not told.order.deadlines


def test_placing_an_order_asks_the_first_step_and_starts_patience() -> None:
    """Else an order is opened and nobody is asked, or nobody watches the clock."""
    told = story()
    command = told.last.commands[0]
    assert command.command_id == command_id("o1", 0, "reserve_inventory", 1)
    assert (command.participant, command.attempt, command.epoch) == ("inventory", 1, 0)
    assert command.data == {"order_id": "o1", "lines": DATA["lines"]}
    assert told.order.deadlines["patience"].due_at == START + timedelta(minutes=30)
    assert told.order.deadlines["reply:reserve_inventory.0.1"].due_at == START + timedelta(seconds=30)


def test_a_command_carries_the_reply_of_an_earlier_step_by_path() -> None:
    """Else `with: [take_payment.payment_id]` does not reach the participant, or a field nobody gave is left out."""
    told = story("reserve_inventory", "take_payment")
    assert told.last.commands[0].data == {
        "order_id": "o1",
        "customer_email": None,
        "lines": DATA["lines"],
        "amount_minor": 500,
        "currency": "EUR",
        "payment_id": "p1",
    }


def test_a_later_attempt_names_the_entry_that_holds_its_body() -> None:
    """Else the body of a repeated command could differ from the first (R6)."""
    told = story()
    told.silence("reserve_inventory")
    again = told.due("retry:reserve_inventory.0.1").commands[0]
    assert (again.data, again.body_seq, again.attempt) == (None, 1, 2)
    assert again.command_id == told.commands[0].command_id


def test_who_is_waited_for_is_said_with_attempts_and_deadline() -> None:
    """Else the status of an order does not tell whom to call."""
    assert waiting_on(ORDER_RULES, story().order) == [
        {
            "participant": "inventory",
            "step": "reserve_inventory",
            "for": "InventoryReserved",
            "since": START,
            "attempts": 1,
            "deadline_at": START + timedelta(seconds=30),
        }
    ]


def test_a_message_opens_only_the_order_it_names() -> None:
    """Else an order opens under an id that its own data denies (R16)."""
    told = Story(data={**DATA, "order_id": "o2"})
    decision = told.place()
    assert (decision.verdict, decision.quarantine, decision.order) == ("refused", "subject_differs", None)


def test_an_event_before_its_order_is_parked_and_anything_else_is_ignored() -> None:
    """Else an event that overtakes its order's opening is lost, or a stray deadline raises."""
    told = Story()
    assert told.feed(told.message("InventoryReserved", source="inventory")).verdict == "parked"
    assert decide(ORDER_RULES, None, DeadlineDue(name="patience", generation=1), START).verdict == "ignored"
