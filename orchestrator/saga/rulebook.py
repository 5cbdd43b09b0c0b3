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
from orchestrator.saga.compile import event_types_of, events_of, stages_of
from orchestrator.saga.policies import Cell, Policy, policies_of
from orchestrator.saga.reach import reached
from orchestrator.saga.rules import Ending, Stage, StepRule
from orchestrator.saga.way import Place, Way, exits

# The library logs about eight lines an event at INFO; a move costs 13 µs without them.
logging.getLogger("transitions").setLevel(logging.WARNING)

#: Before an order is opened. No stored order is ever in it.
NEW = "new"


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
        self.policies = policies_of(document)
        self.stages = stages_of(document)
        self.way = Way(document, self.stages)
        #: Whether it is a line of steps; else it is one of states.
        self.is_line = bool(document["way"])
        self.steps = tuple(step for stage in self.stages for step in stage.steps)
        #: Steps, and events from outside that can be undone.
        self.by_name = {step.name: step for stage in self.stages for step in (*stage.steps, *stage.facts)}
        self.by_stage = {stage.name: stage for stage in self.stages}
        self.by_state = {stage.state: stage for stage in self.stages if stage.ending is None}
        #: Every end but `compensated` and `abandoned`, and how an order ends in it.
        self.endings: Mapping[str, Ending] = {stage.state: stage.ending for stage in self.stages if stage.ending is not None}
        #: Where a whole order ends.
        self.completed_states = [state for state, ending in self.endings.items() if ending.outcome == "completed"] or ["completed"]
        self.events = events_of(document, self.stages)
        self.watched = tuple(step for step in self.steps if step.watched)
        #: Answers of watched steps, which need no commandid.
        self.watched_answers = {name: step for step in self.watched for name in (step.done_on, *step.refused_on)}
        following = {stage.index: [after.index for after in self.following(stage)] for stage in self.stages}
        #: By index of a stage: those that an order in it can still come to; itself, where it can come again.
        self.ahead = {index: reached(following, after) for index, after in following.items()}
        self.pivots = tuple(stage for stage in self.stages if stage.pivot)
        answered = [after for pivot in self.pivots for after, _ in exits(self.way.after(pivot)) if after is not None]
        self._past_pivot = frozenset(index for after in answered for index in (after.index, *self.ahead[after.index]))
        #: By state: the events from outside that are still to come to it, without its own.
        self._to_come = {
            stage.state: frozenset(name for index in self.ahead[stage.index] for name in self.stages[index].awaits) - stage.awaits
            for stage in self.stages
        }
        self.answers = frozenset(
            {step.done_on for step in self.steps}
            | {name for step in self.steps for name in step.refused_on}
            | {step.undo.done_on for step in self.by_name.values() if step.undo}
            | {COMMAND_TOO_LATE}
        )
        self.event_types = event_types_of(document) | {COMMAND_TOO_LATE}
        self.participants = frozenset(step.participant for step in self.by_name.values()) | {
            notice.participant for stage in self.stages for notice in stage.notices
        }
        self.machine = _build_machine(self)
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
        return step.index in self._past_pivot

    def is_stage_past_pivot(self, stage: Stage) -> bool:
        """The same of all its steps, and of a state without any."""
        return stage.index in self._past_pivot

    def following(self, stage: Stage) -> list[Stage]:
        """The stages that can come next, but for an end without a state."""
        by_way = [after for after, _ in exits(self.way.after(stage)) if after is not None]
        return list({after.index: after for after in (*by_way, *(self.by_stage[name] for name in said_by(stage)))}.values())

    def comes_again(self, step: StepRule, target: int) -> bool:
        """Whether an order that is forced to a stage asks a step, or awaits an event from outside, there or later.

        The stage by index; the number of stages stands for the end.
        """
        if self.is_line or target >= len(self.stages):
            return step.index >= target
        coming = {target, *self.ahead[target]}
        if step.name in self.events:
            return any(step.name in self.stages[index].awaits for index in coming)
        return step.index in coming

    def is_to_come(self, state: str, event: str) -> bool:
        """Whether an order in this state can still come to one that awaits this event from outside."""
        return event in self._to_come.get(state, ())

    def policy(self, state: str, event: str, cell: Cell) -> Policy | None:
        """What the definition says of an event in a state; None: what R1 does."""
        return self.policies.get((event, state, cell)) or self.policies.get((event, None, cell))


def undoing(stage: str) -> str:
    """The state while a stage is undone."""
    return f"undoing_{stage}"


def said_by(stage: Stage) -> list[str]:
    """The states that a state itself leads to, but for the one that follows when all is done."""
    names = [case.then for cases in stage.events.values() for case in cases if case.then is not None]
    names += [stage.on_refused] if stage.on_refused is not None else []
    names += [stage.deadline.then] if stage.deadline is not None else []
    return list(dict.fromkeys(names))


def _build_machine(rulebook: Rulebook) -> Machine:
    stages = [stage for stage in rulebook.stages if stage.ending is None]
    backward = [undoing(stage.name) for stage in stages if stage.can_be_undone]
    living = [*(stage.state for stage in stages), *backward]
    ends = [*rulebook.endings] if rulebook.endings else ["completed"]
    anywhere = [*living, *ends, "compensated", "abandoned"]
    table: list[dict[str, Any]] = [_to(NEW, dest) for dest in _destinations(rulebook.way.first)]
    for stage in stages:
        table += [_to(stage.state, dest) for dest in dict.fromkeys([*_next(rulebook, stage), *said_by(stage)])]
        table.append({"trigger": f"force:{stage.state}", "source": anywhere, "dest": stage.state})
        if stage.can_be_undone:
            table.append({"trigger": f"undo:{stage.name}", "source": living, "dest": undoing(stage.name)})
    for state in rulebook.completed_states:
        table.append({"trigger": f"force:{state}", "source": anywhere, "dest": state})
    for state, ending in rulebook.endings.items():
        if ending.outcome == "failed":
            table.append({"trigger": f"undone:{state}", "source": living, "dest": state})
    table.append({"trigger": "undone:compensated", "source": living, "dest": "compensated"})
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


def _next(rulebook: Rulebook, stage: Stage) -> list[str]:
    """The states that can follow when all of a stage is done; none for a state that is left by its events or its deadline alone."""
    following = rulebook.way.after(stage)
    return _destinations(following) if rulebook.is_line or following is not None else []


def _destinations(place: Place) -> list[str]:
    """The states that can come next."""
    return list(dict.fromkeys("completed" if stage is None else stage.state for stage, _ in exits(place)))


def _to(source: str, dest: str) -> dict[str, Any]:
    return {"trigger": f"to:{dest}", "source": source, "dest": dest}
