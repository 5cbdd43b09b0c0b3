"""An expanded document with the places of its parts in the document as written: what the checks read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.saga.definition import Definition
from orchestrator.saga.reach import reached
from orchestrator.saga.ways import known, passed

#: Path, message and fix of each finding.
Findings: TypeAlias = Iterator[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A step, where it stands in the document as written, and in which stage."""

    path: str
    stage: int
    #: Whether not every order comes to it, and whether some come again.
    is_chosen: bool
    is_repeated: bool
    #: Whether it is a pivot or comes after one: there is no way back.
    is_final: bool
    #: What has answered when an order comes to it, whichever way it took.
    known: Sequence[str]
    step: Mapping[str, Any]


class Plan:
    """One definition under its checks."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.document = definition.expanded
        self.stages: Sequence[Mapping[str, Any]] = self.document["stages"]
        #: Paths of the stages, and of the choices and loops, each with its name.
        self.places: list[str] = []
        self.blocks: list[tuple[str, str]] = []
        #: Paths of the steps, with their stages, and whether they are chosen and repeated.
        self._steps: list[tuple[str, int, bool, bool]] = []
        if self.document["way"]:
            self._walk(definition.raw["steps"], "steps", is_chosen=False, is_repeated=False)
        else:
            self._list_states()
        self._following = {index: self.following(index) for index in range(len(self.stages))}
        self.pivots = self._pivots()
        self._final = self._passed()
        final, known_by_stage = self._final, self._known()
        self.steps = [
            Placed(path, stage, is_chosen, is_repeated, final[stage] or stage in self.pivots, known_by_stage[stage], step)
            for (path, stage, is_chosen, is_repeated), step in zip(self._steps, self.document["steps"], strict=True)
        ]

    @property
    def names(self) -> list[str]:
        """Everything that can have answered."""
        return [step["step"] for step in self.document["steps"]] + list(self.document.get("events", ()))

    @property
    def ends(self) -> list[str]:
        """The states that are ends."""
        own = [stage["state"] for stage in self.stages if "ending" in stage]
        return list(dict.fromkeys([*(own or ["completed"]), "compensated", "abandoned"]))

    @property
    def whole_end(self) -> str:
        """`completed`, where a state of this name is the whole end that it says; else nothing."""
        is_whole = any(stage["state"] == "completed" and stage.get("ending", {}).get("outcome") == "completed" for stage in self.stages)
        return "completed" if is_whole else ""

    def participants(self) -> Iterator[tuple[str, str]]:
        """Path and name of everyone who is asked or told."""
        for placed in self.steps:
            yield f"{placed.path}.ask", placed.step["participant"]
        for place, stage in zip(self.places, self.stages, strict=True):
            for notice in stage.get("notices", ()):
                yield place, notice["participant"]

    def awaited(self) -> Iterator[tuple[str, str]]:
        """Path and type of every event from outside, in each state that takes it."""
        for place, stage in zip(self.places, self.stages, strict=True):
            for name in [*stage.get("events", ())]:
                yield f"{place}.on.{name}", name

    def _walk(self, items: Sequence[Mapping[str, Any]], path: str, *, is_chosen: bool, is_repeated: bool) -> None:
        """In the order of `expand`."""
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if "choose" in item:
                self.blocks.append((f"{place}.choose", item["choose"]))
                for number, case in enumerate(item["cases"]):
                    self._walk(case["steps"], f"{place}.cases[{number}].steps", is_chosen=True, is_repeated=is_repeated)
                self._walk(item.get("otherwise", ()), f"{place}.otherwise", is_chosen=True, is_repeated=is_repeated)
            elif "repeat" in item:
                self.blocks.append((f"{place}.repeat", item["repeat"]))
                self._walk(item["steps"], f"{place}.steps", is_chosen=is_chosen, is_repeated=True)
            else:
                inner = [f"{place}.steps[{n}]" for n in range(len(item["steps"]))] if "parallel" in item else [place]
                self._steps += [(step, len(self.places), is_chosen, is_repeated) for step in inner]
                self.places.append(place)

    def _list_states(self) -> None:
        for index, stage in enumerate(self.stages):
            self.places.append(f"states.{stage['state']}")
            self._steps += [(self.places[-1], index, True, False) for _ in stage["steps"]]

    def _pivots(self) -> frozenset[int]:
        pivots = {step["step"] for step in self.document["steps"] if step["pivot"]}
        return frozenset(index for index, stage in enumerate(self.stages) if pivots & set(stage["steps"]))

    def _passed(self) -> dict[int, bool]:
        """By stage: whether a pivot was passed when an order comes to it."""
        if self.document["way"]:
            return passed(self.document["way"], self.pivots)[0]
        answered = self.numbers([self.stages[index].get("then") for index in self.pivots])
        after = reached(self._following, answered)
        return {index: index in after for index in range(len(self.stages))}

    def is_final(self, index: int) -> bool:
        """Whether a stage comes after a pivot."""
        return self._final[index]

    def reached_without_pivot(self) -> frozenset[int]:
        """The states that an order can come to before any pivot is answered."""
        refused = {index: self.numbers([self.stages[index].get("on_refused")]) for index in self.pivots}
        return reached({**self._following, **refused}, [0])

    def after(self, index: int) -> frozenset[int]:
        """Every state that one leads to, sooner or later; itself, where it can come again."""
        return reached(self._following, self._following[index])

    def following(self, index: int) -> list[int]:
        """The states that a state leads to."""
        stage = self.stages[index]
        names = [case["then"] for cases in stage.get("events", {}).values() for case in cases]
        return self.numbers([*names, stage.get("then"), stage.get("on_refused"), (stage.get("deadline") or {}).get("then")])

    def numbers(self, names: Sequence[str | None]) -> list[int]:
        """The numbers of states, without those that there are not."""
        by_name = {stage["state"]: index for index, stage in enumerate(self.stages)}
        return [by_name[name] for name in dict.fromkeys(names) if name in by_name]

    def _known(self) -> dict[int, list[str]]:
        """By stage: what has answered. A state can be come to in many ways, so there it is everything."""
        if not self.document["way"]:
            return dict.fromkeys(range(len(self.stages)), self.names)
        done = dict(known(self.document["way"], frozenset()))
        steps = [(self._steps[place][1], step["step"]) for place, step in enumerate(self.document["steps"])]
        return {stage: [name for index, name in steps if index in done[stage]] for stage in done}
