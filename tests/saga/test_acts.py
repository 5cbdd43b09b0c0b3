"""What operators do (R21, R22, R23)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.saga.inputs import ActName
from orchestrator.saga.standing import allowed_acts
from tests.saga.world import START, TOUR_RULES, Story, loaded, story


def ended() -> Story:
    """An order that was completed."""
    return story("reserve_inventory", "take_payment", "email_invoice")


def undoing() -> Story:
    """An order whose first step was done and is being undone."""
    told = story("reserve_inventory")
    told.answer("take_payment", "refused")
    return told


def test_an_act_stands_in_the_history_with_actor_and_reason() -> None:
    """Else nobody can tell later who moved the order, and why."""
    told = story()
    told.act("abort")
    entry = told.journal[-1]
    assert (entry.kind, entry.name, entry.actor, entry.reason) == ("act", "abort", "ann", "because")


def test_a_stale_act_changes_nothing() -> None:
    """Else an operator acts on an order that is not the one they saw."""
    told = story("reserve_inventory")
    decision = told.act("abort", seq=1)
    assert (decision.problem, decision.entry) == ("stale", None)


CONFLICTS: list[tuple[str, ActName, dict[str, Any]]] = [
    ("ended", "abort", {}),
    ("undoing", "abort", {}),
    ("ended", "retry", {}),
    ("ended", "hold", {}),
    ("open", "release", {}),
    ("open", "skip", {"step": "take_payment"}),
    ("open", "confirm", {"step": "reserve_inventory"}),
    ("open", "deadline", {"name": "nothing", "due_at": START}),
    ("ended", "abandon", {"admin": True}),
    ("open", "force", {"to": "compensated"}),
    ("open", "force", {"to": "abandoned"}),
    ("open", "force", {"to": "undoing_take_payment"}),
    ("undoing", "force", {"to": "taking_payment"}),
    ("undoing", "force", {"to": "completed"}),
]


@pytest.mark.parametrize(("where", "act", "arguments"), CONFLICTS)
def test_an_act_at_the_wrong_moment_is_a_conflict_with_a_reason(where: str, act: ActName, arguments: dict[str, Any]) -> None:
    """Else an act does harm at the wrong moment, or is refused without a word."""
    told = {"ended": ended, "undoing": undoing, "open": story}[where]()
    decision = told.act(act, **arguments)
    assert (decision.problem, decision.entry) == ("conflict", None)
    assert decision.reason


INVALID: list[tuple[ActName, dict[str, Any]]] = [
    ("force", {}),
    ("force", {"to": "nowhere"}),
    ("force", {"to": ["completed"]}),
    ("skip", {"step": "nothing"}),
    ("skip", {"step": ["a"]}),
    ("confirm", {}),
    ("hold", {"until": START}),
    ("hold", {"until": "tomorrow"}),
    ("hold", {"until": datetime(2027, 1, 1)}),  # naive is the point
    ("hold", {"until": datetime.max.replace(tzinfo=UTC)}),
    ("deadline", {"name": "patience"}),
    ("deadline", {"name": "patience", "due_at": 7}),
    ("deadline", {"name": "patience", "due_at": datetime(9999, 1, 1, tzinfo=UTC)}),
]


@pytest.mark.parametrize(("act", "arguments"), INVALID)
def test_an_act_with_an_unfit_argument_is_invalid(act: ActName, arguments: dict[str, Any]) -> None:
    """Else a wrong argument makes the core raise, or is taken for another."""
    decision = story().act(act, **arguments)
    assert (decision.problem, decision.entry) == ("invalid", None)


@pytest.mark.parametrize(("act", "arguments"), [("abandon", {}), ("force", {"to": "completed"})])
def test_what_only_an_admin_may_do_is_forbidden_to_others(act: ActName, arguments: dict[str, Any]) -> None:
    """Else an operator gives orders up, or reopens ended ones."""
    told = ended() if act == "force" else story()
    assert told.act(act, **arguments).problem == "forbidden"


def test_the_acts_offered_fit_the_moment_and_the_role() -> None:
    """Else the console offers what will be refused."""
    told = story()
    open_acts = ["force", "retry", "abort", "hold", "skip", "deadline"]
    assert allowed_acts(told.order, is_admin=False) == open_acts
    assert allowed_acts(told.order, is_admin=True) == [*open_acts, "abandon", "migrate"]
    assert allowed_acts(ended().order, is_admin=False) == []
    assert allowed_acts(ended().order, is_admin=True) == ["force"]
    undo_acts = ["force", "retry", "hold", "skip", "confirm", "deadline"]
    assert allowed_acts(undoing().order, is_admin=False) == undo_acts


def test_force_while_a_command_is_outstanding_undoes_it_at_once_and_first() -> None:
    """Else the same effect is made twice, or undone after it was made anew (R22)."""
    told = story()
    old = told.ask("reserve_inventory").command_id
    told.act("force", to="reserving_inventory")
    assert [command.name for command in told.last.commands] == ["ReleaseInventory", "ReserveInventory"]
    assert told.last.commands[0].undoes == old
    assert told.last.commands[1].command_id != old
    assert (told.order.epoch, told.order.cause) == (1, "forced")


def test_force_back_over_done_steps_undoes_them_and_keeps_earlier_ones() -> None:
    """Else a step forced back over stands twice, or one before the target is lost (R22)."""
    told = story("reserve_inventory")
    told.act("force", to="taking_payment")
    assert [command.name for command in told.last.commands] == ["RefundPayment", "TakePayment"]
    assert (told.ask("reserve_inventory").forward, told.ask("reserve_inventory").undo) == ("done", "none")
    told.act("force", to="reserving_inventory")
    assert [command.name for command in told.last.commands] == ["ReleaseInventory", "RefundPayment", "ReserveInventory"]


def test_force_forward_skips_idle_steps_and_passes_the_pivot_with_it() -> None:
    """Else steps that were never asked look open, or patience ends an order past its pivot (R22)."""
    told = Story(TOUR_RULES)
    told.place()
    told.act("force", to="send")
    assert told.ask("reserve").forward == told.ask("pay").forward == "skipped"
    assert told.order.pivot_passed
    assert "patience" not in told.order.deadlines
    assert told.act("abort").problem == "conflict"


def test_force_starts_patience_anew_and_lifts_a_hold() -> None:
    """Else a forced order has only what patience was left, or stands still (R22)."""
    told = story()
    told.wait(minutes=10)
    told.act("hold")
    told.act("force", to="reserving_inventory")
    assert not told.order.held
    assert told.order.deadlines["patience"].due_at == told.now + timedelta(minutes=30)


def test_force_to_completed_is_announced_when_the_last_undo_is_confirmed() -> None:
    """Else an end is announced while an effect may still stand (R22)."""
    told = story()
    told.act("force", to="completed")
    assert (told.order.state, told.order.status, told.announced) == ("completed", "undoing", [])
    told.answer("reserve_inventory", undo=True)
    assert (told.order.status, told.announced) == ("completed", ["OrderCompleted"])


def test_an_admin_forces_an_ended_order_back_to_life() -> None:
    """Else a compensated order cannot be tried again (R22)."""
    told = undoing()
    told.answer("reserve_inventory", undo=True)
    told.act("force", to="reserving_inventory", admin=True)
    for step in ("reserve_inventory", "take_payment", "email_invoice"):
        told.answer(step)
    assert (told.order.status, told.announced) == ("completed", ["OrderCancelled", "OrderCompleted"])


def test_an_answer_to_an_ask_of_an_earlier_epoch_moves_nothing_forward() -> None:
    """Else a reply to the old command completes the new one."""
    told = story()
    told.act("force", to="reserving_inventory")
    assert told.answer("reserve_inventory", which=0).verdict == "late"
    assert told.order.state == "reserving_inventory"
    assert told.ask("reserve_inventory").forward == "asked"


def test_a_hold_keeps_what_was_left_and_release_gives_it_back() -> None:
    """Else a hold eats an order's time (R23)."""
    told = story()
    told.wait(seconds=10)
    told.act("hold", until=told.now + timedelta(hours=2))
    assert told.order.status == "held"
    assert told.order.deadlines["reply:reserve_inventory.0.1"].remaining_ms == 20_000
    told.wait(hours=1)
    told.act("release")
    assert told.order.deadlines["reply:reserve_inventory.0.1"].due_at == told.now + timedelta(seconds=20)
    assert told.order.deadlines["patience"].due_at == told.now + timedelta(minutes=29, seconds=50)


