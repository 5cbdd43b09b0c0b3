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
    final = {stage.index for stage in rulebook.stages if stage.pivot or rulebook.is_stage_past_pivot(stage)}
    before_ms = {stage.index: 0 if stage.index in final else _stay_ms(stage) for stage in rulebook.stages}
    whole_ms = {stage.index: _answered_ms(stage) if stage.index in final else _stay_ms(stage) for stage in rulebook.stages}
    undone_ms = {stage.index: back_ms for stage in rulebook.stages if stage.index not in final and (back_ms := _undo_ms(stage)) is not None}
    through = _ways(rulebook)
    decided_ms = _whole(through.longest(before_ms, {}), rulebook)
    back = through.longest(before_ms, undone_ms)
    back_ms = None if back.sent == -inf else _capped(back.sent, rulebook)
    return Bounds(
        decided_ms=decided_ms,
        completed_ms=None if rulebook.pivots else decided_ms,
        completed_at_once_ms=_whole(through.longest(whole_ms, {}), rulebook),
        last_undo_sent_ms=back_ms,
        compensated_at_once_ms=None if back_ms is None else _whole(back, rulebook),
    )


def needed_ms(rulebook: Rulebook) -> int | None:
    """The longest time until the pivot is asked, or an end is reached before it; None where nothing but patience bounds it (R7)."""
    before_ms = {stage.index: 0 if stage.pivot or rulebook.is_stage_past_pivot(stage) else _stay_ms(stage) for stage in rulebook.stages}
    whole = _ways(rulebook).longest(before_ms, {}).whole
    return None if whole == inf else int(whole)


def _ways(rulebook: Rulebook) -> Line | _States:
    return Line(rulebook.document["way"]) if rulebook.is_line else _States(rulebook)


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


class Line:
    """A line of steps, with its choices and loops."""

    def __init__(self, way: Sequence[Mapping[str, Any]]) -> None:
        self._way = way

    def longest(self, stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> _Longest:
        """The longest way, by the longest stay in each stage and the time of its undo."""
        return self._through(self._way, stay_ms, undo_ms)

    def _through(self, way: Sequence[Mapping[str, Any]], stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> _Longest:
        return reduce(_Longest.then, (self._item(item, stay_ms, undo_ms) for item in way), _Longest())

    def _item(self, item: Mapping[str, Any], stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> _Longest:
        if "choose" in item:
            ways = [*(case["way"] for case in item["cases"]), item["otherwise"]]
            return reduce(_Longest.beside, (self._through(way, stay_ms, undo_ms) for way in ways))
        if "repeat" in item:
            return self._through(item["way"], stay_ms, undo_ms).turns(item["at_most"])
        return _alone(item["stage"], stay_ms, undo_ms)


class _States:
    """A graph of states. One that can come again has no longest way but patience."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def longest(self, stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> _Longest:
        """The longest way, by the longest stay in each state and the time of its undo."""
        return self._from(self._rulebook.stages[0], stay_ms, undo_ms, {})

    def _from(self, stage: Stage, stay_ms: Mapping[int, float], undo_ms: Mapping[int, int], known: dict[int, _Longest | None]) -> _Longest:
        if stage.index not in known:
            known[stage.index] = None
            ways = [self._from(after, stay_ms, undo_ms, known) for after in self._rulebook.following(stage)]
            here = _Longest() if stage.ending else _alone(stage.index, stay_ms, undo_ms)
            known[stage.index] = here.then(reduce(_Longest.beside, ways)) if ways else here
        return known[stage.index] or _Longest(inf, inf, inf)


def _alone(index: int, stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> _Longest:
    there = stay_ms[index]
    back = undo_ms.get(index)
    return _Longest(there, -inf, there) if back is None else _Longest(-inf, there, there + back)


def _stay_ms(stage: Stage) -> float:
    """The longest stay; without end where only patience ends it."""
    longest_ms = stage.longest_ms
    return inf if longest_ms is None and stage.ending is None else longest_ms or 0


def _answered_ms(stage: Stage) -> float:
    """The longest stay when each step answers its first sending."""
    return max((step.deadline_ms for step in stage.steps), default=0) if stage.steps else _stay_ms(stage)


def _undo_ms(stage: Stage) -> int | None:
    return max((step.undo.deadline_ms for step in (*stage.steps, *stage.facts) if step.undo is not None), default=None)


def _capped(ms: float, rulebook: Rulebook) -> int:
    """In the state form patience may end an order before its ways are at their end; of a line it is longer (R7)."""
    return int(ms) if rulebook.is_line else int(min(ms, rulebook.patience_ms))


def _whole(longest: _Longest, rulebook: Rulebook) -> int:
    return _capped(longest.whole, rulebook)
