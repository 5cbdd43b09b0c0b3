"""Where an order stands: whom it waits for, and what an operator may do now."""

from __future__ import annotations

from typing import Any

from orchestrator.saga.acts import moments
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook


def waiting_on(rulebook: Rulebook, order: Order) -> list[dict[str, Any]]:
    """Everyone the order waits for, the one that holds it up first: `participant, step, for, since, attempts, deadline_at`.

    `for` is the event awaited, `attempts` the sendings so far; `deadline_at` None while the order is held. A refused step after the pivot
    waits for `operator`.
    """
    forward = [_forward(rulebook, order, ask) for ask in order.asks.values() if _is_open(rulebook, order, ask)]
    latest_first = sorted(order.asks.values(), key=lambda ask: -ask.position)
    return forward + [_undo(rulebook, order, ask) for ask in latest_first if ask.undo_is_open]


def allowed_acts(rulebook: Rulebook, order: Order, *, is_admin: bool) -> list[str]:
    """The acts whose moment this is, for an operator or an admin."""
    return list(moments(rulebook, order, is_admin=is_admin))


def _is_open(rulebook: Rulebook, order: Order, ask: Ask) -> bool:
    step = rulebook.by_state.get(order.state)
    of_state = order.direction == "forward" and step is not None and step.name == ask.step and ask.epoch == order.epoch
    return of_state and (ask.forward == "asked" or ask.alarm)


def _forward(rulebook: Rulebook, order: Order, ask: Ask) -> dict[str, Any]:
    step = rulebook.by_name[ask.step]
    refused = ask.forward == "refused"
    names = ("alert",) if refused else (f"reply:{ask.key}", f"retry:{ask.key}")
    return {
        "participant": "operator" if refused else step.participant,
        "step": step.name,
        "for": "retry, skip or abandon" if refused else step.done_on,
        "since": ask.since,
        "attempts": ask.attempts,
        "deadline_at": _due_at(order, *names),
    }


def _undo(rulebook: Rulebook, order: Order, ask: Ask) -> dict[str, Any]:
    step = rulebook.by_name[ask.step]
    return {
        "participant": step.participant,
        "step": step.name,
        "for": step.undo.done_on if step.undo else None,
        "since": ask.since,
        "attempts": ask.undo_attempts,
        "deadline_at": _due_at(order, f"undo_reply:{ask.key}", f"undo_retry:{ask.key}"),
    }


def _due_at(order: Order, *names: str) -> Any:
    return next((order.deadlines[name].due_at for name in names if name in order.deadlines), None)