def test_a_hold_ends_by_itself_after_a_day() -> None:
    """Else a forgotten hold keeps an order for ever (R23, R27)."""
    told = story()
    told.act("hold")
    assert told.order.next_due_at == START + timedelta(hours=24)
    told.due("hold")
    assert not told.order.held


def test_on_a_held_order_events_are_applied_and_new_clocks_are_kept_whole() -> None:
    """Else facts are lost while an operator thinks (R23)."""
    told = story()
    told.act("hold")
    told.answer("reserve_inventory")
    assert told.sent[-1] == "TakePayment"
    deadline = told.order.deadlines["reply:take_payment.0.1"]
    assert (deadline.due_at, deadline.remaining_ms) == (None, 30_000)


def test_a_second_hold_changes_only_its_time() -> None:
    """Else holding twice loses what the clocks had left."""
    told = story()
    told.act("hold")
    told.wait(hours=1)
    told.act("hold", until=told.now + timedelta(hours=48))
    assert told.order.deadlines["reply:reserve_inventory.0.1"].remaining_ms == 30_000
    assert told.order.next_due_at == told.now + timedelta(hours=48)


def test_a_hold_on_an_ended_order_is_over_with_its_last_undo() -> None:
    """Else a finished order shows `held` with nothing to hold."""
    told = story()
    told.act("force", to="completed")
    told.act("hold")
    told.answer("reserve_inventory", undo=True)
    assert (told.order.status, told.order.deadlines) == ("completed", {})


