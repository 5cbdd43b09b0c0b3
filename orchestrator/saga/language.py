"""The language of definitions: its words, their kinds and their limits. What they do is `expand`'s and `rulebook`'s part.

The published JSON Schema and `docs/reference/definition.md` are made from these models: docstrings and descriptions are what authors read.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictBool, Tag, WithJsonSchema

from orchestrator.contract import is_name
from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.saga.expression import LENGTH_MAX, Expression, ExpressionError
from orchestrator.saga.labels import LABELS_MAX

#: The longest duration a definition may name: ten years.
DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_PART = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+")
_FIELD_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}")


def parse_duration(text: object) -> int:
    """Milliseconds of a duration such as `30s`, `1h30m` or `1500ms`. Raises: ValueError.

    >>> parse_duration("1m30s")
    90000
    """
    if not isinstance(text, str) or _DURATION.fullmatch(text) is None:
        raise ValueError("a duration is a number with a unit: 1500ms, 30s, 5m, 2h, 14d or 1h30m")
    total_ms = sum(int(number) * _UNIT_MS[unit] for number, unit in _DURATION_PART.findall(text))
    if not 1 <= total_ms <= DURATION_MS_MAX:
        raise ValueError("a duration lies between 1ms and ten years")
    return total_ms


def _require_name(text: str) -> str:
    if not is_name(text):
        raise ValueError("a name begins with a letter and has up to 64 letters, digits, _ or -")
    return text


def _require_field_name(text: str) -> str:
    if _FIELD_NAME.fullmatch(text) is None:
        raise ValueError("a field has 1 to 64 letters, digits, _ or -")
    return text


def _require_field(text: str) -> str:
    if _FIELD.fullmatch(text) is None:
        raise ValueError("a field is a name of the order's data, or STEP.FIELD for a step's reply")
    return text


def _require_different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a field stands here twice, and one label each is enough")
    return names


def _require_expression(text: str) -> str:
    try:
        Expression(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    return text


def text_schema(pattern: str) -> dict[str, Any]:
    """What the JSON Schema says of a text that a validator of ours reads."""
    return {"type": "string", "pattern": f"^{pattern}$"}


#: In the schema it has a digit other than 0; that a sum is at most ten years, no schema can say.
Duration = Annotated[int, BeforeValidator(parse_duration), WithJsonSchema(text_schema(f"(?=.*[1-9])({_DURATION_PART.pattern})+"))]
Name = Annotated[str, Field(strict=True), AfterValidator(_require_name), WithJsonSchema(text_schema(NAME_PATTERN))]
FieldName = Annotated[str, Field(strict=True), AfterValidator(_require_field_name), WithJsonSchema(text_schema(_FIELD_NAME.pattern))]
FieldPath = Annotated[str, Field(strict=True), AfterValidator(_require_field), WithJsonSchema(text_schema(_FIELD.pattern))]
#: Whether it is an expression, no schema can say.
ExpressionText = Annotated[
    str, Field(strict=True), AfterValidator(_require_expression), WithJsonSchema({"type": "string", "maxLength": LENGTH_MAX})
]
Fields = Annotated[list[FieldPath], Field(max_length=64)]
Computed = Annotated[dict[FieldName, ExpressionText], Field(min_length=1, max_length=64)]
#: What a command carries: fields as they are, or each computed.
With = Annotated[
    Annotated[Fields, Tag("(fields)")] | Annotated[Computed, Tag("(computed)")],
    Discriminator(lambda value: "(computed)" if isinstance(value, dict) else "(fields)"),
]
_NameList = Annotated[list[Name], Field(max_length=32)]
Names = Annotated[
    list[Name],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=Name | _NameList),
    Field(max_length=32),
]
#: Fields of the order's data, each once.
Labels = Annotated[
    list[FieldName], Field(max_length=LABELS_MAX, json_schema_extra={"uniqueItems": True}), AfterValidator(_require_different)
]


def either(one: str, one_is: str, other: str, other_is: str, **beside: Any) -> ConfigDict:
    """What the JSON Schema says of a model that has one of two words, each with its type of JSON. `beside`: what holds of others then."""
    return ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [one], "properties": {one: {"type": one_is}, other: {"type": "null"}, **beside}},
                {"required": [other], "properties": {one: {"type": "null"}, other: {"type": other_is}}},
            ]
        }
    )


class Model(BaseModel):
    """What all parts of a document have in common: no word is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Retry(Model):
    """When it is asked again.

    Attempt k + 1 follows the silence of attempt k after min(`max`, `first` × `factor`^(k-1)), of which jitter takes away half at most. All
    attempts carry the same command id and body. After the last attempt the step is *unknown*, not failed, and is undone like one that is
    done. The pivot, the steps after it, and undos go on without limit.
    """

    attempts: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        default=None, description="All sendings counted. Default before the pivot: 3. Elsewhere refused: without limit."
    )
    first: Duration | None = Field(default=None, description="The first backoff. Default before the pivot: 1s. Elsewhere: 5s.")
    factor: Annotated[float, Field(strict=True, ge=1, le=10)] | None = Field(
        default=None, description="How a backoff grows to the next. Default: 2."
    )
    max: Duration | None = Field(default=None, description="The longest backoff. Default before the pivot: 60s. Elsewhere: 5m.")
    stuck_after: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = Field(
        default=None,
        description="Sendings, after which the order is `stuck` and a human is called; it is asked on. Before the pivot refused: "
        "`attempts` ends it. Default elsewhere: 5.",
    )


