"""A line of steps told in plain sentences, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.saga.graph_line import preceding, watches
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Stage, StepRule
from orchestrator.saga.sentences import NOTHING, Line, answered, asked, final, refused, silent, standing
from orchestrator.saga.ways import inner_ways
from orchestrator.saga.words import counted, listed


class LineTeller:
    """Tells the way forward, item by item, each with its number."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._come_from = preceding(rulebook)
        self._chosen: set[int] = set()
        self._repeated: set[int] = set()
        self._note(rulebook.document["way"], chosen=False, repeated=False)

    def way(self) -> Iterator[Line]:
        """The lines of all items."""
        yield from self._items(self._rulebook.document["way"], "", 0)
        yield Line(0, "When the last is done the order is completed.")
        if self._chosen or self._repeated:
            yield Line(0, "An answer after which a condition cannot be evaluated is refused and quarantined; the order stays as it was.")

    def _note(self, way: Sequence[Mapping[str, Any]], *, chosen: bool, repeated: bool) -> None:
        """Which stages not every order comes to, and which some come to again."""
        for item in way:
            if "stage" in item:
                self._chosen |= {item["stage"]} if chosen else set()
                self._repeated |= {item["stage"]} if repeated else set()
            else:
                for inner in inner_ways(item):
                    self._note(inner, chosen=chosen or "choose" in item, repeated=repeated or "repeat" in item)

    def _items(self, way: Sequence[Mapping[str, Any]], prefix: str, depth: int) -> Iterator[Line]:
        for number, item in enumerate(way, 1):
            place = f"{prefix}{number}."
            if "choose" in item:
                yield from self._choice(item, place, depth)
            elif "repeat" in item:
                yield from self._loop(item, place, depth)
            else:
                yield from self._stage(self._rulebook.stages[item["stage"]], place, depth)

    def _choice(self, item: Mapping[str, Any], place: str, depth: int) -> Iterator[Line]:
        yield Line(depth, f"{place} {item['choose']}: one of several ways, the first whose condition holds.")
        for number, case in enumerate(item["cases"], 1):
            yield Line(depth + 1, f"{'When' if number == 1 else 'Else when'} `{case['when']}`:")
            yield from self._items(case["way"], f"{place}{number}.", depth + 2)
        yield Line(depth + 1, "Otherwise:" if item["otherwise"] else "Otherwise nothing is asked here.")
        yield from self._items(item["otherwise"], f"{place}{len(item['cases']) + 1}.", depth + 2)

    def _loop(self, item: Mapping[str, Any], place: str, depth: int) -> Iterator[Line]:
        turns = counted(item["at_most"], "turn")
        yield Line(depth, f"{place} {item['repeat']}: at most {turns}, until `{item['until']}` holds after a turn.")
        yield from self._items(item["way"], place, depth + 1)
        vain = "the order goes on" if item["then"] == "go_on" else "everything is undone, each turn for itself"
        yield Line(depth + 1, f"When it does not hold after the last turn, {vain}.")

    def _stage(self, stage: Stage, place: str, depth: int) -> Iterator[Line]:
        if len(stage.steps) == 1:
            yield from self._step(stage, stage.steps[0], place, depth, state=f" (state {stage.state})")
            return
        yield Line(
            depth, f"{place} {stage.name} (state {stage.state}): {counted(len(stage.steps), 'step')} side by side, until all are done."
        )
        for number, step in enumerate(stage.steps, 1):
            yield from self._step(stage, step, f"{place}{number}.", depth + 1, state="")

    def _step(self, stage: Stage, step: StepRule, place: str, depth: int, *, state: str) -> Iterator[Line]:
        mark = ", the point of no return" if step.pivot else ""
        yield Line(depth, f"{place} {step.name}{state}{mark}: {asked(step)}")
        told = [answered(step), *([final(step)] if step.pivot else []), silent(step, self._undone(stage, step, itself=True))]
        told += [*refused(self._rulebook, step, self._undone(stage, step, itself=False)), *standing(self._rulebook, step)]
        yield from (Line(depth + 1, text) for text in told)

    def _undone(self, stage: Stage, step: StepRule, *, itself: bool) -> str:
        """What is undone when this step is silent, or (without itself) refused; what stands beside it in any case."""
        here = [one.name for one in stage.steps if one.undo is not None and (itself or one is not step or stage.index in self._repeated)]
        before = self._before(stage)
        # Watched steps that the order has not come to may be done nevertheless (R11).
        pieces = [
            [one.name for one in other.steps if one.watched and one.undo is not None]
            for other in reversed(self._rulebook.stages[stage.index + 1 :])
            if watches(other)
        ]
        pieces += [here] if here else []
        pieces += [[one.name for one in other.steps if one.undo is not None] for other in reversed(before) if other.can_be_undone]
        if not pieces:
            return NOTHING
        named = [f"{listed(piece)} side by side" if len(piece) > 1 else piece[0] for piece in pieces]
        among = {stage.index, *(other.index for other in before if other.can_be_undone)}
        notes = ["as far as they were asked"] if self._chosen & among else []
        notes += ["each turn for itself"] if self._repeated & among else []
        note = f" ({', '.join(notes)})" if notes else ""
        return f"everything is undone, last first: {', '.join(named)}{note}"

    def _before(self, stage: Stage) -> list[Stage]:
        """The stages that an order in this one may have come through, but for itself."""
        found, todo = {stage.index}, [stage]
        while todo:
            for other in self._come_from[todo.pop().index]:
                if other is not None and other.index not in found:
                    found.add(other.index)
                    todo.append(other)
        return [other for other in self._rulebook.stages if other.index in found and other is not stage]
