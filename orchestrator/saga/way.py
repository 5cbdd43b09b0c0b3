"""The way forward through a definition: stages, and what stands between them.

A *place* is a stage, a choice, the entry to a loop or the end of its turn; None is the end of the way. Whoever leaves a stage walks from
place to place, deciding by the order's data, until a stage or the end is reached (`forward`). Places have no repr of their own: each
holds all that follow it. In the state form each state is a stage, and says itself which one follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.saga.expression import Expression
from orchestrator.saga.rules import Stage


@dataclass(frozen=True, slots=True, repr=False)
class Choice:
    """The first case that holds is taken."""

    cases: tuple[tuple[Expression, Place], ...]
    otherwise: Place


@dataclass(slots=True, eq=False, repr=False)
class Turn:
    """The end of a loop's turn. Set once, when the way is laid: its body ends at it."""

    name: str
    until: Expression
    at_most: int
    #: Whether the order goes on after the last turn in vain; else it is undone.
    goes_on: bool
    after: Place
    body: Place = None


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """The entry to a loop: the first turn begins."""

    turn: Turn


Place: TypeAlias = Stage | Choice | Turn | Entry | None


class Way:
    """A definition's way, laid from its expanded document."""

    def __init__(self, document: Mapping[str, Any], stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._following: dict[int, Place] = {}
        if document["way"]:
            self.first = self._lay(document["way"], None)
        else:
            by_name = {stage.name: stage for stage in stages}
            self.first = stages[0]
            self._following = {stage.index: by_name.get(said.get("then")) for stage, said in zip(stages, document["stages"], strict=True)}

    def after(self, stage: Stage) -> Place:
        """The place that follows a stage when all of its steps are done, or all of its events have come."""
        return self._following[stage.index]

    def _lay(self, items: Sequence[Mapping[str, Any]], after: Place) -> Place:
        place = after
        for item in reversed(items):
            if "stage" in item:
                stage = self._stages[item["stage"]]
                self._following[stage.index] = place
                place = stage
            elif "choose" in item:
                cases = tuple((Expression(case["when"]), self._lay(case["way"], place)) for case in item["cases"])
                place = Choice(cases, self._lay(item["otherwise"], place))
            else:
                turn = Turn(item["repeat"], Expression(item["until"]), item["at_most"], item["then"] == "go_on", place)
                turn.body = self._lay(item["way"], turn)
                place = Entry(turn)
        return place


#: A stage that can come next, None for the end, and what must hold on the way to it.
Exit: TypeAlias = tuple[Stage | None, tuple[str, ...]]


def exits(place: Place) -> list[Exit]:
    """Every next stage, and the end, that can be reached without passing another, with the conditions of a way to it.

    What lies behind a place is told once, with the first way to it: all ways to all stages could be as many as 2 to the number of choices.
    """
    found: list[Exit] = []
    seen: set[int] = set()
    todo: list[tuple[Place, tuple[str, ...]]] = [(place, ())]
    while todo:
        here, conditions = todo.pop()
        if here is None or isinstance(here, Stage):
            found.append((here, conditions))
        elif id(here) not in seen:
            seen.add(id(here))
            todo += [(there, (*conditions, *more)) for there, more in reversed(_branches(here))]
    return found


def _branches(place: Choice | Turn | Entry) -> list[tuple[Place, tuple[str, ...]]]:
    if isinstance(place, Entry):
        return [(place.turn.body, ())]
    if isinstance(place, Choice):
        return [*((then, (when.text,)) for when, then in place.cases), (place.otherwise, ("otherwise",))]
    return [(place.after, (place.until.text,)), (place.body, ("again",))]
