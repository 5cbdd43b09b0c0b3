"""The language of definitions: a whole document."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.saga.language import Duration, FieldName, Item, Labels, Model, Name, Names, either, text_schema
from orchestrator.saga.state_language import State

#: Tags of the kinds of items, states, events and fields. Not words of the language, so they are left out of the paths of findings.
KINDS: Final = frozenset(
    {
        "(step)",
        "(parallel)",
        "(choose)",
        "(repeat)",
        "(fields)",
        "(computed)",
        "(asking)",
        "(waiting)",
        "(end)",
        "(state)",
        "(event)",
        "(word)",
        "(names)",
    }
)


class Policy(Model):
    """What is done with an event that comes at another time than it should. What it has done is undone in any case."""

    event: Name = Field(description="Its type.")
    in_: Names = Field(default=[], alias="in", description="States that it concerns. Default: all that no other row names.")
    early: Literal["park", "ignore", "quarantine"] | None = Field(
        default=None, description="Its state is still to come: kept until then (`park`, the default), let go, or shown to a human."
    )
    late: Literal["note", "quarantine"] | None = Field(
        default=None, description="Its time is over: journaled (`note`, the default), or shown to a human, too."
    )
    unexpected: Literal["ignore", "quarantine"] | None = Field(
        default=None, description="Nothing awaits it: journaled (`ignore`, the default), or shown to a human, too."
    )


class Document(Model):
    """A whole definition: what opens an order, and either its steps, in a line, or its states.

    How each is asked, waited for, asked again and undone.
    """

    model_config = either("steps", "array", "states", "object", begins_in={"type": "null"})

    definition: Name = Field(description="Its name.")
    version: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(description="Raised with every change.")
    opens_on: Name = Field(description="The event that opens an order.")
    key: FieldName = Field(description="The field of that event's data which is the order's id; it must equal the event's `subject`.")
    patience: Duration = Field(description="For everything until the pivot is asked; then the order is undone.")
    abort_on: Names = Field(default=[], description="Events that call the order off; once the pivot was asked they come too late.")
    labels: Labels = Field(default=[], description="Fields of the order's data by which orders can be found.")
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="In the order they are asked. This, or `states`."
    )
    states: Annotated[dict[Name, State], Field(min_length=2, max_length=100)] | None = Field(
        default=None, description="By name. This, or `steps`."
    )
    begins_in: Name | None = Field(default=None, description="The state that an order begins in. Default: the first of `states`.")
    policies: Annotated[list[Policy], Field(max_length=100)] = Field(
        default=[], description="What is done with events that come too early, too late or unexpectedly."
    )
    announce: dict[str, Name] = Field(
        default={},
        description="What to publish when an order ends: `completed`, `compensated`, `abandoned`, or the name of a state that is an end → "
        "message type.",
        json_schema_extra={"propertyNames": text_schema(NAME_PATTERN)},
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.steps is None) == (self.states is None):
            raise ValueError("a definition has either `steps` or `states`")
        if self.states is None and self.begins_in is not None:
            raise ValueError("`begins_in` names one of `states`, and there are none")
        return self
