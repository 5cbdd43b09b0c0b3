"""The rules of steps, as `decide` looks them up: how each is asked, waited for, and undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.saga.expression import Expression
from orchestrator.saga.retry import RetryRule, worst_case_ms

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
    """One step of the saga; or an event from outside that can be undone, which is known under its type and never asked."""

    #: Of its stage.
    index: int
    name: str
    #: The order's state while it waits for this step.
    state: str
    participant: str
    command: str
    fields: Fields
    done_on: str
    #: What must hold of a success, else it is refused.
    done_when: Expression | None
    #: What a success changes of the order's data.
    set: Mapping[str, Expression]
    refused_on: frozenset[str]
    deadline_ms: int
    retry: RetryRule
    #: For all of its attempts; None: as long as they take.
    patience_ms: int | None
    #: Others bring it about, and it is asked only when they stay silent.
    watched: bool
    pivot: bool
    harmless: bool
    undo: UndoRule | None

    @property
    def worst_case_ms(self) -> int:
        """The longest time until a limited ask is `unknown`."""
        asked_ms = worst_case_ms(self.retry, self.deadline_ms)
        whole_ms = asked_ms + self.deadline_ms if self.watched else asked_ms
        return whole_ms if self.patience_ms is None else min(whole_ms, self.patience_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCase:
    """What an event from outside does in a state, when a guard holds."""

    when: Expression | None
    set: Mapping[str, Expression]
    #: The state that it leads to; None: the order stays where it is.
    then: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """An event from outside, wherever it is awaited."""

    type: str
    #: Who publishes it; None: anyone.
    source: str | None
    #: The field of its data that tells the younger of two; None: each counts as it comes.
    order_by: str | None
    #: How what it stands for is undone; None: it need not be.
    undone_as: StepRule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A command without an answer: told once at the entry to a state, or time and again while it lasts."""

    #: What its rounds are counted under.
    name: str
    participant: str
    command: str
    fields: Fields
    #: None: at the entry.
    every_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDeadline:
    """How long an order stays in a state at most, and where it goes then."""

    #: One of the two: so long after the entry, or at the time (RFC 3339) that an expression says.
    after_ms: int | None
    at: Expression | None
    then: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A state that is an end."""

    outcome: Literal["completed", "failed"]
    #: Steps that are undone before it is taken.
    undone: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A place on the way forward: its steps are asked side by side, and it is left when all of them are done. Mostly it has one.

    In the state form it is a state: what comes from outside may move it on, too, or its own deadline.
    """

    #: Place on the way, from 0.
    index: int
    #: The step's name, or the block's, or the state's.
    name: str
    state: str
    steps: tuple[StepRule, ...]
    #: By event type, what is tried in turn.
    events: Mapping[str, tuple[EventCase, ...]]
    #: Events that must all come, each once.
    all_of: frozenset[str]
    notices: tuple[Notice, ...]
    deadline: StateDeadline | None
    #: The state that a refusal leads to; None: everything is undone.
    on_refused: str | None
    #: Entries in one order; None: without limit.
    at_most: int | None
    ending: Ending | None
    #: Its events that can be undone.
    facts: tuple[StepRule, ...]

    @property
    def pivot(self) -> bool:
        """Whether its step is the point of no return."""
        return any(step.pivot for step in self.steps)

    @property
    def can_be_undone(self) -> bool:
        """Whether anything that happens in it has an undo."""
        return any(step.undo is not None for step in (*self.steps, *self.facts))

    @property
    def awaits(self) -> frozenset[str]:
        """Types of the events from outside that it takes."""
        return frozenset(self.events) | self.all_of

    @property
    def longest_ms(self) -> int | None:
        """The longest stay in it, before the pivot; None: nothing of its own ends it."""
        if self.steps:
            return max(step.worst_case_ms for step in self.steps)
        return self.deadline.after_ms if self.deadline is not None else None
