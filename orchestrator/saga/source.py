"""YAML files as their authors wrote them: values, and the line of each, so that a finding can say where.

Used for definitions and scenarios. Bounded: no anchors, no dates, no key given twice, not nested too deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from orchestrator.contract import canonical
from orchestrator.errors import DefinitionError, Finding
from orchestrator.saga.language import KINDS

#: Bytes of a file.
FILE_BYTES_MAX: Final = 262_144


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


def parse(text: str, file: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a YAML map, and the line of each path. Raises: DefinitionError."""
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise one(file, 1, "The document is not a map.", "Begin with `definition: NAME`.")
            _note_lines(node, "", lines, file, depth_left=canonical.DEPTH_MAX)
            raw = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise one(file, line, f"Not readable as YAML: {error.problem}.", "Correct the YAML at this line.") from None
    except (yaml.YAMLError, RecursionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A tag that does not fit its value (`!!bool maybe`) makes the library raise almost anything.
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise one(file, 1, f"Not readable as YAML: {message}.", "Correct the YAML.") from None
    return raw, lines


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int], file: str, *, depth_left: int) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if depth_left == 0:
        raise one(file, node.start_mark.line + 1, "Nested too deep.", "Flatten the document.")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                raise one(file, line, f"`{name}` stands here twice.", "Keep one of them.")
            lines[name] = line
            _note_lines(value, name, lines, file, depth_left=depth_left - 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{path}[{index}]", lines, file, depth_left=depth_left - 1)


def explain(item: Any, file: str, lines: Mapping[str, int]) -> Finding:
    """One of pydantic's errors as a finding."""
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
    return Finding(file=file, line=line_of(lines, path), path=path, message=message + ".", fix=fix)


def line_of(lines: Mapping[str, int], path: str) -> int:
    """The line of a path, or of the nearest parent that has one."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 1)


def one(file: str, line: int, message: str, fix: str) -> DefinitionError:
    """An error with one finding."""
    return DefinitionError([Finding(file=file, line=line, path="", message=message, fix=fix)])
