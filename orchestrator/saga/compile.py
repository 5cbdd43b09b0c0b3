"""The rules of an expanded document: its stages with their steps, events, notices and deadlines, ready to be looked up.

What a document that was registered earlier does not say has the meaning that it had then (R30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.saga.expression import Expression
from orchestrator.saga.retry import RetryRule
from orchestrator.saga.rules import Ending, EventCase, EventRule, Fields, Notice, Stage, StateDeadline, StepRule, UndoRule


def stages_of(document: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of an expanded document."""
    steps = {step["step"]: step for step in document["steps"]}
    facts = {fact["step"]: fact for fact in document.get("facts", ())}
    homes: dict[str, int] = {}
    for index, stage in enumerate(document["stages"]):
        for name in [*stage.get("events", ()), *stage.get("all_of", ())]:
            homes.setdefault(name, index)
    return tuple(
        Stage(
            index=index,
            name=stage["stage"],
            state=stage["state"],
            steps=tuple(_step(index, stage["state"], steps[name]) for name in stage["steps"]),
            events={name: tuple(_case(case) for case in cases) for name, cases in stage.get("events", {}).items()},
            all_of=frozenset(stage.get("all_of", ())),
            notices=tuple(_notice(notice) for notice in stage.get("notices", ())),
            deadline=_deadline(stage.get("deadline")),
            on_refused=stage.get("on_refused"),
            at_most=stage.get("at_most"),
            ending=_ending(stage.get("ending"), [*steps, *facts]),
            facts=tuple(_step(index, stage["state"], fact) for name, fact in facts.items() if homes[name] == index),
        )
        for index, stage in enumerate(document["stages"])
    )


def events_of(document: Mapping[str, Any], stages: tuple[Stage, ...]) -> dict[str, EventRule]:
    """The events from outside of an expanded document, by type."""
    facts = {fact.name: fact for stage in stages for fact in stage.facts}
    return {
        name: EventRule(type=name, source=event["source"], order_by=event["order_by"], undone_as=facts.get(name))
        for name, event in document.get("events", {}).items()
    }


def _step(index: int, state: str, step: Mapping[str, Any]) -> StepRule:
    undo = step["undo"]
    return StepRule(
        index=index,
        name=step["step"],
        state=state,
        participant=step["participant"],
        command=step["command"],
        fields=_fields(step["with"]),
        done_on=step["done_on"],
        done_when=_maybe(step.get("done_when")),
        set=_set(step.get("set")),
        refused_on=frozenset(step["refused_on"]),
        deadline_ms=step["deadline_ms"],
        retry=RetryRule(**step["retry"]),
        patience_ms=step.get("patience_ms"),
        watched=step.get("watched", False),
        pivot=step["pivot"],
        harmless=step["harmless"],
        undo=undo
        and UndoRule(
            command=undo["command"],
            fields=_fields(undo["with"]),
            done_on=undo["done_on"],
            deadline_ms=undo["deadline_ms"],
            retry=RetryRule(**undo["retry"]),
        ),
    )


def _case(case: Mapping[str, Any]) -> EventCase:
    return EventCase(when=_maybe(case["when"]), set=_set(case["set"]), then=case["then"])


def _notice(notice: Mapping[str, Any]) -> Notice:
    return Notice(
        name=notice["notice"],
        participant=notice["participant"],
        command=notice["command"],
        fields=_fields(notice["with"]),
        every_ms=notice["every_ms"],
    )


def _deadline(deadline: Mapping[str, Any] | None) -> StateDeadline | None:
    if deadline is None:
        return None
    return StateDeadline(after_ms=deadline["after_ms"], at=_maybe(deadline["at"]), then=deadline["then"])


def _ending(ending: Mapping[str, Any] | None, steps: list[str]) -> Ending | None:
    if ending is None:
        return None
    undone = {"all": steps, "none": []}.get(ending["undo"], ending["undo"]) if isinstance(ending["undo"], str) else ending["undo"]
    return Ending(outcome=ending["outcome"], undone=frozenset(undone))


def _maybe(text: str | None) -> Expression | None:
    return None if text is None else Expression(text)


def _set(values: Mapping[str, str] | None) -> dict[str, Expression]:
    return {name: Expression(text) for name, text in (values or {}).items()}


def _fields(value: list[str] | dict[str, str] | None) -> Fields:
    if isinstance(value, dict):
        return {name: Expression(text) for name, text in value.items()}
    return None if value is None else tuple(value)


def event_types_of(document: Mapping[str, Any]) -> frozenset[str]:
    """Every event type that an expanded document names."""
    asked = [*document["steps"], *document.get("facts", ())]
    answers = {name for step in asked for name in (step["done_on"], *step["refused_on"])}
    answers |= {step["undo"]["done_on"] for step in asked if step["undo"]}
    return frozenset({document["opens_on"], *document["abort_on"], *document.get("events", ())} | answers)


def participants_of(document: Mapping[str, Any]) -> frozenset[str]:
    """Everyone whom an expanded document asks or tells."""
    notices = [notice for stage in document["stages"] for notice in stage.get("notices", ())]
    return frozenset(item["participant"] for item in [*document["steps"], *document.get("facts", ()), *notices])
