"""Another version of the definition: the same facts under its names and rules, or a refusal that says why (R30)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.saga.decide import decide
from orchestrator.saga.decision import Decision
from orchestrator.saga.fold import fold
from orchestrator.saga.inputs import OperatorAct
from orchestrator.saga.rulebook import Rulebook
from tests.saga.world import ORDER_RULES, ORDER_TEXT, Story, compiled, story

SECOND = ORDER_TEXT.replace("version: 1", "version: 2")
RENAMED = compiled(SECOND.replace("step: take_payment", "step: charge").replace("take_payment.payment_id", "charge.payment_id"))
SLOWER = compiled(SECOND.replace("deadline: 30s", "deadline: 45s").replace("patience: 30m", "patience: 60m"))


def migrated(told: Story, target: Rulebook | None, steps: Mapping[str, str] | None = None, *, admin: bool = True) -> Decision:
    """The order is moved, and goes on by the other version's rules."""
    arguments: dict[str, Any] = {"version": target.version if target else 9, "steps": dict(steps or {})}
    act = OperatorAct(act="migrate", actor="ann", reason="because", seq=told.order.seq, is_admin=admin, arguments=arguments)
    decision = decide(told.rulebook, told.order, act, told.now, target=target)
    assert decision == decide(told.rulebook, told.order, act, told.now, target=target)
    if decision.entry is not None and target is not None:
        told.decisions.append(decision)
        told.maybe, told.rulebook = decision.order, target
        told.journal.append(decision.entry)
        assert fold(told.journal) == told.maybe
    return decision


def test_an_order_goes_on_under_the_new_names_with_its_command_under_way() -> None:
    """Else a renamed step is asked twice, or its answer is not known."""
    told = story("reserve_inventory")
    asked = told.ask("take_payment").command_id
    assert migrated(told, RENAMED, {"take_payment": "charge"}).verdict == "moved"
    assert (told.order.version, told.order.state) == (2, "taking_payment")
    assert told.last.commands == ()
    assert set(told.order.deadlines) == {"patience", "reply:charge.0.1"}
    assert told.ask("charge").command_id == asked
    told.answer("charge", data={"payment_id": "p1"})
    told.answer("email_invoice")
    assert told.order.status == "completed"


def test_what_was_done_is_undone_by_the_new_rules_and_the_old_ids() -> None:
    """Else an effect from before the move stays, or its undo names nothing."""
    told = story("reserve_inventory", "take_payment")
    taken, reserved = told.ask("take_payment").command_id, told.ask("reserve_inventory").command_id
    migrated(told, RENAMED, {"take_payment": "charge"})
    told.answer("email_invoice", "refused")
    assert (told.last.commands[0].undoes, told.last.commands[0].data) == (taken, {"order_id": "o1", "payment_id": "p1"})
    told.answer("charge", undo=True)
    assert told.last.commands[0].undoes == reserved
    told.answer("reserve_inventory", undo=True)
    assert told.order.status == "compensated"


def test_an_order_that_is_being_undone_is_moved_too() -> None:
    """Else a wrong undo cannot be corrected while it fails."""
    told = story("reserve_inventory", "take_payment")
    told.answer("email_invoice", "refused")
    migrated(told, RENAMED, {"take_payment": "charge"})
    assert told.order.state == "undoing_charge"
    told.answer("charge", undo=True)
    assert told.order.state == "undoing_reserve_inventory"


def test_new_durations_hold_from_the_next_attempt_on() -> None:
    """Else a migration moves deadlines that are running."""
    told = story()
    before = told.order.deadlines
    migrated(told, SLOWER)
    assert told.order.deadlines == before
    told.silence("reserve_inventory")
    told.due()
    reply = told.order.deadlines[f"reply:{told.ask('reserve_inventory').key}"]
    assert reply.due_at is not None
    assert (reply.due_at - told.now).total_seconds() == 45


REFUSED = {
    "a step that is gone": (RENAMED, {}, "no step take_payment"),
    "a new name that is none": (RENAMED, {"take_payment": "charged"}, "no step charged"),
    "an old name that is none": (RENAMED, {"charge": "charge"}, "no step charge"),
    "two that become one": (SLOWER, {"reserve_inventory": "take_payment", "take_payment": "take_payment"}, "cannot become one"),
    "names that change places": (
        SLOWER,
        {"reserve_inventory": "take_payment", "take_payment": "reserve_inventory"},
        "another step of that name",
    ),
    "another participant": (compiled(SECOND.replace("ask: payment", "ask: bank")), {}, "asked of bank"),
    "another command": (compiled(SECOND.replace("command: TakePayment", "command: Take")), {}, "differ in command"),
    "another answer": (compiled(SECOND.replace("done_on: PaymentTaken", "done_on: Paid")), {}, "differ in command"),
    "the same version": (ORDER_RULES, {}, "of version 1 already"),
    "no such version": (None, {}, "no version 9"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_new_version_could_not_go_on_with_is_refused_and_changes_nothing(case: str) -> None:
    """Else an order is moved to where nobody understands its answers."""
    target, steps, reason = REFUSED[case]
    told = story("reserve_inventory")
    before = told.order
    decision = migrated(told, target, steps)
    assert decision.problem in {"conflict", "invalid"}
    assert reason in (decision.reason or "")
    assert decision.order is before


def test_an_ended_order_stays_and_only_an_admin_migrates() -> None:
    """Else history is rewritten, or by whoever may retry an order."""
    told = story("reserve_inventory", "take_payment", "email_invoice")
    assert migrated(told, RENAMED, {"take_payment": "charge"}).problem == "conflict"
    assert migrated(story(), SLOWER, admin=False).problem == "forbidden"


def test_a_pivot_that_was_asked_is_not_forgotten() -> None:
    """Else an order that cannot go back could."""
    told = story("reserve_inventory", "take_payment")
    assert told.order.pivot_passed
    later = compiled(
        SECOND.replace("    pivot: true\n", "    undo: {command: Recall, done_on: Recalled, deadline: 30s}\n").replace(
            "announce:", "  - {step: ship, ask: post, command: Ship, done_on: Shipped, deadline: 30s, pivot: true}\nannounce:"
        )
    )
    decision = migrated(told, later)
    assert "has passed its pivot" in (decision.reason or "")
