"""The language of definitions, its state form: states, and the events from outside that they take."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from orchestrator.saga.language import Asking, Computed, Duration, ExpressionText, FieldName, Model, Name, Names, Undo, With, either


class Notice(Model):
    """A command without an answer, told time and again while an order is in a state."""

    every: Duration = Field(description="The time between two.")
    ask: Name = Field(description="The participant that is told.")
    command: Name = Field(description="What it is told; each time a round of its own, without deadline or undo.")
    with_: With | None = Field(default=None, alias="with", description="As of a step; what cannot be computed is `null`.")


class StateDeadline(Model):
    """How long an order stays in a state at most: `after` a time, or until the time `at` which an expression says."""

    model_config = either("after", "string", "at", "string")

    after: Duration | None = Field(default=None, description="So long after the entry.")
    at: ExpressionText | None = Field(
        default=None,
        description="At this time (text, RFC 3339), such as a field of the order's data; when that changes the deadline moves.",
    )
    then: Name = Field(description="The state that it leads to.")

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.after is None) == (self.at is None):
            raise ValueError("a deadline has either `after` or `at`")
        return self


class EventUndo(Undo):
    """How what an event from outside stands for is undone: by the event's own id, under which the participant's ledger has it."""

    ask: Name | None = Field(default=None, description="Who undoes it. Default: who published it (`from`).")


class EventCase(Model):
    """What an event does, when a guard holds."""

    when: ExpressionText | None = Field(default=None, description="What must hold; the event's data is `event`. Without it: always.")
    then: Name | None = Field(default=None, description="The state that it leads to. Default: the order stays where it is.")
    set_: Computed | None = Field(
        default=None, alias="set", description="Fields of the order's data that it changes, each computed by an expression."
    )


class Event(EventCase):
    """What an event from outside does in a state. When its guard does not hold it is refused, and what it stands for is undone."""

    from_: Name | None = Field(default=None, alias="from", description="Who publishes it; from others it is quarantined. Default: anyone.")
    order_by: FieldName | None = Field(
        default=None, description="The field of its data that grows from one to the next: one that is not above the last is late."
    )
    cases: Annotated[list[EventCase], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="Instead of `when`, `then` and `set`: the first case that holds. Only the last may do without `when`."
    )
    undo: EventUndo | None = Field(
        default=None, description="How what it stands for is undone. It is the same in every state that takes the event."
    )


Events = Annotated[
    dict[
        Name,
        Annotated[
            Annotated[Name, Tag("(state)")] | Annotated[Event, Tag("(event)")],
            Discriminator(lambda value: "(state)" if isinstance(value, str) else "(event)"),
        ],
    ],
    Field(max_length=32),
]
_NoticeList = Annotated[list[Notice], Field(max_length=8)]
Notices = Annotated[
    list[Notice],
    BeforeValidator(lambda value: [value] if isinstance(value, dict) else value, json_schema_input_type=Notice | _NoticeList),
    Field(max_length=8),
]


class AskingState(Asking):
    """A state in which something is asked of one participant.

    It is left when the answer comes, or by an event of `on`: what was asked may then be done, and is undone at once.
    """

    step: Name | None = Field(default=None, description="The name of what is asked. Default: the state's.")
    then: Name = Field(description="The state that a success leads to.")
    on_refused: Name | None = Field(default=None, description="The state that a refusal leads to. Default: everything is undone.")
    on: Events = Field(default={}, description="Events from outside that it takes, and what each does.")
    remind: Notices = Field(default=[], description="What is told while it lasts.")
    at_most: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        default=None,
        description="Entries in one order; with one more all is undone (cause `turns`). Needed where it can come again.",
    )


class WaitingState(Model):
    """A state that waits for events from outside."""

    on: Events = Field(default={}, description="Events that it takes: the state each leads to, or what each does.")
    all_of: Names = Field(default=[], description="Events that must all come, each once, in any order; then the state `then` follows.")
    any_of: Names = Field(default=[], description="Events of which the first leads to `then`.")
    then: Name | None = Field(default=None, description="The state that `all_of` or `any_of` leads to.")
    deadline: StateDeadline | None = Field(
        default=None, description="How long it lasts at most. Without one patience ends it, so it needs one after the pivot."
    )
    ask: Name | None = Field(default=None, description="A participant that is told something at the entry, without an answer.")
    command: Name | None = Field(default=None, description="What it is told then.")
    with_: With | None = Field(default=None, alias="with", description="As of a step; what cannot be computed is `null`.")
    remind: Notices = Field(default=[], description="What is told while it lasts.")
    at_most: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        default=None,
        description="Entries in one order; with one more all is undone (cause `turns`). Needed where it can come again.",
    )


_Undone = Annotated[
    Annotated[Literal["all", "none"], Tag("(word)")] | Annotated[list[Name], Field(min_length=1, max_length=200), Tag("(names)")],
    Discriminator(lambda value: "(word)" if isinstance(value, str) else "(names)"),
]


class EndState(Model):
    """An end. Beside these every definition has `compensated`, when everything was undone, and `abandoned`."""

    outcome: Literal["completed", "failed"] = Field(description="How the order ends.")
    undo: _Undone | None = Field(
        default=None,
        description="For `failed`: what is undone before it is taken: all, nothing, or these steps and events. What is not undone is "
        "listed in the history as left standing. Default: `all`.",
    )


def _kind_of_state(state: object) -> str:
    """Which kind of state is meant: an end has an outcome, and one that asks awaits an answer."""
    for word, tag, model in (("outcome", "(end)", EndState), ("done_on", "(asking)", AskingState)):
        if isinstance(state, model) or (isinstance(state, dict) and word in state):
            return tag
    return "(waiting)"


State = Annotated[
    Annotated[AskingState, Tag("(asking)")] | Annotated[WaitingState, Tag("(waiting)")] | Annotated[EndState, Tag("(end)")],
    Discriminator(_kind_of_state),
]
