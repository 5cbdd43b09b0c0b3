"""The document a user writes: read and validated.

Errors name file, line, path and the fix. What the shape cannot say (reachability, patience, pivots) is `check`'s part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import ValidationError

from orchestrator.contract import canonical
from orchestrator.errors import DefinitionError, Finding, MalformedMessage
from orchestrator.saga.expand import expand
from orchestrator.saga.language import KINDS, Document

#: Bytes of a definition file.
FILE_BYTES_MAX: Final = 262_144


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
    words = [part for part in item["loc"] if part not in KINDS]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in words).removeprefix(".")
    last = str(words[-1]) if words else ""
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