def test_a_skipped_step_that_was_sent_stays_unknown_and_is_undone_with_the_order() -> None:
    """Else skipping a silent step forgets that it may have been done."""
    told = story()
    told.act("skip", step="reserve_inventory")
    assert (told.order.state, told.ask("reserve_inventory").forward) == ("taking_payment", "unknown")
    told.answer("take_payment", "refused")
    assert told.sent[-1] == "ReleaseInventory"


def test_a_skipped_undo_is_left_standing_by_name_and_the_next_goes_out() -> None:
    """Else one dead participant keeps all other undos back, or nobody knows what was left (R11)."""
    told = story("reserve_inventory")
    told.act("abort")
    told.act("skip", step="take_payment")
    assert loaded(told.journal[-1].effects)["left_standing"] == ["take_payment.0.1"]
    assert told.sent[-1] == "ReleaseInventory"


def test_a_confirmed_undo_counts_as_undone() -> None:
    """Else an undo done by hand keeps the order stuck."""
    told = undoing()
    told.act("confirm", step="reserve_inventory")
    assert (told.ask("reserve_inventory").undo, told.order.status) == ("undone", "compensated")


def test_a_deadline_moved_into_the_past_fires_at_once() -> None:
    """Else an operator cannot end a wait."""
    told = story()
    told.act("deadline", name="reply:reserve_inventory.0.1", due_at=START - timedelta(days=1))
    assert told.order.next_due_at == told.now
    told.due()
    assert "retry:reserve_inventory.0.1" in told.order.deadlines


def test_of_a_held_order_only_the_hold_can_be_moved() -> None:
    """Else a clock runs on an order that stands still (R23)."""
    told = story()
    told.act("hold")
    assert told.act("deadline", name="patience", due_at=START + timedelta(hours=1)).problem == "conflict"
    assert told.act("deadline", name="hold", due_at=START + timedelta(hours=1)).problem is None


def test_a_retry_sends_at_once_with_limits_counted_anew_and_numbers_going_on() -> None:
    """Else a retry is the last attempt, or repeats a message id (issue 2)."""
    told = story()
    for _ in range(3):
        told.silence("reserve_inventory")
        told.due("retry:reserve_inventory.0.1")
    assert told.act("retry").commands[0].attempt == 5
    told.exhaust("reserve_inventory")
    assert told.ask("reserve_inventory").attempts == 8


def test_a_retry_of_a_failing_undo_ends_the_alarm() -> None:
    """Else an order stays stuck after an operator saw to it."""
    told = undoing()
    for _ in range(5):
        told.due("undo_reply:reserve_inventory.0.1")
        told.due("undo_retry:reserve_inventory.0.1")
    statuses = [told.order.status]
    assert told.act("retry").commands[0].attempt == 7
    assert [*statuses, told.order.status] == ["stuck", "undoing"]


def test_abandon_ends_the_order_and_lists_what_is_left_standing() -> None:
    """Else giving up hides what was not undone (R10)."""
    told = story("reserve_inventory")
    told.act("abandon", admin=True)
    assert (told.order.status, told.order.deadlines, told.order.cause) == ("abandoned", {}, "abandoned")
    assert loaded(told.journal[-1].effects)["left_standing"] == ["reserve_inventory.0.1", "take_payment.0.1"]


def test_why_a_force_cannot_pass_a_step_is_said_as_it_was() -> None:
    """Else an admin waits for the confirmation of an undo that was never sent."""
    given_up = story("reserve_inventory")
    given_up.act("abandon", admin=True)
    reasons = [told.act("force", to="completed", admin=True).reason for told in (given_up, undoing())]
    assert reasons == [
        "The effect of reserve_inventory was left standing: force to reserve_inventory or before it.",
        "The undo of reserve_inventory has begun: force to reserve_inventory or before it.",
    ]


def test_a_force_passes_a_step_that_has_no_undo() -> None:
    """Else a late success of a harmless step closes the way forward: no undo of it has begun, or ever will (R22)."""
    told = Story(TOUR_RULES)
    told.place()
    told.answer("look_up", "refused")
    told.answer("look_up")
    assert told.act("force", to="reserve", admin=True).problem is None


def test_an_ended_order_with_an_open_undo_can_still_be_abandoned() -> None:
    """Else an undo that nobody will confirm keeps an ended order open for ever."""
    told = story()
    told.act("force", to="completed")
    told.act("abandon", admin=True)
    assert (told.order.status, told.order.deadlines) == ("abandoned", {})
