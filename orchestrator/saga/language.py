"""The language of definitions: its words, their kinds and their limits. What they mean is `expand`'s and `rulebook`'s part."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictBool, Tag

from orchestrator.contract import is_name
from orchestrator.saga.expression import Expression, ExpressionError

#: The longest duration a definition may name: ten years.
DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_PART = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+")


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


def _require_field(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}", text):
        raise ValueError("a field is a name of the order's data, or STEP.FIELD for a step's reply")
    return text


def _require_expression(text: str) -> str:
    try:
        Expression(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    return text


Duration = Annotated[int, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(strict=True), AfterValidator(_require_name)]
FieldName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
FieldPath = Annotated[str, Field(strict=True), AfterValidator(_require_field)]
ExpressionText = Annotated[str, Field(strict=True), AfterValidator(_require_expression)]
Fields = Annotated[list[FieldPath], Field(max_length=64)]
Computed = Annotated[dict[FieldName, ExpressionText], Field(min_length=1, max_length=64)]
#: What a command carries: fields as they are, or each computed.
With = Annotated[
    Annotated[Fields, Tag("(fields)")] | Annotated[Computed, Tag("(computed)")],
    Discriminator(lambda value: "(computed)" if isinstance(value, dict) else "(fields)"),
]
Names = Annotated[list[Name], BeforeValidator(lambda value: [value] if isinstance(value, str) else value), Field(max_length=32)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retry(_Model):
    """When the next attempt is due; None means: the default of the place where it stands."""

    attempts: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    first: Duration | None = None
    factor: Annotated[float, Field(strict=True, ge=1, le=10)] | None = None
    max: Duration | None = None
    stuck_after: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None


class Undo(_Model):
    """How a step is undone."""

    command: Name
    with_: With | None = Field(default=None, alias="with")
    done_on: Name
    deadline: Duration
    retry: Retry = Retry()


class Branch(_Model):
    """One thing asked of one participant, beside others: they share the state of their block."""

    step: Name
    ask: Name
    command: Name
    with_: With | None = Field(default=None, alias="with")
    done_on: Name
    refused_on: Names = []
    deadline: Duration
    retry: Retry = Retry()
    undo: Undo | None = None
    pivot: StrictBool = False
    harmless: StrictBool = False


class Step(Branch):
    """One thing asked of one participant, by itself."""

    state: Name | None = None


class Parallel(_Model):
    """Steps that are asked side by side; the order goes on when all of them are done."""

    parallel: Name
    state: Name | None = None
    steps: Annotated[list[Branch], Field(min_length=2, max_length=16)]


class Case(_Model):
    """One of several ways: taken when its expression is the first that holds."""

    when: ExpressionText
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)]


class Choose(_Model):
    """One of several ways, by the order's data and what steps answered."""

    choose: Name
    cases: Annotated[list[Case], Field(min_length=1, max_length=16)]
    otherwise: Annotated[list[Item], Field(max_length=100)] = []


class Repeat(_Model):
    """Steps that are asked again, turn after turn, until an expression holds."""

    repeat: Name
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)]
    until: ExpressionText
    at_most: Annotated[int, Field(strict=True, ge=1, le=1000)]
    then: Literal["undo", "go_on"] = "undo"


_FIRST_WORDS: Final = {"parallel": Parallel, "choose": Choose, "repeat": Repeat}


def _kind(item: object) -> str:
    """Which item of `steps` is meant: told by its first word."""
    for word, model in _FIRST_WORDS.items():
        if isinstance(item, model) or (isinstance(item, dict) and word in item):
            return f"({word})"
    return "(step)"


#: Tags of the kinds of items and fields. Not words of the language, so they are left out of the paths of findings.
KINDS: Final = frozenset({"(step)", "(parallel)", "(choose)", "(repeat)", "(fields)", "(computed)"})

Item = Annotated[
    Annotated[Step, Tag("(step)")]
    | Annotated[Parallel, Tag("(parallel)")]
    | Annotated[Choose, Tag("(choose)")]
    | Annotated[Repeat, Tag("(repeat)")],
    Discriminator(_kind),
]


class Document(_Model):
    """A whole definition in the steps form."""

    definition: Name
    version: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    opens_on: Name
    key: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    patience: Duration
    abort_on: Names = []
    steps: Annotated[list[Item], Field(min_length=1, max_length=100)]
    announce: dict[str, Name] = {}


Case.model_rebuild()
Choose.model_rebuild()
Repeat.model_rebuild()
