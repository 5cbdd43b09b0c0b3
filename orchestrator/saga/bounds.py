"""How long an order can take to each end, in the worst case, computed from its definition (R5, R7, R12, R13).

All from the opening, while commands reach the broker, a worker hears the answers and no operator acts. Only what comes before the pivot
is bounded: the pivot, what follows it, and undos are asked without limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Any

from orchestrator.saga.bounds_states import StateTimes
from orchestrator.saga.longest import Longest, answered_ms, stay_ms, undo_ms
from orchestrator.saga.order import Outcome
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.ways import inner_ways


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBound:
    """The longest times until one end is taken, in ms; None where there is no bound."""

    end: str
    outcome: Outcome
    longest_ms: int | None
    #: The same, when the pivot, each step after it and each undo answer their first sending.
    at_once_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The longest times, in ms; None where there is no bound, or no such moment."""

    #: Until the pivot is asked, or undoing has begun; without a pivot, until the order is completed, or undoing has begun.
    decided_ms: int
    completed_ms: int | None
    #: Until the order is completed, when the pivot and each step after it answer their first sending within its deadline.
    completed_at_once_ms: int | None
    #: Until the last undo is first sent, when each undo before it is confirmed within the deadline of its first sending. Undoing that
    #: the pivot's refusal begins is not counted: it can come at any time. Each event from outside is taken to come once.
    last_undo_sent_ms: int | None
    #: The same, until the last undo is confirmed too.
    compensated_at_once_ms: int | None
    #: By end, but `abandoned`, which only an admin takes.
    ends: tuple[EndBound, ...]


def bounds(rulebook: Rulebook) -> Bounds:
    """The worst cases of a definition."""
    return _of_line(rulebook) if rulebook.is_line else _of_states(rulebook)


def needed_ms(rulebook: Rulebook) -> int | None:
    """The longest time until the pivot is asked, or an end is reached before it; None where nothing but patience bounds it (R7)."""
    if rulebook.is_line:
        return int(Line(rulebook.document["way"]).longest(_before_ms(rulebook), {}).whole)
    return StateTimes(rulebook).needed_ms()


def _of_line(rulebook: Rulebook) -> Bounds:
    line, before_ms = Line(rulebook.document["way"]), _before_ms(rulebook)
    final = _final(rulebook)
    whole_ms = {stage.index: answered_ms(stage) if stage.index in final else stay_ms(stage) for stage in rulebook.stages}
    # What others bring about is undone though the order never came to it (R11).
    undone_ms = {stage.index: back_ms for stage in rulebook.stages if (back_ms := undo_ms(stage, watched=stage.index in final)) is not None}
    # A pivot that is refused did not happen: what it was asked for is over, and all else is undone (R12).
    refused = {stage.index for stage in rulebook.pivots if stage.steps[0].refused_on}
    refused_ms = line.longest(
        {index: whole_ms[index] if index in refused else ms for index, ms in before_ms.items()},
        {index: ms for index, ms in undone_ms.items() if index not in refused},
    )
    decided_ms = int(line.longest(before_ms, {}).whole)
    completed_ms = None if rulebook.pivots else decided_ms
    at_once_ms = int(line.longest(whole_ms, {}).whole)
    back = line.longest(before_ms, undone_ms)
    has_undo = back.sent != -inf
    return Bounds(
        decided_ms=decided_ms,
        completed_ms=completed_ms,
        completed_at_once_ms=at_once_ms,
        last_undo_sent_ms=int(back.sent) if has_undo else None,
        compensated_at_once_ms=int(back.whole) if has_undo else None,
        ends=(
            EndBound(end="completed", outcome="completed", longest_ms=completed_ms, at_once_ms=at_once_ms),
            _compensated(None if has_undo or refused else decided_ms, int(max(back.whole, refused_ms.whole))),
        ),
    )


def _of_states(rulebook: Rulebook) -> Bounds:
    times = StateTimes(rulebook)
    sent_ms, undone_ms = times.undone_ms()
    ends = []
    for end, ending in rulebook.endings.items():
        longest_ms, at_once_ms = map(_maybe, times.end_ms(rulebook.by_stage[end]))
        ends.append(EndBound(end=end, outcome=ending.outcome, longest_ms=longest_ms, at_once_ms=at_once_ms))
    decided_ms = times.decided_ms()
    refused_ms = times.refused_ms()
    back_ms = max(decided_ms if undone_ms is None else undone_ms, refused_ms)
    longest_ms = decided_ms if undone_ms is None and refused_ms == -inf else None
    completed = [bound for bound in ends if bound.outcome == "completed"]
    return Bounds(
        decided_ms=decided_ms,
        completed_ms=_last([bound.longest_ms for bound in completed]),
        completed_at_once_ms=_last([bound.at_once_ms for bound in completed]),
        last_undo_sent_ms=sent_ms,
        compensated_at_once_ms=undone_ms,
        ends=(*ends, _compensated(longest_ms, _maybe(back_ms))),
    )


def _compensated(longest_ms: int | None, at_once_ms: int | None) -> EndBound:
    return EndBound(end="compensated", outcome="compensated", longest_ms=longest_ms, at_once_ms=at_once_ms)


def _final(rulebook: Rulebook) -> frozenset[int]:
    return frozenset(stage.index for stage in rulebook.stages if stage.pivot or rulebook.is_stage_past_pivot(stage))


def _before_ms(rulebook: Rulebook) -> dict[int, float]:
    final = _final(rulebook)
    return {stage.index: 0 if stage.index in final else stay_ms(stage) for stage in rulebook.stages}


def _maybe(ms: float) -> int | None:
    return None if ms in {inf, -inf} else int(ms)


def _last(times_ms: Sequence[int | None]) -> int | None:
    """The longest of several; None where one has no bound."""
    known = [ms for ms in times_ms if ms is not None]
    return max(known) if known and len(known) == len(times_ms) else None


class Line:
    """A line of steps, with its choices and loops."""

    def __init__(self, way: Sequence[Mapping[str, Any]]) -> None:
        self._way = way

    def longest(self, stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> Longest:
        """The longest way, by the longest stay in each stage and the time of its undo."""
        return self._through(self._way, stay_ms, undo_ms)

    def _through(self, way: Sequence[Mapping[str, Any]], stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> Longest:
        return reduce(Longest.then, (self._item(item, stay_ms, undo_ms) for item in way), Longest())

    def _item(self, item: Mapping[str, Any], stay_ms: Mapping[int, float], undo_ms: Mapping[int, int]) -> Longest:
        if "choose" in item:
            return reduce(Longest.beside, (self._through(way, stay_ms, undo_ms) for way in inner_ways(item)))
        if "repeat" in item:
            return self._through(item["way"], stay_ms, undo_ms).turns(item["at_most"])
        there, back = stay_ms[item["stage"]], undo_ms.get(item["stage"])
        return Longest(there, -inf, there) if back is None else Longest(-inf, there, there + back)
