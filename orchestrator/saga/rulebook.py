"""A definition compiled: everything `decide` may look up, and the one `transitions.Machine` that makes every move (R3).

The machine is shared by all orders of the definition and bound to none of them: a throw-away cursor is stepped, and only its state is
read. No callbacks, no queue, no auto transitions; so it may be used from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from transitions import Machine, MachineError

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.saga.rules import Stage, StepRule, stages_of
from orchestrator.saga.way import Place, Way, exits

# The library logs about eight lines an event at INFO; a move costs 13 µs without them.
logging.getLogger("transitions").setLevel(logging.WARNING)

#: Before an order is opened. No stored order is ever in it.
NEW = "new"
_ENDS = ("completed", "compensated", "abandoned")


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
        #: Fields of the data that orders are found by.
        self.labels: tuple[str, ...] = tuple(document["labels"])
        self.announce: Mapping[str, str] = document["announce"]
        self.stages = stages_of(document)
        self.way = Way(document, self.stages)
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
        self.machine = _build_machine(self.stages, self.way)
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

    def is_past_pivot(self, step: StepRule) -> bool:
        """Whether the step comes after the pivot: no way back, and no limit of attempts."""
        return self.pivot_index is not None and step.index > self.pivot_index


def undoing(stage: str) -> str:
    """The state while a stage is undone."""
    return f"undoing_{stage}"


def _build_machine(stages: tuple[Stage, ...], way: Way) -> Machine:
    backward = [undoing(stage.name) for stage in stages if stage.can_be_undone]
    living = [*(stage.state for stage in stages), *backward]
    anywhere = [*living, *_ENDS]
    table: list[dict[str, Any]] = [_to(NEW, dest) for dest in _destinations(way.first)]
    for stage in stages:
        table += [_to(stage.state, dest) for dest in _destinations(way.after(stage))]
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


def _destinations(place: Place) -> list[str]:
    """The states that can come next."""
    return list(dict.fromkeys("completed" if stage is None else stage.state for stage, _ in exits(place)))


def _to(source: str, dest: str) -> dict[str, Any]:
    return {"trigger": f"to:{dest}", "source": source, "dest": dest}
