"""YAML files as their authors wrote them: values, and the line of each, so that a finding can say where.

Used for definitions and scenarios. Bounded, in this order: characters, nesting, values, and the characters of all paths together. There are
no anchors, no tags, and no key given twice; null, true, false and numbers are written as in JSON, so `yes`, `1:30` and a date are texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from orchestrator.contract import canonical
from orchestrator.errors import DefinitionError, Finding
from orchestrator.saga.document import KINDS

#: Characters of a file.
FILE_BYTES_MAX: Final = 262_144
#: Values of a file, keys counted too.
VALUES_MAX: Final = 20_000
#: Characters of all paths together: a few long keys above many values would fill the memory.
PATH_CHARS_MAX: Final = 16 * FILE_BYTES_MAX
_TEXT = "tag:yaml.org,2002:str"
#: Plain scalars that are no texts: what they are, how they are written, how they begin.
_PLAIN = (
    ("null", r"(?:~|null)?", ("", "~", "n")),
    ("bool", r"true|false", ("t", "f")),
    ("int", r"-?(?:0|[1-9][0-9]*)", tuple("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", tuple("-0123456789")),
)


class _Loader(yaml.SafeLoader):
    """YAML that holds JSON, within bounds. Raises: yaml.MarkedYAMLError, with the line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._values += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not taken"
        elif getattr(event, "tag", None):
            problem = "tags are not taken"
        elif self._depth == canonical.DEPTH_MAX:
            problem = "it is nested too deep"
        elif self._values > VALUES_MAX:
            problem = f"it has more than {VALUES_MAX} values"
        else:
            self._depth += 1
            node = super().compose_node(parent, index)
            self._depth -= 1
            return node
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z")) for kind, pattern, firsts in _PLAIN if first in firsts]
    for first in {first for _, _, firsts in _PLAIN for first in firsts}
}


def parse(text: str, file: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a YAML map, and the line of each path. Raises: DefinitionError."""
    if len(text) > FILE_BYTES_MAX:
        raise one(file, 1, f"The file has {len(text)} characters.", f"Keep it under {FILE_BYTES_MAX}.")
    lines = _Lines(file)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise one(file, 1, "The document is not a map.", "Begin with `definition: NAME`.")
            lines.note(node, "")
            raw = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise one(file, line, f"Not readable as YAML: {error.problem}.", "Correct the YAML at this line.") from None
    except (yaml.YAMLError, ValueError) as error:
        # A character that YAML does not know; an integer of more digits than Python reads.
        raise one(file, 1, f"Not readable as YAML: {str(error).splitlines()[0]}.", "Correct the YAML.") from None
    return raw, lines.of_path


class _Lines:
    """The line of each path of a document."""

    def __init__(self, file: str) -> None:
        self.of_path: dict[str, int] = {}
        self._file = file
        self._chars = 0

    def note(self, node: yaml.Node, path: str) -> None:
        """Note a value and those in it. Raises: DefinitionError, also for a key that is no text or stands twice."""
        line = node.start_mark.line + 1
        self.of_path.setdefault(path, line)
        self._chars += len(path)
        if self._chars > PATH_CHARS_MAX:
            raise one(self._file, line, "The keys above these values are too long.", "Shorten the keys, or flatten the document.")
        if isinstance(node, yaml.MappingNode):
            self._note_map(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.note(item, f"{path}[{index}]")

    def _note_map(self, node: yaml.MappingNode, path: str) -> None:
        keys: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != _TEXT:
                raise one(self._file, line, "A key is no text.", "Put it into quotes.")
            name = f"{path}.{key.value}" if path else key.value
            if key.value in keys:
                raise one(self._file, line, f"`{name}` stands here twice.", "Keep one of them.")
            keys.add(key.value)
            self.of_path.setdefault(name, line)
            self.note(value, name)


#: By the kind of an error: what is said of it, and the fix. `last` is the key, the others are the error's own.
_SHAPES: Final = {
    "missing": ("`{last}` is missing", "Add `{last}:`."),
    "extra_forbidden": ("`{last}` is not a field here", "Remove `{last}`, or correct its spelling."),
    "model_type": ("a map is needed here", "Write `{{key: value}}`, or each key on a line of its own."),
    "dict_type": ("a map is needed here", "Write `{{key: value}}`, or each key on a line of its own."),
    "list_type": ("a list is needed here", "Write `[one, another]`, or each item on a line of its own after `- `."),
    "string_type": ("a text is needed here", "Write a word, or put it into quotes."),
    "literal_error": ("this is not {expected}", "Write {expected}."),
    "too_short": ("{actual_length} stand here, and at least {min_length} are needed", "Add what is missing."),
    "too_long": ("{actual_length} stand here, and at most {max_length} are taken", "Remove some."),
}
#: By what a whole part is found to be, where its fix lies, and which it is.
_WHOLES: Final = {
    "a definition has either `steps` or `states`": ("", "Write one of the two: `steps:` for a line, `states:` for a graph."),
    "a deadline has either `after` or `at`": ("", "Write one of the two: `after: 3d`, or `at:` with an expression that says a time."),
    "`begins_in` names one of `states`, and there are none": ("begins_in", "Remove `begins_in`: the first of `steps` is asked first."),
}
#: What a kind of state is told by, for a word that it does not know.
_STATES: Final = {
    "(waiting)": "This state waits for events: `on`, `all_of` or `any_of`. One that asks has `done_on:`, an end has `outcome:`.",
    "(asking)": "This state asks, for it has `done_on`: its silence has `deadline` and `retry`, events from outside stand in `on`.",
    "(end)": "This state is an end, for it has `outcome`: besides it takes `undo` alone.",
}


def explain(item: Any, file: str, lines: Mapping[str, int]) -> Finding:
    """One of pydantic's errors as a finding."""
    words = [part for part in item["loc"] if part not in KINDS and part != "[key]"]
    last = str(words[-1]) if words else ""
    text = item["msg"].removeprefix("Value error, ")
    said, fix = _SHAPES.get(item["type"], (None, "Give a value of that kind."))
    message = said.format(last=last, **item.get("ctx", {})) if said is not None else text
    fix = fix.format(last=last, **item.get("ctx", {}))
    if item["loc"][-1:] == ("[key]",):
        fix = "Give this key another name."
    elif text in _WHOLES:
        inside, fix = _WHOLES[text]
        words += [inside] if inside else []
    elif item["type"] == "model_type" and last == "deadline":
        fix = "Write `{after: 3d, then: STATE}`: how long it lasts at most, and the state that follows."
    elif item["type"] == "extra_forbidden" and len(item["loc"]) > 1 and item["loc"][-2] in _STATES:
        fix = f"{fix} {_STATES[item['loc'][-2]]}"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in words).removeprefix(".")
    return Finding(file=file, line=line_of(lines, path), path=path, message=message + ".", fix=fix)


def line_of(lines: Mapping[str, int], path: str) -> int:
    """The line of a path, or of the nearest parent that has one."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, 1)


def one(file: str, line: int, message: str, fix: str) -> DefinitionError:
    """An error with one finding."""
    return DefinitionError([Finding(file=file, line=line, path="", message=message, fix=fix)])
