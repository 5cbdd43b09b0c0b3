"""The way back: strict reverse order, endless retry, stuck, and the end."""

from __future__ import annotations

import pytest

from orchestrator.contract import undo_id
from tests.saga.world import TOUR_RULES, Story, story


def test_a_refusal_undoes_what_was_done_before_it_and_not_itself() -> None:
    """Else a declined payment leaves the stock reserved, or is refunded though never taken (R10)."""
    told = story("reserve_inventory")
    told.answer("take_payment", "refused")
    assert told.sent[-1] == "ReleaseInventory"
    assert (told.order.state, told.order.status, told.order.cause) == ("undoing_reserve_inventory", "undoing", "refused")
    told.answer("reserve_inventory", undo=True)
    assert (told.order.state, told.order.status) == ("compensated", "compensated")
    assert told.announced == ["OrderCancelled"]


def test_a_participant_that_comes_too_late_has_refused() -> None:
    """Else `CommandTooLate` leaves the order waiting for ever (R20)."""
    told = story()
    told.answer("reserve_inventory", "too_late")
    assert told.order.state == "compensated"


def test_undos_go_strictly_in_reverse() -> None:
    """Else stock is released while the payment may still be taken (R11)."""
    told = story("reserve_inventory")
    told.act("abort")
    assert [command.name for command in told.last.commands] == ["RefundPayment"]
    assert told.ask("take_payment").forward == "unknown"
    told.answer("take_payment", undo=True)
    assert [command.name for command in told.last.commands] == ["ReleaseInventory"]


def test_an_undo_names_the_command_it_undoes_and_null_for_a_reply_that_never_came() -> None:
    """Else a participant cannot find the effect of a silent step (R20)."""
    told = story("reserve_inventory")
    told.act("abort")
    undo = told.last.commands[0]
    command = told.ask("take_payment").command_id
    assert (undo.undoes, undo.command_id) == (command, undo_id(command))
    assert undo.data == {"order_id": "o1", "payment_id": None}


def test_an_undo_is_retried_without_limit_and_stuck_is_an_alarm_only() -> None:
    """Else an undo is given up, or an operator is never told, or a late confirmation does not end it (R13)."""
    told = story()
    told.act("abort")
    for attempt in range(1, 12):
        told.due("undo_reply:reserve_inventory.0.1")
        assert told.order.status == ("stuck" if attempt >= 5 else "undoing")
        told.due("undo_retry:reserve_inventory.0.1")
    assert told.ask("reserve_inventory").undo_attempts == 12
    assert [alert for decision in told.decisions for alert in decision.alerts] == ["undo_silent: reserve_inventory.0.1"]
    assert told.order.cause == "undo_silent"
    told.answer("reserve_inventory", undo=True)
    assert told.order.status == "compensated"


def test_a_success_while_a_later_undo_holds_it_back_is_undone_in_its_turn() -> None:
    """Else a reply on the way back is lost, or turns the order forward again."""
    told = story("reserve_inventory")
    told.act("abort")
    assert told.answer("take_payment").verdict == "late"
    told.answer("take_payment", undo=True)
    told.answer("reserve_inventory", undo=True)
    assert told.order.state == "compensated"


@pytest.mark.parametrize("kind", ["done", "refused"])
def test_an_answer_to_a_silent_step_before_its_undo_is_taken(kind: str) -> None:
    """Else a step skipped unanswered is undone though it was refused, or its reply is lost (R1: `unknown` is open)."""
    told = story()
    told.act("skip", step="reserve_inventory")
    told.act("abort")
    assert told.answer("reserve_inventory", kind).verdict == "moved"
    assert told.ask("reserve_inventory").forward == kind
    told.answer("take_payment", undo=True)
    assert told.order.state == ("undoing_reserve_inventory" if kind == "done" else "compensated")


def test_a_harmless_step_is_left_as_it_is() -> None:
    """Else an order with a harmless step can never be compensated."""
    told = Story(TOUR_RULES)
    told.place()
    told.answer("look_up")
    told.answer("reserve")
    told.answer("pay", "refused")
    assert told.sent[-1] == "Release"
    told.answer("reserve", undo=True)
    assert (told.order.state, told.announced) == ("compensated", ["TourOff"])
