"""A document with every default written out: what orders run on, so that a later default changes nothing registered (R30)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.saga.document import Document
from orchestrator.saga.expand_states import expand_states
from orchestrator.saga.expand_step import expand_step
from orchestrator.saga.language import Branch, Choose, Item, Parallel, Repeat, Step
from orchestrator.saga.ways import passed

_Stages = list[tuple[str, str, Sequence[Branch]]]


def expand(document: Document) -> dict[str, Any]:
    """The expanded document: JSON values, durations in ms.

    `way` is the way forward: stages, choices and loops, one inside the other; empty in the state form, where the stages say what follows.
    `stages` and `steps` have all of them in the order written: a stage asks its steps side by side and is left when all are done.
    """
    form = expand_states(document.states, document.begins_in) if document.states is not None else _line(document.steps or [])
    return {
        "definition": document.definition,
        "version": document.version,
        "opens_on": document.opens_on,
        "key": document.key,
        "patience_ms": document.patience,
        "abort_on": document.abort_on,
        "labels": document.labels,
        **form,
        **_policies(document),
        "announce": document.announce,
    }


def _policies(document: Document) -> dict[str, Any]:
    rows = [
        {"event": row.event, "in": row.in_, "early": row.early, "late": row.late, "unexpected": row.unexpected} for row in document.policies
    ]
    return {"policies": rows} if rows else {}


def _line(items: Sequence[Item]) -> dict[str, Any]:
    stages: _Stages = []
    way = _way(items, stages)
    pivots = {index for index, (_, _, steps) in enumerate(stages) if any(step.pivot for step in steps)}
    past, _ = passed(way, pivots)
    return {
        "way": way,
        "stages": [{"stage": name, "state": state, "steps": [step.step for step in steps]} for name, state, steps in stages],
        "steps": [
            expand_step(step.step, step, unlimited=past[index] or index in pivots)
            for index, (_, _, steps) in enumerate(stages)
            for step in steps
        ],
    }


def _way(items: Sequence[Item], stages: _Stages) -> list[dict[str, Any]]:
    """The items as JSON values; a stage is named by its place in `stages`, to which those found are added."""
    way: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, Choose):
            cases = [{"when": case.when, "way": _way(case.steps, stages)} for case in item.cases]
            way.append({"choose": item.choose, "cases": cases, "otherwise": _way(item.otherwise, stages)})
        elif isinstance(item, Repeat):
            body = _way(item.steps, stages)
            way.append({"repeat": item.repeat, "until": item.until, "at_most": item.at_most, "then": item.then, "way": body})
        else:
            way.append({"stage": len(stages)})
            stages.append(_stage(item))
    return way


def _stage(item: Step | Parallel) -> tuple[str, str, Sequence[Branch]]:
    """Name, state and steps: a step by itself is a stage of its own name."""
    if isinstance(item, Parallel):
        return item.parallel, item.state or item.parallel, item.steps
    return item.step, item.state or item.step, [item]
