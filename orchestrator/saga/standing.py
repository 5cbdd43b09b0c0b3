"""Where an order stands: whom it waits for, and what an operator may do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.saga.acts import moments
from orchestrator.saga.order import OPERATOR, Ask, Order
from orchestrator.saga.rulebook import Rulebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing that an order waits for: an answer to an ask, the confirmation of its undo, or an operator."""

    ask: Ask
    is_undo: bool

    @property
    def is_for_operator(self) -> bool:
        """Whether the participant has answered and only a human can bring the order on: a step after the pivot was refused (R12)."""
        return not self.is_undo and self.ask.forward != "asked"

    @property
    def participant(self) -> str:
        """Who is to act: the participant asked, or `operator`."""
        return OPERATOR if self.is_for_operator else self.ask.participant

    @property
    def attempts(self) -> int:
        """Sendings so far of what is waited for."""
        return self.ask.undo_attempts if self.is_undo else self.ask.attempts


def waits(order: Order) -> list[Wait]:
    """All that the order waits for, what holds it up first; empty once it is over.

    The one source of what is shown and stored about waiting.
    """
    forward = [Wait(ask=ask, is_undo=False) for ask in order.asks.values() if ask.is_open]
    undos = [Wait(ask=ask, is_undo=True) for ask in order.asks.values() if ask.undo_is_open]
    return forward + sorted(undos, key=lambda wait: -wait.ask.position)


def waiting_on(rulebook: Rulebook, order: Order) -> list[dict[str, Any]]:
    """Everyone the order waits for, the one that holds it up first: `participant, step, for, since, attempts, deadline_at`.

    `for` is the event awaited, `attempts` the sendings so far; `deadline_at` None while the order is held. A refused step after the pivot
    waits for `operator`.
    """
    return [_view(rulebook, order, wait) for wait in waits(order)]


def allowed_acts(order: Order, *, is_admin: bool) -> list[str]:
    """The acts whose moment this is, for an operator or an admin."""
    return list(moments(order, is_admin=is_admin))


def _view(rulebook: Rulebook, order: Order, wait: Wait) -> dict[str, Any]:
    step, key = rulebook.by_name[wait.ask.step], wait.ask.key
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
        "since": wait.ask.since,
        "attempts": wait.attempts,
        "deadline_at": next((order.deadlines[name].due_at for name in names if name in order.deadlines), None),
    }
