"""A document with every default written out: what orders run on, so that a later default changes nothing registered (R30)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.saga.language import Branch, Choose, Document, Item, Parallel, Repeat, Retry, Step

_Stages = list[tuple[str, str, Sequence[Branch]]]


def expand(document: Document) -> dict[str, Any]:
    """The expanded document: JSON values, durations in ms.

    `way` is the way forward: stages, choices and loops, one inside the other. `stages` and `steps` have all of them in the order written:
    a stage asks its steps side by side and is left when all are done.
    """
    stages: _Stages = []
    way = _way(document.steps, stages)
    pivots = [index for index, (_, _, steps) in enumerate(stages) if any(step.pivot for step in steps)]
    first_unlimited = pivots[0] if pivots else len(stages)
    return {
        "definition": document.definition,
        "version": document.version,
        "opens_on": document.opens_on,
        "key": document.key,
        "patience_ms": document.patience,
        "abort_on": document.abort_on,
        "labels": document.labels,
        "way": way,
        "stages": [{"stage": name, "state": state, "steps": [step.step for step in steps]} for name, state, steps in stages],
        "steps": [_step(step, unlimited=index >= first_unlimited) for index, (_, _, steps) in enumerate(stages) for step in steps],
        "announce": document.announce,
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


def _step(step: Branch, *, unlimited: bool) -> dict[str, Any]:
    undo = step.undo
    return {
        "step": step.step,
        "participant": step.ask,
        "command": step.command,
        "with": step.with_,
        "done_on": step.done_on,
        "refused_on": step.refused_on,
        "deadline_ms": step.deadline,
        "retry": _retry(step.retry, unlimited=unlimited),
        "pivot": step.pivot,
        "harmless": step.harmless,
        "undo": undo
        and {
            "command": undo.command,
            "with": undo.with_,
            "done_on": undo.done_on,
            "deadline_ms": undo.deadline,
            "retry": _retry(undo.retry, unlimited=True),
        },
    }


def _retry(retry: Retry, *, unlimited: bool) -> dict[str, Any]:
    """Defaults by place: attempts are counted before the pivot; the pivot, what follows it, and undos go on without limit."""
    return {
        "attempts": retry.attempts if retry.attempts or unlimited else 3,
        "first_ms": retry.first or (5_000 if unlimited else 1_000),
        "factor": retry.factor or 2.0,
        "max_ms": retry.max or (300_000 if unlimited else 60_000),
        "stuck_after": retry.stuck_after or (5 if unlimited else None),
    }
