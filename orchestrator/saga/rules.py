"""The rules of steps, as `decide` looks them up: how each is asked, waited for, and undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.saga.expression import Expression
from orchestrator.saga.retry import RetryRule

#: What a command carries: fields of the order's data or `STEP.FIELD`; a computed field each; or, with None, all of the data.
Fields = tuple[str, ...] | Mapping[str, Expression] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRule:
    """How a step is undone."""

    command: str
    fields: Fields
    done_on: str
    deadline_ms: int
    retry: RetryRule


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """One step of the saga."""

    #: Of its stage.
    index: int
    name: str
    #: The order's state while it waits for this step.
    state: str
    participant: str
    command: str
    fields: Fields
    done_on: str
    refused_on: frozenset[str]
    deadline_ms: int
    retry: RetryRule
    pivot: bool
    harmless: bool
    undo: UndoRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A place on the way forward: its steps are asked side by side, and it is left when all of them are done. Mostly it has one."""

    #: Place on the way, from 0.
    index: int
    #: The step's name, or the block's.
    name: str
    state: str
    steps: tuple[StepRule, ...]

    @property
    def pivot(self) -> bool:
        """Whether its step is the point of no return."""
        return any(step.pivot for step in self.steps)

    @property
    def can_be_undone(self) -> bool:
        """Whether any of its steps has an undo."""
        return any(step.undo is not None for step in self.steps)


def stages_of(document: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of an expanded document."""
    steps = {step["step"]: step for step in document["steps"]}
    return tuple(
        Stage(
            index=index,
            name=stage["stage"],
            state=stage["state"],
            steps=tuple(_step_rule(index, stage["state"], steps[name]) for name in stage["steps"]),
        )
        for index, stage in enumerate(document["stages"])
    )


def _step_rule(index: int, state: str, step: Mapping[str, Any]) -> StepRule:
    undo = step["undo"]
    return StepRule(
        index=index,
        name=step["step"],
        state=state,
        participant=step["participant"],
        command=step["command"],
        fields=_fields(step["with"]),
        done_on=step["done_on"],
        refused_on=frozenset(step["refused_on"]),
        deadline_ms=step["deadline_ms"],
        retry=RetryRule(**step["retry"]),
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


def _fields(value: list[str] | dict[str, str] | None) -> Fields:
    if isinstance(value, dict):
        return {name: Expression(text) for name, text in value.items()}
    return None if value is None else tuple(value)
