"""A definition compiled: everything `decide` may look up, and the one `transitions.Machine` that makes every move (R3).

The machine is shared by all orders of the definition and bound to none of them: a throw-away cursor is stepped, and only its state is
read. No callbacks, no queue, no auto transitions; so it may be used from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transitions import Machine, MachineError

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.saga.retry import RetryRule

# The library logs about eight lines an event at INFO; a move costs 13 µs without them.
logging.getLogger("transitions").setLevel(logging.WARNING)

#: Before an order is opened. No stored order is ever in it.
NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRule:
    """How a step is undone."""

    command: str
    fields: tuple[str, ...] | None
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
    #: Fields of the order's data, or `STEP.FIELD`; None: all of the data.
    fields: tuple[str, ...] | None
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


class _Cursor:
    """What the machine steps: compared by identity, never registered."""

    __slots__ = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state


class Rulebook:
    """One version of one definition, compiled. Nothing in it changes but what it remembers of the machine, so threads share it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Compile an expanded document (`Definition.expanded`)."""
        self.document = document
        self.name: str = document["definition"]
        self.version: int = document["version"]
        self.opens_on: str = document["opens_on"]
        self.key: str = document["key"]
        self.patience_ms: int = document["patience_ms"]
        self.abort_on = frozenset(document["abort_on"])
        self.announce: Mapping[str, str] = document["announce"]
        self.stages = _stages(document)
        self.steps = tuple(step for stage in self.stages for step in stage.steps)
        self.by_name = {step.name: step for step in self.steps}
        self.by_state = {stage.state: stage for stage in self.stages}
        self.pivot_index = next((stage.index for stage in self.stages if stage.pivot), None)
        self.answers = frozenset(
            {step.done_on for step in self.steps}
            | {name for step in self.steps for name in step.refused_on}
            | {step.undo.done_on for step in self.steps if step.undo}
            | {COMMAND_TOO_LATE}
        )
        self.event_types = self.answers | self.abort_on | {self.opens_on}
        self.participants = frozenset(step.participant for step in self.steps)
        self.machine = _build_machine(self.stages)
        #: (state, trigger) → where the machine went.
        self._moves: dict[tuple[str, str], str | None] = {}

    def move(self, state: str, trigger: str) -> str | None:
        """The state that a trigger leads to; None when it is not possible there."""
        # The machine has neither callbacks nor conditions: its answer stays, and asking costs a fifth of a whole decision.
        moved = self._moves.get((state, trigger)) or self._step(state, trigger)
        if moved is not None:
            self._moves[state, trigger] = moved
        return moved

    def _step(self, state: str, trigger: str) -> str | None:
        cursor = _Cursor(state)
        try:
            moved = self.machine.events[trigger].trigger(cursor)
        except (KeyError, ValueError, MachineError):  # no such trigger, no such state, not from here
            return None
        return cursor.state if moved else None

    def stage_of(self, step: StepRule) -> Stage:
        """The stage that asks a step."""
        return self.stages[step.index]

    def after(self, stage: Stage) -> Stage | None:
        """The stage that follows, or None at the end."""
        return self.stages[stage.index + 1] if stage.index + 1 < len(self.stages) else None

    def is_past_pivot(self, step: StepRule) -> bool:
        """Whether the step comes after the pivot: no way back, and no limit of attempts."""
        return self.pivot_index is not None and step.index > self.pivot_index


def undoing(stage: str) -> str:
    """The state while a stage is undone."""
    return f"undoing_{stage}"


def _build_machine(stages: tuple[Stage, ...]) -> Machine:
    forward = [stage.state for stage in stages]
    backward = [undoing(stage.name) for stage in stages if stage.can_be_undone]
    ends = ["completed", "compensated", "abandoned"]
    living = [*forward, *backward]
    anywhere = [*living, *ends]
    table: list[dict[str, Any]] = [{"trigger": "open", "source": NEW, "dest": forward[0]}]
    for stage, following in zip(stages, [*forward[1:], "completed"], strict=True):
        table.append({"trigger": f"done:{stage.name}", "source": stage.state, "dest": following})
        table.append({"trigger": f"force:{stage.state}", "source": anywhere, "dest": stage.state})
        if stage.can_be_undone:
            table.append({"trigger": f"undo:{stage.name}", "source": living, "dest": undoing(stage.name)})
    table.append({"trigger": "force:completed", "source": anywhere, "dest": "completed"})
    table.append({"trigger": "compensated", "source": living, "dest": "compensated"})
    table.append({"trigger": "abandon", "source": anywhere, "dest": "abandoned"})
    return Machine(
        model=None,
        states=[NEW, *anywhere],
        transitions=table,
        initial=NEW,
        auto_transitions=False,
        send_event=True,
        queued=False,
    )


def _stages(document: Mapping[str, Any]) -> tuple[Stage, ...]:
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


def _fields(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)
