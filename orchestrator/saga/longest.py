"""The longest stay in a stage, and the longest of several ways: what the bounds of a definition are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from orchestrator.saga.rules import Stage


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest of all ways through a part of a line, in ms; -inf where there is none of the kind."""

    #: Of those that ask nothing with an undo.
    bare: float = 0
    #: Of those that ask something with an undo: without the undo of the first asked, which is sent last.
    sent: float = -inf
    #: Of all, with every undo.
    whole: float = 0

    def then(self, other: Longest) -> Longest:
        """One after the other."""
        sent = max(self.sent + other.whole, self.bare + other.sent)
        return Longest(self.bare + other.bare, sent, self.whole + other.whole)

    def beside(self, other: Longest) -> Longest:
        """One or the other."""
        return Longest(max(self.bare, other.bare), max(self.sent, other.sent), max(self.whole, other.whole))

    def turns(self, number: int) -> Longest:
        """Time and again."""
        return Longest(self.bare * number, self.sent + self.whole * (number - 1), self.whole * number)


def stay_ms(stage: Stage) -> float:
    """The longest stay before the pivot; without end where only patience ends it."""
    longest_ms = stage.longest_ms
    return inf if longest_ms is None and stage.ending is None else longest_ms or 0


def answered_ms(stage: Stage) -> float:
    """The longest stay when each step answers its first sending. What others bring about is sent after a deadline of silence."""
    if not stage.steps:
        return stay_ms(stage)
    return max(step.deadline_ms * (2 if step.watched else 1) for step in stage.steps)


def undo_ms(stage: Stage, *, watched: bool = False) -> int | None:
    """The longest time in which its steps are undone, each confirmed at once; None where none has an undo. `watched`: of those alone."""
    undos = (step.undo for step in stage.steps if step.watched or not watched)
    return max((undo.deadline_ms for undo in undos if undo is not None), default=None)
