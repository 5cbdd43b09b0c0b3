"""Successes that come when nobody wants them any more (R14)."""

from __future__ import annotations

from tests.saga.world import TOUR_RULES, Story, story


def test_a_success_after_the_undo_was_sent_sends_the_undo_again() -> None:
    """Else the effect of a command that was slow on the bus stays, with nobody to undo it."""
    told = story()
    told.exhaust("reserve_inventory")
    first = told.last.commands[0]
    assert told.answer("reserve_inventory").verdict == "late"
    again = told.last.commands[0]
    assert (again.command_id, again.attempt, again.body_seq, again.data) == (first.command_id, 2, first.body_seq, None)
    assert told.order.cause == "silence"


def test_after_the_end_the_state_stays_and_the_status_is_undoing_until_the_confirmation() -> None:
    """Else a late success after the end is forgotten, or announces the end a second time."""
    told = story()
    told.act("abort")
    told.answer("reserve_inventory", undo=True)
    assert told.announced == ["OrderCancelled"]
    assert told.answer("reserve_inventory").verdict == "late"
    assert (told.order.state, told.order.status) == ("compensated", "undoing")
    told.due()
    told.due()
    assert told.sent[-1] == "ReleaseInventory"
    told.answer("reserve_inventory", undo=True)
    assert (told.order.state, told.order.status) == ("compensated", "compensated")
    assert told.announced == ["OrderCancelled"]


def test_a_second_late_success_changes_nothing() -> None:
    """Else every copy of one late reply sends another undo."""
    told = story()
    told.exhaust("reserve_inventory")
    told.answer("reserve_inventory")
    before = told.order
    assert told.answer("reserve_inventory").verdict == "duplicate"
    assert told.last.commands == ()
    assert told.order.asks == before.asks


def test_a_success_after_a_refusal_is_undone() -> None:
    """Else a participant that contradicts itself leaves its effect standing."""
    told = story()
    told.answer("reserve_inventory", "refused")
    assert told.order.state == "compensated"
    assert told.answer("reserve_inventory").verdict == "late"
    assert told.sent[-1] == "ReleaseInventory"
    assert told.order.status == "undoing"


def test_a_refusal_after_a_success_or_an_undo_moves_nothing() -> None:
    """Else a participant that contradicts itself turns a healthy order back."""
    told = story("reserve_inventory")
    assert told.answer("reserve_inventory", "refused").verdict == "late"
    assert told.order.state == "taking_payment"
    told.act("abort")
    assert told.answer("take_payment", "refused").verdict == "late"
    assert told.order.state == "undoing_take_payment"
    assert told.answer("take_payment", "refused").verdict == "duplicate"


def test_a_late_success_without_an_undo_is_listed_and_alerted_when_it_is_the_pivot() -> None:
    """Else an invoice that went out after all is known to nobody."""
    told = story("reserve_inventory", "take_payment")
    told.answer("email_invoice", "refused")
    told.answer("email_invoice")
    assert told.last.alerts == ("left_standing: email_invoice.0.1",)
    assert told.ask("email_invoice").undo == "skipped"


def test_a_late_success_of_a_harmless_step_is_listed_without_alert() -> None:
    """Else somebody is woken for an effect that was declared harmless."""
    told = Story(TOUR_RULES)
    told.place()
    told.answer("look_up", "refused")
    assert told.order.state == "compensated"
    told.answer("look_up")
    assert told.last.alerts == ()
    assert told.order.status == "compensated"


def test_a_confirmation_after_an_operator_gave_up_is_noted() -> None:
    """Else the ledger says an effect stands that was undone after all."""
    told = story()
    told.act("abort")
    told.act("skip", step="reserve_inventory")
    assert told.ask("reserve_inventory").undo == "skipped"
    assert told.answer("reserve_inventory", undo=True).verdict == "late"
    assert told.ask("reserve_inventory").undo == "undone"


def test_a_success_after_an_operator_left_its_effect_standing_is_only_noted() -> None:
    """Else the word of an operator is overruled by a slow message."""
    told = story()
    told.act("abort")
    told.act("skip", step="reserve_inventory")
    assert told.answer("reserve_inventory").verdict == "late"
    assert told.last.commands == ()
    assert told.order.status == "compensated"
