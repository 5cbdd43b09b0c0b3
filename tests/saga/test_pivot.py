"""The point of no return (R12)."""

from __future__ import annotations

import pytest

from orchestrator.saga.standing import waiting_on
from tests.saga.world import PARCEL_RULES, TOUR_RULES, Story, story


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


def test_force_leads_back_across_a_pivot_that_was_skipped_and_then_refused() -> None:
    """Else an order whose invoice was refused after an operator went past it cannot be tried again (R22)."""
    told = story("look_up", "reserve", rulebook=TOUR_RULES)
    told.act("skip", step="pay")
    assert told.act("force", to="reserve").problem == "conflict"
    told.answer("pay", "refused")
    assert (told.order.state, told.act("abort").problem) == ("send", "conflict")
    assert told.act("force", to="reserve").problem is None
    assert told.sent[-2:] == ["Release", "Reserve"]
    assert "patience" in told.order.deadlines


def test_no_force_leads_back_across_a_pivot_whose_refusal_was_taken_back() -> None:
    """Else an operator undoes an order whose invoice went out after all (R22)."""
    told = story("look_up", "reserve", rulebook=TOUR_RULES)
    told.act("skip", step="pay")
    told.answer("pay", "refused")
    told.answer("pay")
    assert told.act("force", to="reserve").problem == "conflict"


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


def refused_then_done(step: str) -> Story:
    """A parcel whose step after the pivot was refused, then reported done; where there is an undo, that is confirmed."""
    told = story("pay", *(["pack"] if step == "send" else []), rulebook=PARCEL_RULES)
    told.answer(step, "refused")
    told.answer(step)
    if step == "pack":
        assert told.sent[-1] == "Unpack"
        told.due("undo_reply:pack.0.1")
        told.due("undo_retry:pack.0.1")
        told.answer(step, undo=True)
    return told


@pytest.mark.parametrize("step", ["pack", "send"], ids=["with an undo", "without"])
def test_a_success_after_a_refusal_past_the_pivot_leaves_the_order_to_the_operator(step: str) -> None:
    """Else the order waits for nobody, and only force and abandon are left (R12, R14)."""
    told = refused_then_done(step)
    assert (told.order.state, told.order.status, told.ask(step).forward) == (step, "stuck", "done")
    [wait] = waiting_on(PARCEL_RULES, told.order)
    assert (wait["participant"], wait["for"], wait["deadline_at"]) == ("operator", "retry, skip or abandon", told.order.next_due_at)
    assert told.due("alert").alerts
    told.act("retry")
    assert (told.ask(step).round, told.ask(step).forward, told.order.status) == (2, "asked", "running")
    for following in ("pack", "send") if step == "pack" else ("send",):
        told.answer(following)
    assert told.order.status == "completed"


@pytest.mark.parametrize(("step", "status"), [("pack", "running"), ("send", "completed")])
def test_a_step_refused_and_done_past_the_pivot_can_be_skipped_or_given_up(step: str, status: str) -> None:
    """Else the operator who sees that it was done after all has no way to say so (R12)."""
    told = refused_then_done(step)
    told.act("skip", step=step)
    assert told.order.status == status
    told = refused_then_done(step)
    told.act("abandon", admin=True)
    assert told.order.status == "abandoned"


def test_a_retry_while_a_late_success_is_undone_repeats_that_undo_too() -> None:
    """Else the retry brings the alarm of the refused asking back, or forgets the undo that is open beside it."""
    told = story("pay", rulebook=PARCEL_RULES)
    told.answer("pack", "refused")
    told.answer("pack")
    assert [(wait["participant"], wait["for"]) for wait in waiting_on(PARCEL_RULES, told.order)] == [
        ("operator", "retry, skip or abandon"),
        ("store", "Unpacked"),
    ]
    told.act("retry")
    assert [(command.name, command.attempt) for command in told.last.commands] == [("Pack", 1), ("Unpack", 2)]
    assert (told.order.status, told.ask("pack", 0).alarm) == ("running", False)
