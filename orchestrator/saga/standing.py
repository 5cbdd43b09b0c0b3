"""Where an order stands: whom it waits for, and what an operator may do now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestrator.saga.acts import moments
from orchestrator.saga.order import OUTSIDE, Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.waiting import Wait, waits
from orchestrator.saga.words import listed


def waiting_on(rulebook: Rulebook, order: Order) -> list[dict[str, Any]]:
    """Everyone the order waits for, the one that holds it up first: `participant, step, for, since, attempts, deadline_at`.

    `for` is the event awaited, `attempts` the sendings so far; `deadline_at` None while the order is held. A refused step after the pivot
    waits for `operator`. A state that waits for events stands for the step: its `for` are those that lead out of it, and `outside`
    publishes them.
    """
    return [_of_ask(rulebook, order, wait, wait.ask) if wait.ask else _of_state(rulebook, order) for wait in waits(order)]


def allowed_acts(order: Order, *, is_admin: bool) -> list[str]:
    """The acts whose moment this is, for an operator or an admin."""
    return list(moments(order, is_admin=is_admin))


def _of_ask(rulebook: Rulebook, order: Order, wait: Wait, ask: Ask) -> dict[str, Any]:
    step, key = rulebook.by_name[ask.step], ask.key
    awaited: str | None = step.done_on
    names: tuple[str, ...] = (f"reply:{key}", f"retry:{key}")
    if wait.is_for_operator:
        awaited, names = "retry, skip or abandon", ("alert",)
    elif wait.is_undo:
        awaited, names = step.undo.done_on if step.undo else None, (f"undo_reply:{key}", f"undo_retry:{key}")
    return {
        "participant": wait.participant,
        "step": step.name,
        "for": awaited,
        "since": ask.since,
        "attempts": wait.attempts,
        "deadline_at": _due_at(order, names),
    }


def _of_state(rulebook: Rulebook, order: Order) -> dict[str, Any]:
    stage = rulebook.by_state[order.state]
    leading = {name for name, cases in stage.events.items() if any(case.then is not None for case in cases)}
    missing = sorted(stage.all_of - order.joined.keys()) if stage.all_of else sorted(leading)
    return {
        "participant": OUTSIDE,
        "step": stage.name,
        "for": listed(missing, "and" if stage.all_of else "or") or "its deadline",
        "since": order.state_entered_at,
        "attempts": 0,
        "deadline_at": _due_at(order, (f"state:{stage.name}", "patience")),
    }


def _due_at(order: Order, names: tuple[str, ...]) -> datetime | None:
    """When the first of these deadlines that is armed is due."""
    return next((order.deadlines[name].due_at for name in names if name in order.deadlines), None)