class Undo(Model):
    """How a step is undone.

    An undo names the command it undoes, and is asked without limit until it is confirmed. A participant never refuses it.
    """

    command: Name = Field(description="What the participant is asked.")
    with_: With | None = Field(
        default=None,
        alias="with",
        description="As of a step; it may name any step, and is `null` where no reply came. Default: all of the order's data.",
    )
    done_on: Name = Field(description="The event that confirms it.")
    deadline: Duration = Field(description="Silence after that: asked again.")
    retry: Retry = Field(default=Retry(), description="When it is asked again.")


class Asking(Model):
    """What is asked of one participant, and how it is waited for."""

    ask: Name = Field(description="The participant that is asked.")
    command: Name = Field(description="What it is asked.")
    with_: With | None = Field(
        default=None,
        alias="with",
        description="What the command carries: fields, or `STEP.FIELD` of an earlier step's reply; or a map of each field to an "
        "expression. Default: all of the order's data.",
    )
    done_on: Name = Field(description="The event that says it is done.")
    done_when: ExpressionText | None = Field(
        default=None,
        description="What must hold of that event; else the answer is refused, and it is waited on. The event's data is `event`.",
    )
    set_: Computed | None = Field(
        default=None, alias="set", description="Fields of the order's data that change when it is done, each computed by an expression."
    )
    refused_on: Names = Field(default=[], description="Events that say it will not be done.")
    deadline: Duration = Field(description="Silence after that is an input.")
    retry: Retry = Field(default=Retry(), description="When it is asked again.")
    patience: Duration | None = Field(
        default=None, description="For all of its attempts; then it is given up as silent. Default: as long as its attempts take."
    )
    undo: Undo | None = Field(default=None, description="How it is undone. Every step before the pivot has one, or is `harmless`.")
    pivot: StrictBool = Field(default=False, description="The point of no return; at most one on each way.")
    harmless: StrictBool = Field(default=False, description="It may be left standing, so it needs no undo.")


class _Named(Model):
    step: Name = Field(description="Its name; the reply's data is kept under it.")


class Branch(Asking, _Named):
    """One thing asked of one participant, beside others: they share the state of their block."""

    send: Literal["at_once", "on_silence"] = Field(
        default="at_once",
        description="`on_silence`: it is *watched*. Its participant acts on somebody else's event; Escrow waits for `done_on`, and asks by "
        "command when the first deadline passes. It has an undo, and stands where every order comes to it just once.",
    )


class Step(Branch):
    """One thing asked of one participant, by itself.

    Every step before the pivot has an `undo`, or is `harmless`. Steps after it need none. A step without a reply (skipped by an operator)
    gives `null` for `STEP.FIELD`.
    """

    state: Name | None = Field(default=None, description="The order's state while it waits for the step. Default: the step's name.")


class Parallel(Model):
    """Steps that are asked side by side; the order goes on when all of them are done.

    Each has its own deadline, retry and undo. A refusal or the silence of one undoes the others, those still unknown too, side by side. A
    block holds no pivot; before the pivot the longest of its steps counts for `patience`.
    """

    parallel: Name = Field(description="The block's name: while it is undone the state is `undoing_<name>`.")
    state: Name | None = Field(
        default=None, description="The order's state while it waits for any of its steps. Default: the block's name."
    )
    steps: Annotated[list[Branch], Field(min_length=2, max_length=16)] = Field(description="Its steps, without `state`.")


class Case(Model):
    """One of several ways: taken when its expression is the first that holds."""

    when: ExpressionText = Field(description="What must hold.")
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)] = Field(description="What is done then, in that order.")


class Choose(Model):
    """One of several ways, by the order's data and what steps answered.

    It takes the first of its cases that holds, else the steps of `otherwise`; all ways meet again after it. A pivot
    stands on each of its ways or on none; a step after it may use the reply only of steps that are on every way.
    """

    choose: Name = Field(description="The choice's name.")
    cases: Annotated[list[Case], Field(min_length=1, max_length=16)] = Field(description="The ways, in the order they are tried.")
    otherwise: Annotated[list[Item], Field(max_length=100)] = Field(default=[], description="What is done when no case holds.")


class Repeat(Model):
    """Steps that are asked again, turn after turn, until an expression holds.

    The expression is asked after each turn. Each turn is an asking of its own, and is undone for itself. A loop holds no pivot, and every
    turn counts for `patience`.
    """

    repeat: Name = Field(description="The loop's name.")
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)] = Field(
        description="One turn; at least one step that every turn comes to."
    )
    until: ExpressionText = Field(description="The loop ends when it holds.")
    at_most: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(description="Turns.")
    then: Literal["undo", "go_on"] = Field(
        default="undo",
        description="After the last turn in vain: undo the order (cause `turns`), or go on. After the pivot only `go_on`.",
    )


_FIRST_WORDS: Final = {"parallel": Parallel, "choose": Choose, "repeat": Repeat}


def _kind(item: object) -> str:
    """Which item of `steps` is meant: told by its first word."""
    for word, model in _FIRST_WORDS.items():
        if isinstance(item, model) or (isinstance(item, dict) and word in item):
            return f"({word})"
    return "(step)"


Item = Annotated[
    Annotated[Step, Tag("(step)")]
    | Annotated[Parallel, Tag("(parallel)")]
    | Annotated[Choose, Tag("(choose)")]
    | Annotated[Repeat, Tag("(repeat)")],
    Discriminator(_kind),
]

Case.model_rebuild()
Choose.model_rebuild()
Repeat.model_rebuild()
