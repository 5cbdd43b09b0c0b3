"""How long an order can take to each outcome, in the worst case, computed from its definition (R5, R7, R12, R13).

All from the opening, while commands reach the broker, a worker hears the answers and no operator acts. Only what comes before the pivot
is bounded: the pivot, what follows it, and undos are asked without limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Any

from orchestrator.saga.retry import worst_case_ms
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The longest times, in ms; None where there is no bound, or no such moment."""

    #: Until the pivot is asked, or undoing has begun; without a pivot, until the order is completed, or undoing has begun.
    decided_ms: int
    completed_ms: int | None
    #: Until the order is completed, when the pivot and each step after it answer their first sending within its deadline.
    completed_at_once_ms: int
    #: Until the last undo is first sent, when each undo before it is confirmed within the deadline of its first sending. Undoing that
    #: the pivot's refusal begins is not counted: it can come at any time.
    last_undo_sent_ms: int | None
    #: The same, until the last undo is confirmed too.
    compensated_at_once_ms: int | None


def bounds(rulebook: Rulebook) -> Bounds:
    """The worst cases of a definition."""
    way = rulebook.document["way"]
    pivot = rulebook.pivot_index
    place = len(way) if pivot is None else way.index({"stage": pivot})
    before, after = way[:place], way[place:]
    forward_ms = {stage.index: max(worst_case_ms(step.retry, step.deadline_ms) for step in stage.steps) for stage in rulebook.stages}
    decided_ms = _whole(_through(before, forward_ms, {}))
    answered_ms = {stage.index: max(step.deadline_ms for step in stage.steps) for stage in rulebook.stages}
    undone_ms = {stage.index: back_ms for stage in rulebook.stages if (back_ms := _undo_ms(stage)) is not None}
    back = _through(before, forward_ms, undone_ms)
    return Bounds(
        decided_ms=decided_ms,
        completed_ms=decided_ms if pivot is None else None,
        completed_at_once_ms=decided_ms + _whole(_through(after, answered_ms, {})),
        last_undo_sent_ms=None if back.sent == -inf else int(back.sent),
        compensated_at_once_ms=None if back.sent == -inf else _whole(back),
    )


@dataclass(frozen=True, slots=True)
class _Longest:
    """The longest of all ways through a part of a definition, in ms; -inf where there is none of the kind."""

    #: Of those that ask nothing with an undo.
    bare: float = 0
    #: Of those that ask something with an undo: without the undo of the first asked, which is sent last.
    sent: float = -inf
    #: Of all, with every undo.
    whole: float = 0

    def then(self, other: _Longest) -> _Longest:
        """One after the other."""
        sent = max(self.sent + other.whole, self.bare + other.sent)
        return _Longest(self.bare + other.bare, sent, self.whole + other.whole)

    def beside(self, other: _Longest) -> _Longest:
        """One or the other."""
        return _Longest(max(self.bare, other.bare), max(self.sent, other.sent), max(self.whole, other.whole))

    def turns(self, number: int) -> _Longest:
        """Time and again."""
        return _Longest(self.bare * number, self.sent + self.whole * (number - 1), self.whole * number)


def _through(way: Sequence[Mapping[str, Any]], forward_ms: Mapping[int, int], undo_ms: Mapping[int, int]) -> _Longest:
    return reduce(_Longest.then, (_item(item, forward_ms, undo_ms) for item in way), _Longest())


def _item(item: Mapping[str, Any], forward_ms: Mapping[int, int], undo_ms: Mapping[int, int]) -> _Longest:
    if "choose" in item:
        ways = [*(case["way"] for case in item["cases"]), item["otherwise"]]
        return reduce(_Longest.beside, (_through(way, forward_ms, undo_ms) for way in ways))
    if "repeat" in item:
        return _through(item["way"], forward_ms, undo_ms).turns(item["at_most"])
    there = forward_ms[item["stage"]]
    back = undo_ms.get(item["stage"])
    return _Longest(there, -inf, there) if back is None else _Longest(-inf, there, there + back)


def _undo_ms(stage: Stage) -> int | None:
    return max((step.undo.deadline_ms for step in stage.steps if step.undo is not None), default=None)


def _whole(longest: _Longest) -> int:
    return int(longest.whole)
