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

    index: int
    name: str
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
        self.steps = tuple(_step_rule(index, step) for index, step in enumerate(document["steps"]))
        self.by_name = {step.name: step for step in self.steps}
        self.by_state = {step.state: step for step in self.steps}
        self.pivot_index = next((step.index for step in self.steps if step.pivot), None)
        self.answers = frozenset(
            {step.done_on for step in self.steps}
            | {name for step in self.steps for name in step.refused_on}
            | {step.undo.done_on for step in self.steps if step.undo}
            | {COMMAND_TOO_LATE}
        )
        self.event_types = self.answers | self.abort_on | {self.opens_on}
        self.participants = frozenset(step.participant for step in self.steps)
        self.machine = _build_machine(self.steps)
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

    def after(self, step: StepRule) -> StepRule | None:
        """The step that follows, or None at the end."""
        return self.steps[step.index + 1] if step.index + 1 < len(self.steps) else None

    def is_past_pivot(self, step: StepRule) -> bool:
        """Whether the step comes after the pivot: no way back, and no limit of attempts."""
        return self.pivot_index is not None and step.index > self.pivot_index


def undoing(step: str) -> str:
    """The state while a step is undone."""
    return f"undoing_{step}"


def _build_machine(steps: tuple[StepRule, ...]) -> Machine:
    forward = [step.state for step in steps]
    backward = [undoing(step.name) for step in steps if step.undo]
    ends = ["completed", "compensated", "abandoned"]
    living = [*forward, *backward]
    anywhere = [*living, *ends]
    table: list[dict[str, Any]] = [{"trigger": "open", "source": NEW, "dest": forward[0]}]
    for step, following in zip(steps, [*forward[1:], "completed"], strict=True):
        table.append({"trigger": f"done:{step.name}", "source": step.state, "dest": following})
        table.append({"trigger": f"force:{step.state}", "source": anywhere, "dest": step.state})
        if step.undo:
            table.append({"trigger": f"undo:{step.name}", "source": living, "dest": undoing(step.name)})
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


def _step_rule(index: int, step: Mapping[str, Any]) -> StepRule:
    undo = step["undo"]
    return StepRule(
        index=index,
        name=step["step"],
        state=step["state"],
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
