"""What differs between two definitions, in sentences by step: what changes for an order that runs on the one and goes on with the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.saga.bounds import bounds
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Fields, StepRule, UndoRule
from orchestrator.saga.words import duration, listed

#: What stands for the definition as a whole, and for the way through it.
WHOLE = "definition"
WAY = "way"
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    #: A step's name; `definition` for what concerns all; `way` for the order of steps, choices and loops.
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


def compare(old: Rulebook, new: Rulebook) -> list[Change]:
    """Every difference that an order can meet; none where only the version, or the way of writing it, differs."""
    pairs = {**_whole(old, new), **_times(old, new)}
    changes = [Change(WHOLE, _changed(what, before, after)) for what, (before, after) in pairs.items() if before != after]
    changes += _way(old, new)
    places = _places(old), _places(new)
    for step in old.steps:
        if step.name not in new.by_name:
            changes.append(Change(step.name, f"it is removed. Orders in the state {step.state} have no such state there."))
    for step in new.steps:
        was = old.by_name.get(step.name)
        if was is None:
            changes.append(Change(step.name, f"it is added, {places[1][step.name]}: {step.participant} is sent {step.command}."))
        else:
            told = {**_step(was, step), "place": (places[0][step.name], places[1][step.name])}
            changes += [Change(step.name, _changed(what, before, after)) for what, (before, after) in told.items() if before != after]
    return changes


_Pairs = dict[str, tuple[str, str]]


def _changed(what: str, before: str, after: str) -> str:
    return f"{what}: {before} → {after}."


def _whole(old: Rulebook, new: Rulebook) -> _Pairs:
    return {
        "name": (old.name, new.name),
        "opened by": (old.opens_on, new.opens_on),
        "field of the order's id": (old.key, new.key),
        "patience": (duration(old.patience_ms), duration(new.patience_ms)),
        "called off by": (_names(old.abort_on), _names(new.abort_on)),
        "labels": (_names(old.labels), _names(new.labels)),
        **{
            f"announced when {end}": (old.announce.get(end, _NONE), new.announce.get(end, _NONE))
            for end in sorted({*old.announce, *new.announce})
        },
    }


def _times(old: Rulebook, new: Rulebook) -> _Pairs:
    before, after = bounds(old), bounds(new)
    return {
        "longest until the pivot is asked (without one: until completed)": (
            duration(before.decided_ms),
            duration(after.decided_ms),
        ),
        "longest until the last undo is first sent, the others confirmed at once": (
            _maybe(before.last_undo_sent_ms),
            _maybe(after.last_undo_sent_ms),
        ),
    }


def _step(old: StepRule, new: StepRule) -> _Pairs:
    pairs = {
        "participant": (old.participant, new.participant),
        "command": (old.command, new.command),
        "with": (_fields(old.fields), _fields(new.fields)),
        "done on": (old.done_on, new.done_on),
        "refused on": (_names(old.refused_on), _names(new.refused_on)),
        "deadline": (duration(old.deadline_ms), duration(new.deadline_ms)),
        **_retry("", old, new),
        "state": (old.state, new.state),
        "point of no return": (_yes(old.pivot), _yes(new.pivot)),
        "harmless": (_yes(old.harmless), _yes(new.harmless)),
    }
    if old.undo is None or new.undo is None:
        return {**pairs, "undo": (_undo(old.undo), _undo(new.undo))}
    return {
        **pairs,
        "undo's command": (old.undo.command, new.undo.command),
        "undo's with": (_fields(old.undo.fields), _fields(new.undo.fields)),
        "undo done on": (old.undo.done_on, new.undo.done_on),
        "undo's deadline": (duration(old.undo.deadline_ms), duration(new.undo.deadline_ms)),
        **_retry("undo's ", old.undo, new.undo),
    }


def _retry(of: str, old: StepRule | UndoRule, new: StepRule | UndoRule) -> _Pairs:
    before, after = old.retry, new.retry
    return {
        f"{of}attempts": (str(before.attempts or "without limit"), str(after.attempts or "without limit")),
        f"{of}first backoff": (duration(before.first_ms), duration(after.first_ms)),
        f"{of}factor of the backoff": (f"{before.factor:g}", f"{after.factor:g}"),
        f"{of}longest backoff": (duration(before.max_ms), duration(after.max_ms)),
        f"{of}sendings until it is stuck": (str(before.stuck_after or _NONE), str(after.stuck_after or _NONE)),
    }


def _way(old: Rulebook, new: Rulebook) -> Iterator[Change]:
    """The order of the steps both have, and the choices and loops."""
    both = old.by_name.keys() & new.by_name.keys()
    orders = [[step.name for step in rulebook.steps if step.name in both] for rulebook in (old, new)]
    if orders[0] != orders[1]:
        yield Change(WAY, _changed("order of the steps", ", ".join(orders[0]), ", ".join(orders[1])))
    before, after = dict(_blocks(old.document["way"])), dict(_blocks(new.document["way"]))
    for name in [*before, *(name for name in after if name not in before)]:
        was, becomes = before.get(name, _NONE), after.get(name, _NONE)
        if was != becomes:
            yield Change(WAY, _changed(name, was, becomes))


def _blocks(way: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every choice and loop: what it is called, and its rule."""
    for item in way:
        if "choose" in item:
            yield f"choice {item['choose']}", ", else ".join(f"when `{case['when']}`" for case in item["cases"])
            for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
                yield from _blocks(inner)
        elif "repeat" in item:
            vain = "go on" if item["then"] == "go_on" else "undo"
            yield f"loop {item['repeat']}", f"at most {item['at_most']} until `{item['until']}`, then {vain}"
            yield from _blocks(item["way"])


def _places(rulebook: Rulebook) -> dict[str, str]:
    """Where each step stands."""
    inside = dict(_inside(rulebook.document["way"], ()))
    places = {}
    for stage in rulebook.stages:
        block = [f"side by side in {stage.name}"] if len(stage.steps) > 1 else []
        for step in stage.steps:
            places[step.name] = ", ".join([*inside[stage.index], *block]) or "on the way of every order"
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


def _undo(undo: UndoRule | None) -> str:
    return _NONE if undo is None else f"{undo.command} until {undo.done_on}"


def _fields(fields: Fields) -> str:
    if fields is None:
        return "all of the order's data"
    if isinstance(fields, Mapping):
        return listed([f"{name} = `{expression.text}`" for name, expression in sorted(fields.items())])
    return listed(sorted(fields)) or "nothing"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or _NONE


def _maybe(ms: int | None) -> str:
    return "no undo" if ms is None else duration(ms)


def _yes(flag: bool) -> str:  # noqa: FBT001
    return "yes" if flag else "no"
