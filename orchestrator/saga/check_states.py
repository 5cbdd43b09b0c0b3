"""Static checks of the state form: every state can be reached and left, and every wait ends (R12, R31)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.saga.plan import Findings, Plan


def check_states(plan: Plan) -> Findings:
    """What the form itself asks for. Names that lead nowhere first: without them nothing else can be said."""
    wrong = [*_names(plan), *_shapes(plan)]
    yield from wrong or [*_reached(plan), *_left(plan), *_cycles(plan), *_pivots(plan), *_endings(plan), *_events(plan)]


def _raw(plan: Plan) -> Mapping[str, Any]:
    states: Mapping[str, Any] = plan.definition.raw["states"]
    return states


def _names(plan: Plan) -> Findings:
    """Whatever leads to a state names one; an end undoes what there is."""
    states = [stage["state"] for stage in plan.stages]
    for place, stage in zip(plan.places, plan.stages, strict=True):
        named = [("then", stage.get("then")), ("on_refused", stage.get("on_refused"))]
        named += [("deadline.then", (stage.get("deadline") or {}).get("then"))]
        named += [(f"on.{event}", case["then"]) for event, cases in stage.get("events", {}).items() for case in cases]
        for word, name in named:
            if name is not None and name not in states:
                yield f"{place}.{word}", f"There is no state {name}.", f"Name one of {', '.join(states)}."
        undone = stage.get("ending", {}).get("undo")
        for name in undone if isinstance(undone, list) else ():
            if name not in plan.names:
                yield f"{place}.undo", f"There is nothing called {name} to undo.", f"Name some of {', '.join(plan.names)}."
    start = plan.definition.raw["begins_in"]
    if start not in states:
        yield "begins_in", f"There is no state {start}.", f"Name one of {', '.join(states)}."


def _shapes(plan: Plan) -> Findings:
    """Words of a state that belong together stand together."""
    for place, stage in zip(plan.places, plan.stages, strict=True):
        state = _raw(plan)[stage["state"]]
        if "ending" in stage:
            if stage["ending"]["outcome"] == "completed" and state.get("undo") is not None:
                yield f"{place}.undo", "What is completed is not undone.", "Remove `undo`, or say `outcome: failed`."
            continue
        joins = [word for word in ("all_of", "any_of") if state.get(word)]
        if len(joins) > 1:
            yield f"{place}.any_of", "A state waits for all of some events, or for any of them.", "Keep one of the two; `on` takes others."
        if joins and not state.get("then"):
            yield f"{place}.{joins[0]}", "It leads nowhere.", "Add `then:`."
        if state.get("then") and not joins and not stage["steps"]:
            yield f"{place}.then", "Nothing leads to it.", "Add `all_of:` or `any_of:`, or `done_on:` for what is asked."
        if bool(state.get("ask")) != bool(state.get("command")):
            yield place, "`ask` and `command` stand together.", "Add the other one."
        yield from _said_twice(place, state)


def _said_twice(place: str, state: Mapping[str, Any]) -> Findings:
    on = state.get("on", {})
    for word in ("all_of", "any_of"):
        names = [state[word]] if isinstance(state.get(word), str) else state.get(word) or []
        for name in names:
            said = on.get(name, {})
            leads = isinstance(said, str) or "then" in said or "cases" in said
            if leads or (word == "any_of" and name in on):
                yield f"{place}.on.{name}", f"{name} stands in `{word}`, which says where it leads.", "Keep one of the two."
    for name, said in on.items():
        cases = said.get("cases", []) if isinstance(said, dict) else []
        if cases and any(word in said for word in ("when", "then", "set")):
            yield f"{place}.on.{name}.cases", "It says both what it does and in which case.", "Put all of it into `cases`."
        for number, case in enumerate(cases[:-1]):
            if "when" not in case:
                yield f"{place}.on.{name}.cases[{number}]", "It always holds, so those after it never do.", "Add `when:`."


def _reached(plan: Plan) -> Findings:
    reached = {0, *plan.after(0)}
    for index, place in enumerate(plan.places):
        if index not in reached:
            yield place, "No order comes to this state.", "Lead to it from another state, or remove it."
    if "ending" in plan.stages[0]:
        yield plan.places[0], "An order would begin at its end.", "Begin in a state that waits for something."


def _left(plan: Plan) -> Findings:
    """Every wait ends, and leads to an end of its own."""
    final = {index for index in range(len(plan.stages)) if plan.is_final(index)}
    for index, (place, stage) in enumerate(zip(plan.places, plan.stages, strict=True)):
        if "ending" in stage:
            continue
        if not plan.following(index):
            yield place, "Nothing leads out of this state.", "Add `on:`, `all_of:`, `any_of:` or a `deadline:`."
        elif not any("ending" in plan.stages[after] for after in plan.after(index)):
            yield place, "No end can be reached from here.", "Lead to a state with an `outcome:`."
        if index in final and not stage["steps"] and stage.get("deadline") is None:
            yield place, "After the pivot nothing ends this wait: there is no patience any more.", "Add a `deadline:`."


def _cycles(plan: Plan) -> Findings:
    """What can come again is counted; after the pivot nothing does, for there is no way back."""
    for index, (place, stage) in enumerate(zip(plan.places, plan.stages, strict=True)):
        if "ending" in stage or index not in plan.after(index):
            continue
        if plan.is_final(index) or index in plan.pivots:
            yield place, "An order can come here again after its pivot.", "Lead on to states that it was not in."
        elif stage.get("at_most") is None:
            yield place, "An order can come here again and again.", "Add `at_most:`, the number of times."


def _pivots(plan: Plan) -> Findings:
    """There is one point of no return on each way; it is left by its answer alone; and what follows it comes after it on every way."""
    for index in sorted(plan.pivots):
        place, stage = plan.places[index], plan.stages[index]
        if plan.is_final(index):
            yield f"{place}.pivot", "A second pivot.", "Keep one point of no return on each way."
        for event, cases in stage["events"].items():
            if any(case["then"] is not None for case in cases):
                yield f"{place}.on.{event}", "It would leave the pivot without its answer.", "Let it lead nowhere: only the answer tells."
    without = plan.reached_without_pivot()
    for index, (place, stage) in enumerate(zip(plan.places, plan.stages, strict=True)):
        if plan.is_final(index) and index in without and "ending" not in stage:
            yield place, "Some orders come here before their pivot, and some after it.", "Make two states of it."
        if plan.is_final(index) and stage["steps"]:
            for event, cases in stage["events"].items():
                if any(case["then"] is not None for case in cases):
                    yield (
                        f"{place}.on.{event}",
                        "It would leave a step without its answer, and there is no way back.",
                        "Let it lead nowhere.",
                    )


def _endings(plan: Plan) -> Findings:
    if not any(stage.get("ending", {}).get("outcome") == "completed" for stage in plan.stages):
        yield "states", "No order can be completed.", "Add a state with `outcome: completed`."
    for index, (place, stage) in enumerate(zip(plan.places, plan.stages, strict=True)):
        if stage.get("ending", {}).get("outcome") == "failed" and plan.is_final(index) and stage["ending"]["undo"] != "none":
            yield f"{place}.undo", "It can be come to after the pivot, and there nothing is undone.", "Say `undo: none`, or lead elsewhere."


def _events(plan: Plan) -> Findings:
    """What is said of one event is the same wherever it is awaited, and somebody can undo it."""
    steps = {placed.step["step"] for placed in plan.steps}
    said: dict[tuple[str, str], Any] = {}
    for place, stage in zip(plan.places, plan.stages, strict=True):
        for name, event in _raw(plan)[stage["state"]].get("on", {}).items():
            path = f"{place}.on.{name}"
            words = event if isinstance(event, dict) else {}
            for word in ("from", "order_by", "undo"):
                if word in words and said.setdefault((name, word), words[word]) != words[word]:
                    yield f"{path}.{word}", f"Another state says otherwise of {name}.", "Say the same in every state that takes it."
            undo = words.get("undo")
            if undo and not (undo.get("ask") or words.get("from")):
                yield f"{path}.undo", "Nobody is named who undoes it.", "Add `from:`, who publishes the event, or `ask:` to its undo."
            if undo and name in steps:
                yield path, f"A step is called {name}, too.", "Give the step another name."
            for case in [words, *words.get("cases", [])]:
                if plan.document["key"] in case.get("set", {}):
                    yield f"{path}.set", "The order's id cannot change.", "Remove this field."
