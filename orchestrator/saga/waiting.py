"""Whom an order waits for: what its row, the API and the explorer say of it comes from here."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.saga.order import OPERATOR, OUTSIDE, Ask, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing that an order waits for: an answer to an ask, the confirmation of its undo, an event from outside, or an operator."""

    #: None: an event from outside.
    ask: Ask | None
    is_undo: bool

    @property
    def is_for_operator(self) -> bool:
        """Whether the participant has answered and only a human can bring the order on: a step after the pivot was refused (R12)."""
        return self.ask is not None and not self.is_undo and not self.ask.is_awaited

    @property
    def participant(self) -> str:
        """Who is to act: the participant asked, `operator` or `outside`."""
        if self.ask is None:
            return OUTSIDE
        return OPERATOR if self.is_for_operator else self.ask.participant

    @property
    def attempts(self) -> int:
        """Sendings so far of what is waited for."""
        if self.ask is None:
            return 0
        return self.ask.undo_attempts if self.is_undo else self.ask.attempts


def waits(order: Order) -> list[Wait]:
    """All that the order waits for, what holds it up first; empty once it is over.

    The one source of what is shown and stored about waiting.
    """
    forward = [Wait(ask=ask, is_undo=False) for ask in order.asks.values() if ask.is_open]
    undos = [Wait(ask=ask, is_undo=True) for ask in order.asks.values() if ask.undo_is_open]
    if order.direction == "forward" and not forward:
        forward = [Wait(ask=None, is_undo=False)]
    return forward + sorted(undos, key=lambda wait: -(wait.ask.position if wait.ask else 0))
