"""The document a user writes: read, validated, and expanded with every default written out.

Errors name file, line, path and the fix. What the shape cannot say (reachability, patience, pivots) is `check`'s part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from orchestrator.contract import canonical, is_name
from orchestrator.errors import DefinitionError, Finding, MalformedMessage

#: Bytes of a definition file.
FILE_BYTES_MAX: Final = 262_144
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


Duration = Annotated[int, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(strict=True), AfterValidator(_require_name)]
FieldPath = Annotated[str, Field(strict=True), AfterValidator(_require_field)]
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
    with_: Annotated[list[FieldPath], Field(max_length=64)] | None = Field(default=None, alias="with")
    done_on: Name
    deadline: Duration
    retry: Retry = Retry()


class Step(_Model):
    """One thing asked of one participant."""

    step: Name
    state: Name | None = None
    ask: Name
    command: Name
    with_: Annotated[list[FieldPath], Field(max_length=64)] | None = Field(default=None, alias="with")
    done_on: Name
    refused_on: Names = []
    deadline: Duration
    retry: Retry = Retry()
    undo: Undo | None = None
    pivot: StrictBool = False
    harmless: StrictBool = False


class Document(_Model):
    """A whole definition in the steps form."""

    definition: Name
    version: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    opens_on: Name
    key: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    patience: Duration
    abort_on: Names = []
    steps: Annotated[list[Step], Field(min_length=1, max_length=100)]
    announce: dict[str, Name] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition as it was read."""

    name: str
    version: int
    #: The document as written: JSON values.
    raw: Mapping[str, Any]
    #: The document with all defaults written out and durations in ms: what orders run on (R30).
    expanded: Mapping[str, Any]
    #: sha256 of the canonical raw document, hexadecimal.
    fingerprint: str
    file: str
    #: Line of each path, for findings.
    lines: Mapping[str, int]

    def finding(self, path: str, message: str, fix: str) -> Finding:
        """A finding at a path of this document, or at the nearest parent that has a line."""
        return Finding(file=self.file, line=_line(self.lines, path), path=path, message=message, fix=fix)


def read(text: str, file: str) -> Definition:
    """Read a definition. Raises: DefinitionError with every finding about its shape."""
    if len(text) > FILE_BYTES_MAX:
        raise _one(file, 1, f"The file has {len(text)} characters.", f"Keep a definition under {FILE_BYTES_MAX}.")
    raw, lines = _parse(text, file)
    try:
        canonical.check(raw)
        document = Document.model_validate(raw)
    except ValidationError as error:
        raise DefinitionError([_explain(item, file, lines) for item in error.errors()]) from None
    except MalformedMessage as error:
        raise _one(file, 1, f"The document holds what JSON cannot: {error}", "Use texts, numbers, lists and maps.") from None
    return Definition(
        name=document.definition,
        version=document.version,
        raw=raw,
        expanded=expand(document),
        fingerprint=hashlib.sha256(canonical.encode(raw)).hexdigest(),
        file=file,
        lines=lines,
    )


def expand(document: Document) -> dict[str, Any]:
    """All defaults written out: a later default changes nothing registered (R30)."""
    pivots = [index for index, step in enumerate(document.steps) if step.pivot]
    first_unlimited = pivots[0] if pivots else len(document.steps)
    return {
        "definition": document.definition,
        "version": document.version,
        "opens_on": document.opens_on,
        "key": document.key,
        "patience_ms": document.patience,
        "abort_on": document.abort_on,
        "steps": [_expand_step(step, unlimited=index >= first_unlimited) for index, step in enumerate(document.steps)],
        "announce": document.announce,
    }


def _expand_step(step: Step, *, unlimited: bool) -> dict[str, Any]:
    undo = step.undo
    return {
        "step": step.step,
        "state": step.state or step.step,
        "participant": step.ask,
        "command": step.command,
        "with": step.with_,
        "done_on": step.done_on,
        "refused_on": step.refused_on,
        "deadline_ms": step.deadline,
        "retry": _expand_retry(step.retry, unlimited=unlimited),
        "pivot": step.pivot,
        "harmless": step.harmless,
        "undo": undo
        and {
            "command": undo.command,
            "with": undo.with_,
            "done_on": undo.done_on,
            "deadline_ms": undo.deadline,
            "retry": _expand_retry(undo.retry, unlimited=True),
        },
    }


def _expand_retry(retry: Retry, *, unlimited: bool) -> dict[str, Any]:
    """Defaults by place: attempts are counted before the pivot; the pivot, what follows it, and undos go on without limit."""
    return {
        "attempts": retry.attempts if retry.attempts or unlimited else 3,
        "first_ms": retry.first or (5_000 if unlimited else 1_000),
        "factor": retry.factor or 2.0,
        "max_ms": retry.max or (300_000 if unlimited else 60_000),
        "stuck_after": retry.stuck_after or (5 if unlimited else None),
    }


class _Loader(yaml.SafeLoader):
    """YAML without anchors (bombs), without dates (they are not JSON), and without a key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not taken", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str, file: str) -> tuple[dict[str, Any], dict[str, int]]:
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise _one(file, 1, "The document is not a map.", "Begin with `definition: NAME`.")
            _note_lines(node, "", lines, file, depth_left=canonical.DEPTH_MAX)
            raw = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _one(file, line, f"Not readable as YAML: {error.problem}.", "Correct the YAML at this line.") from None
    except (yaml.YAMLError, RecursionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A tag that does not fit its value (`!!bool maybe`) makes the library raise almost anything.
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _one(file, 1, f"Not readable as YAML: {message}.", "Correct the YAML.") from None
    return raw, lines


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int], file: str, *, depth_left: int) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if depth_left == 0:
        raise _one(file, node.start_mark.line + 1, "Nested too deep.", "Flatten the document.")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                raise _one(file, line, f"`{name}` stands here twice.", "Keep one of them.")
            lines[name] = line
            _note_lines(value, name, lines, file, depth_left=depth_left - 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{path}[{index}]", lines, file, depth_left=depth_left - 1)


def _explain(item: Any, file: str, lines: Mapping[str, int]) -> Finding:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).removeprefix(".")
    last = str(item["loc"][-1]) if item["loc"] else ""
    fixes = {
        "missing": f"Add `{last}:`.",
        "extra_forbidden": f"Remove `{last}`, or correct its spelling.",
    }
    messages = {"missing": f"`{last}` is missing", "extra_forbidden": f"`{last}` is not a field here"}
    message = messages.get(item["type"], item["msg"].removeprefix("Value error, "))
    fix = fixes.get(item["type"], "Give a value of that kind.")
    return Finding(file=file, line=_line(lines, path), path=path, message=message + ".", fix=fix)


def _line(lines: Mapping[str, int], path: str) -> int:
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 1)


def _one(file: str, line: int, message: str, fix: str) -> DefinitionError:
    return DefinitionError([Finding(file=file, line=line, path="", message=message, fix=fix)])
