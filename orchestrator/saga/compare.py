"""What differs between two definitions, in sentences by step, state and event: what changes for an order that runs on the one and goes on
with the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.saga.bounds import bounds
from orchestrator.saga.compare_states import compare_states
from orchestrator.saga.differences import NONE, Pairs, maybe, names, step, told
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule
from orchestrator.saga.ways import inner_ways
from orchestrator.saga.words import duration

#: What stands for the definition as a whole, and for the way through it.
WHOLE = "definition"
WAY = "way"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    #: A step's name, a state's or an event's; `definition` for what concerns all; `way` for the order of steps, choices and loops.
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


def compare(old: Rulebook, new: Rulebook) -> list[Change]:
    """Every difference that an order can meet; none where only the version, or the way of writing it, differs."""
    changes = [Change(WHOLE, text) for text in told({**_whole(old, new), **_times(old, new)})]
    changes += _way(old, new)
    if not old.is_line and not new.is_line:
        changes += [Change(about, text) for about, text in compare_states(old, new)]
    before, after = _asked(old), _asked(new)
    places = _places(old), _places(new)
    for name, was in before.items():
        if name not in after:
            changes.append(Change(name, f"it is removed. Orders in the state {was.state} have no such state there."))
    for name, becomes in after.items():
        if name not in before:
            changes.append(Change(name, f"it is added, {places[1][name]}: {becomes.participant} is sent {becomes.command}."))
        else:
            pairs = {**step(before[name], becomes), "place": (places[0][name], places[1][name])}
            changes += [Change(name, text) for text in told(pairs)]
    return changes


def _asked(rulebook: Rulebook) -> dict[str, StepRule]:
    return {step.name: step for step in rulebook.steps}


def _whole(old: Rulebook, new: Rulebook) -> Pairs:
    return {
        "name": (old.name, new.name),
        "opened by": (old.opens_on, new.opens_on),
        "field of the order's id": (old.key, new.key),
        "patience": (duration(old.patience_ms), duration(new.patience_ms)),
        "called off by": (names(old.abort_on), names(new.abort_on)),
        "labels": (names(old.labels), names(new.labels)),
        "form": (_form(old), _form(new)),
        "policies": (_policies(old), _policies(new)),
        **{
            f"announced when {end}": (old.announce.get(end, NONE), new.announce.get(end, NONE))
            for end in sorted({*old.announce, *new.announce})
        },
    }


def _form(rulebook: Rulebook) -> str:
    return "a line of steps" if rulebook.is_line else f"states, beginning in {rulebook.stages[0].state}"


def _policies(rulebook: Rulebook) -> str:
    rows = rulebook.policies.items()
    return names(f"{event} {cell} in {state or 'all other states'}: {policy}" for (event, state, cell), policy in rows)


def _times(old: Rulebook, new: Rulebook) -> Pairs:
    before, after = bounds(old), bounds(new)
    pairs = {
        "longest until the pivot is asked (without one: until completed)": (
            duration(before.decided_ms),
            duration(after.decided_ms),
        ),
        "longest until the last undo is first sent, the others confirmed at once": (
            maybe(before.last_undo_sent_ms, "no undo"),
            maybe(after.last_undo_sent_ms, "no undo"),
        ),
    }
    if old.is_line or new.is_line:
        return pairs
    ends = {bound.end: maybe(bound.at_once_ms, "without limit") for bound in before.ends}
    becoming = {bound.end: maybe(bound.at_once_ms, "without limit") for bound in after.ends}
    both = {f"longest until {end}, all answered at once": (ends[end], becoming[end]) for end in ends if end in becoming}
    return {**pairs, **both}


def _way(old: Rulebook, new: Rulebook) -> Iterator[Change]:
    """The order of the steps both have, and the choices and loops."""
    if not old.is_line or not new.is_line:
        return
    both = old.by_name.keys() & new.by_name.keys()
    orders = [[one.name for one in rulebook.steps if one.name in both] for rulebook in (old, new)]
    if orders[0] != orders[1]:
        yield from (Change(WAY, text) for text in told({"order of the steps": (", ".join(orders[0]), ", ".join(orders[1]))}))
    before, after = dict(_blocks(old.document["way"])), dict(_blocks(new.document["way"]))
    for name in [*before, *(name for name in after if name not in before)]:
        yield from (Change(WAY, text) for text in told({name: (before.get(name, NONE), after.get(name, NONE))}))


def _blocks(way: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every choice and loop: what it is called, and its rule."""
    for item in way:
        if "choose" in item:
            yield f"choice {item['choose']}", ", else ".join(f"when `{case['when']}`" for case in item["cases"])
        elif "repeat" in item:
            vain = "go on" if item["then"] == "go_on" else "undo"
            yield f"loop {item['repeat']}", f"at most {item['at_most']} until `{item['until']}`, then {vain}"
        for inner in () if "stage" in item else inner_ways(item):
            yield from _blocks(inner)


def _places(rulebook: Rulebook) -> dict[str, str]:
    """Where each step stands."""
    if not rulebook.is_line:
        return {one.name: f"in the state {one.state}" for one in rulebook.steps}
    inside = dict(_inside(rulebook.document["way"], ()))
    places = {}
    for stage in rulebook.stages:
        block = [f"side by side in {stage.name}"] if len(stage.steps) > 1 else []
        for one in stage.steps:
            places[one.name] = ", ".join([*inside[stage.index], *block]) or "on the way of every order"
    return places


def _inside(way: Sequence[Mapping[str, Any]], around: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every stage, with the choices and loops around it."""
    for item in way:
        if "choose" in item:
            for number, case in enumerate(item["cases"], 1):
                yield from _inside(case["way"], (*around, f"in case {number} of {item['choose']}"))
            yield from _inside(item["otherwise"], (*around, f"otherwise in {item['choose']}"))
        elif "repeat" in item:
            yield from _inside(item["way"], (*around, f"in {item['repeat']}"))
        else:
            yield item["stage"], around
