"""How long an order can take through a graph of states, in the worst case. Until the pivot is asked patience ends every wait (R7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from orchestrator.saga.longest import answered_ms, stay_ms
from orchestrator.saga.reach import reached
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Stage


class StateTimes:
    """The longest times of one definition in the state form, in ms from the opening; inf where there is no bound."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._following = {stage.index: [after.index for after in rulebook.following(stage)] for stage in rulebook.stages}
        self._ahead = rulebook.ahead
        self._pivots = {stage.index for stage in rulebook.pivots}
        final = {stage.index for stage in rulebook.stages if rulebook.is_stage_past_pivot(stage)}
        stays_ms = {stage.index: stay_ms(stage) for stage in rulebook.stages}
        #: Until the pivot is asked: its own stay is not counted.
        self._early_ms = _entries({0: 0}, self._cut(self._pivots), {**stays_ms, **dict.fromkeys(self._pivots, 0)}, self._turns())
        asked = {index: self._capped(self._early_ms[index]) + answered_ms(rulebook.stages[index]) for index in self._early_ms_of_pivots()}
        beginnings: dict[int, float] = {}
        for pivot, answered in asked.items():
            for after in self._following[pivot]:
                beginnings[after] = max(beginnings.get(after, 0), answered)
        late_ms = {stage.index: answered_ms(stage) if stage.index in final else stay_ms(stage) for stage in rulebook.stages}
        #: After the pivot's answer, or its refusal.
        self._late_ms = _entries(beginnings, self._following, late_ms, self._turns())
        self._stays_ms = stays_ms

    def needed_ms(self) -> int | None:
        """The longest time until the pivot is asked, or an end is reached before it; None where nothing but patience bounds it."""
        if any(index in self._ahead[index] for index in self._early_ms):
            return None
        longest_ms = max(map(self._left_ms, self._early_ms))
        return None if longest_ms == inf else int(longest_ms)

    def decided_ms(self) -> int:
        """The same; patience ends it at the latest."""
        return int(self._capped(max(map(self._left_ms, self._early_ms))))

    def undone_ms(self) -> tuple[int | None, int | None]:
        """Until the last undo is first sent, and until it is confirmed, for an order that turns back before its pivot."""
        sent_ms, whole_ms = -inf, -inf
        for index in self._early_ms:
            stage = self._rulebook.stages[index]
            undos_ms = self._undos_ms(stage, self._rulebook.by_name) if stage.ending is None and not stage.pivot else []
            if undos_ms:
                left_ms = self._capped(self._left_ms(index))
                whole_ms = max(whole_ms, left_ms + sum(undos_ms))
                sent_ms = max(sent_ms, left_ms + sum(undos_ms) - min(undos_ms))
        return (None, None) if whole_ms == -inf else (int(sent_ms), int(whole_ms))

    def refused_ms(self) -> float:
        """Until all is undone for an order whose pivot was refused, when each undo is confirmed at once; -inf where none can be."""
        longest_ms = -inf
        by_name = self._rulebook.by_name
        for stage in self._rulebook.pivots:
            if stage.on_refused is None and stage.steps[0].refused_on and stage.index in self._early_ms:
                others = [name for name in by_name if name != stage.steps[0].name]
                left_ms = self._capped(self._early_ms[stage.index]) + answered_ms(stage)
                longest_ms = max(longest_ms, left_ms + sum(self._undos_ms(stage, others)))
        for index, entered_ms in self._late_ms.items():
            stage = self._rulebook.stages[index]
            if stage.ending is None and not self._rulebook.is_stage_past_pivot(stage):
                left_ms = entered_ms + (0 if index in self._ahead[index] else self._stays_ms[index])
                longest_ms = max(longest_ms, left_ms + sum(self._undos_ms(stage, by_name)))
        return longest_ms

    def end_ms(self, stage: Stage) -> tuple[float, float]:
        """Until this end is taken: in any case, and when the pivot, what follows it and undos answer their first sending."""
        assert stage.ending is not None
        undone = stage.ending.undone if stage.ending.outcome == "failed" else ()
        undos_ms = self._undos_ms(stage, undone)
        early_ms = self._capped(self._early_ms[stage.index]) if stage.index in self._early_ms else -inf
        late_ms = self._late_ms.get(stage.index, -inf)
        at_once_ms = max(early_ms, late_ms) + sum(undos_ms)
        return inf if undos_ms or late_ms > -inf else early_ms, at_once_ms

    def _undos_ms(self, stage: Stage, undone: Iterable[str]) -> list[float]:
        """The deadline of each undo that an order in this state can need: of each asking before it, and of each event taken or parked."""
        names, turns = frozenset(undone), self._turns()
        found: list[float] = []
        for other in self._rulebook.stages:
            comes_before = other is stage or stage.index in self._ahead[other.index]
            comes_after = other.index in self._ahead[stage.index]
            for step in other.steps if comes_before else ():
                found += [step.undo.deadline_ms] * turns[other.index] if step.undo is not None and step.name in names else []
            if comes_before or comes_after or stage.ending is not None:
                facts = (self._rulebook.events[name].undone_as for name in other.awaits)
                found += [fact.undo.deadline_ms for fact in facts if fact is not None and fact.undo is not None and fact.name in names]
                names -= other.awaits
        return found

    def _left_ms(self, index: int) -> float:
        """Until a state is left, in which the order is before its pivot."""
        cycle = index in self._ahead[index]
        return self._early_ms[index] + (0 if cycle or index in self._pivots else self._stays_ms[index])

    def _capped(self, ms: float) -> float:
        return min(ms, self._rulebook.patience_ms)

    def _early_ms_of_pivots(self) -> list[int]:
        return [index for index in self._pivots if index in self._early_ms]

    def _cut(self, ends: Iterable[int]) -> dict[int, list[int]]:
        return {**self._following, **{index: [] for index in ends}}

    def _turns(self) -> dict[int, int]:
        """How often an order can be in each state."""
        return {stage.index: stage.at_most or 1 if stage.index in self._ahead[stage.index] else 1 for stage in self._rulebook.stages}


def _entries(
    first: Mapping[int, float], following: Mapping[int, Iterable[int]], stays: Mapping[int, float], turns: Mapping[int, int]
) -> dict[int, float]:
    """The longest time until each state that can be reached is entered for the last time. `first`: where it begins, and when.

    States that lead to each other are taken together: the order is in each of them as often as it may be.
    """
    ahead = {index: reached(following, following[index]) for index in reached(following, first)}
    groups = {index: frozenset({index} | {other for other in after if index in ahead[other]}) for index, after in ahead.items()}
    into: dict[frozenset[int], float] = {}

    def entered(group: frozenset[int]) -> float:
        if group not in into:
            before = {groups[index] for index in ahead if group & frozenset(following[index])} - {group}
            begun = [first[index] for index in group if index in first]
            into[group] = max([*begun, *(entered(one) + stayed(one) for one in before)])
        return into[group]

    def stayed(group: frozenset[int]) -> float:
        return sum(stays[index] * turns[index] for index in group)

    return {index: entered(group) + (stayed(group) if index in ahead[index] else 0) for index, group in groups.items()}
