"""Scenario files: given an order, when this happens, then that is so. YAML, one a file; the keys are in `docs/reference/scenarios.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError, model_validator

from orchestrator.contract import canonical, is_order_id
from orchestrator.errors import DefinitionError, Finding, MalformedMessage, RequestError
from orchestrator.files import read_text
from orchestrator.saga.decision import Verdict
from orchestrator.saga.definition import Definition
from orchestrator.saga.inputs import ActName
from orchestrator.saga.language import parse_duration
from orchestrator.saga.order import Status
from orchestrator.saga.source import explain, parse
from orchestrator.testing.expect import COMMAND_KEYS, deadlines_map
from orchestrator.testing.load import load


def _one_of(*names: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"it must be one of {', '.join(names)}")
        return text

    return AfterValidator(check)


def _named(key: str) -> BeforeValidator:
    """A text alone says what `key` says in the long form."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _require_deadlines(value: Any) -> Any:
    deadlines_map(value)
    return value


def _require_commands(value: Any) -> Any:
    for one in value if isinstance(value, list) else [None]:
        if not isinstance(one, str) and not (isinstance(one, dict) and one and set(one) <= set(COMMAND_KEYS)):
            raise ValueError(f"commands are a list of names, or of maps with {', '.join(COMMAND_KEYS)}")
    return value


def _require_order_id(text: str) -> str:
    if not is_order_id(text):
        raise ValueError("an order id has 1 to 128 of the characters A-Z a-z 0-9 . _ : ~ -")
    return text


def _require_duration(text: str) -> str:
    parse_duration(text)
    return text


Text = Annotated[str, Field(strict=True)]
Data = dict[str, Any]
Duration = Annotated[str, BeforeValidator(_require_duration)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expect(_Model):
    """What is so after an item, or at the end; what is not given is not compared."""

    verdict: Annotated[Text, _one_of(*get_args(Verdict))] = ""
    state: Text = ""
    status: Annotated[Text, _one_of(*get_args(Status))] = ""
    cause: Text | None = None
    reason: Text = ""
    commands: Annotated[Any, AfterValidator(_require_commands)] = None
    announcements: list[Text] = []
    deadlines: Annotated[Any, AfterValidator(_require_deadlines)] = None
    data: Data = {}

    def given(self) -> dict[str, Any]:
        """Only what was written."""
        return self.model_dump(exclude_unset=True)


class Given(_Model):
    """How the order opens."""

    order_id: Annotated[Text, AfterValidator(_require_order_id)]
    data: Data = {}
    expect: Expect = Expect()


class Answer(_Model):
    """What a participant says about a step."""

    step: Text
    data: Data = {}


class Refusal(Answer):
    """A participant's refusal."""

    event: Text | None = None


class Event(_Model):
    """Any event."""

    type: Text
    data: Data = {}
    source: Text | None = None
    command_id: Text | None = None
    id: Text | None = None


class Silence(_Model):
    """A deadline that passes."""

    deadline: Text
    excused: StrictBool = False


class Act(_Model):
    """What an operator does; the keys from `to` on are the act's arguments."""

    act: Annotated[Text, _one_of(*get_args(ActName))]
    actor: Text = "operator"
    reason: Text = "test"
    admin: StrictBool = False
    seq: Annotated[int, Field(strict=True, ge=1)] | None = None
    to: Text | None = None
    step: Text | None = None
    name: Text | None = None
    until: Duration | None = None
    due_at: Duration | None = None

    def arguments(self) -> dict[str, Any]:
        """Only what was written."""
        return self.model_dump(exclude_unset=True, exclude={"act", "actor", "reason", "admin", "seq"})


#: What an item of `when` may be.
KINDS: Final = ("reply", "refusal", "undone", "event", "silence", "advance", "act", "duplicate", "sent_late")


class Item(_Model):
    """One thing that happens, and what is expected of it."""

    reply: Annotated[Answer, _named("step")] | None = None
    refusal: Annotated[Refusal, _named("step")] | None = None
    undone: Annotated[Answer, _named("step")] | None = None
    event: Annotated[Event, _named("type")] | None = None
    silence: Annotated[Silence, _named("deadline")] | None = None
    advance: Duration | None = None
    act: Annotated[Act, _named("act")] | None = None
    duplicate: Annotated[int, Field(strict=True, ge=0)] | None = None
    sent_late: Text | None = None
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _is_one_thing(self) -> Item:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"an item says one of {', '.join(KINDS)}")
        return self


class Document(_Model):
    """A whole scenario."""

    scenario: Text | None = None
    definition: Text
    given: Given
    when: Annotated[list[Item], Field(max_length=10_000)] = []
    then: Expect = Expect()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario as it was read."""

    file: str
    title: str
    definition: Definition
    document: Document
    #: Line of each path.
    lines: Mapping[str, int]


def read_scenario(file: Path) -> Scenario | None:
    """Read a scenario and the definition that it names. None: the file is a definition.

    Raises: DefinitionError with every finding about either; RequestError when one cannot be read.
    """
    raw, lines = parse(read_text(file), str(file))
    if "opens_on" in raw:
        return None
    try:
        canonical.check(raw)
        document = Document.model_validate(raw)
        definition = load(document.definition, file.parent)
    except ValidationError as error:
        raise DefinitionError([explain(item, str(file), lines) for item in error.errors()]) from None
    except MalformedMessage as error:
        raise _wrong(file, 1, "", f"The scenario holds what JSON cannot: {error}", "Use texts, numbers, lists and maps.") from None
    except RequestError as error:
        raise _wrong(file, lines.get("definition", 1), "definition", str(error), "Name a file beside this one, or a shipped one.") from None
    return Scenario(file=str(file), title=document.scenario or file.stem, definition=definition, document=document, lines=lines)


def scenario_files(place: Path) -> list[Path]:
    """The YAML files of a directory and those below it, by name; a file stands for itself."""
    if place.is_dir():
        return sorted(file for file in place.rglob("*") if file.suffix in {".yaml", ".yml"} and file.is_file())
    return [place]


def _wrong(file: Path, line: int, path: str, message: str, fix: str) -> DefinitionError:
    return DefinitionError([Finding(file=str(file), line=line, path=path, message=message, fix=fix)])
