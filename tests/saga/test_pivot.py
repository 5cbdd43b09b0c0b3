"""The point of no return (R12)."""

from __future__ import annotations

import pytest

from tests.saga.world import TOUR_RULES, Story, story


def at_send() -> Story:
    """A tour whose pivot is done: the step after it is asked."""
    return story("look_up", "reserve", "pay", rulebook=TOUR_RULES)


def test_asking_the_pivot_disarms_patience_and_refuses_the_way_back() -> None:
    """Else an order is undone after its invoice went out."""
    told = story("reserve_inventory", "take_payment")
    assert told.order.pivot_passed
    assert "patience" not in told.order.deadlines
    assert told.act("abort").problem == "conflict"
    assert told.feed(told.message("OrderCancelRequested", source="shop")).verdict == "late"
    assert told.order.state == "emailing_invoice"


@pytest.mark.parametrize("to", ["reserving_inventory", "taking_payment", "emailing_invoice"])
def test_no_force_leads_back_across_a_pivot_that_was_asked(to: str) -> None:
    """Else an operator undoes by hand what cannot be undone (R22)."""
    assert story("reserve_inventory", "take_payment").act("force", to=to, admin=True).problem == "conflict"


def test_a_silent_pivot_is_asked_without_limit_and_calls_a_human() -> None:
    """Else the pivot's silence turns the order back, or nobody hears of it."""
    told = story("reserve_inventory", "take_payment")
    for _ in range(9):
        told.silence("email_invoice")
        told.due("retry:email_invoice.0.1")
    assert told.ask("email_invoice").attempts == 10
    assert (told.order.status, told.order.cause) == ("stuck", "silence")
    told.answer("email_invoice")
    assert told.order.status == "completed"


def test_a_refused_pivot_did_not_happen() -> None:
    """Else a refused pivot leaves the order with nowhere to go."""
    told = story("reserve_inventory", "take_payment")
    told.answer("email_invoice", "refused")
    assert not told.order.pivot_passed
    assert told.order.state == "undoing_take_payment"
    assert told.last.commands[0].data == {"order_id": "o1", "payment_id": "p1"}


def test_after_a_refused_pivot_an_operator_may_force_back() -> None:
    """Else an order whose invoice was refused cannot be tried again (R22)."""
    told = story("reserve_inventory", "take_payment")
    told.answer("email_invoice", "refused")
    assert told.act("force", to="reserving_inventory").problem is None
    assert "patience" in told.order.deadlines


def test_a_refusal_after_the_pivot_is_stuck_and_repeats_its_alert() -> None:
    """Else an order past its pivot waits for ever for a human who was told once (R13)."""
    told = at_send()
    told.answer("send", "refused")
    assert (told.order.status, told.order.state, told.order.cause) == ("stuck", "send", "refused")
    for _ in range(3):
        assert told.due("alert").alerts


def test_a_retry_after_a_refusal_past_the_pivot_is_a_new_round() -> None:
    """Else the participant's ledger answers the retry with the stored refusal."""
    told = at_send()
    told.answer("send", "refused")
    told.act("retry")
    assert [(ask.round, ask.forward) for ask in told.order.asks.values() if ask.step == "send"] == [(1, "refused"), (2, "asked")]
    assert told.ask("send", 0).command_id != told.ask("send", 1).command_id
    assert told.order.status == "running"
    told.answer("send")
    assert (told.order.status, told.announced) == ("completed", ["TourBooked"])


def test_a_refused_step_past_the_pivot_can_be_skipped() -> None:
    """Else only `abandon` is left for a refusal that does not matter."""
    told = at_send()
    told.answer("send", "refused")
    told.act("skip", step="send")
    assert told.order.status == "completed"
    assert told.ask("send").forward == "refused"
