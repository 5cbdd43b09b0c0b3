"""Write `docs/reference/` of the language of definitions anew: `make docs`. Deterministic: the same code gives the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.cli import schema
from orchestrator.contract import canonical
from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.saga.expression import LENGTH_MAX
from orchestrator.saga.source import FILE_BYTES_MAX, VALUES_MAX

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

HEAD = f"""\
# The language of definitions

Every key, with its kind, its default and what it means. Made by `make docs` from the JSON Schema that `escrow definition schema` prints
and [`definition.schema.json`](definition.schema.json) holds, which is made from the code. How it all goes together, expressions, and what
the check refuses are told in [Definitions](../definitions.md). Keys that are not listed here are refused.

## Kinds

| kind | is |
| --- | --- |
| name | begins with a letter and has up to 64 letters, digits, `_` or `-`: names become routing keys and labels of metrics |
| field | 1 to 64 letters, digits, `_` or `-` |
| path | a field of the order's data, or `STEP.FIELD` of a step's reply; up to 8 fields, with dots between them |
| duration | `1500ms`, `30s`, `5m`, `2h`, `14d` or a sum, as `1h30m`; at most ten years |
| expression | CEL, on one line of at most {LENGTH_MAX} characters |

A file has at most {FILE_BYTES_MAX} characters and {VALUES_MAX} values, no more than {canonical.DEPTH_MAX} inside each other. It has no
anchors and no tags. Numbers, `true`, `false` and `null` are written as in JSON; `yes`, `1:30` and `0x1f` are texts.
"""

STATES_HEAD = """\
# The language of definitions: states

The keys of the state form: what stands under `states` of a definition. The first page of [the language](definition.md) has all else, and
says of what kinds values are. How it goes is told in [States](../states.md). Made by `make docs`, as that page is.

A state is of one of three kinds: an end has `outcome`, one that asks has `done_on`, and each other one waits for events.
"""
#: The page of the state form, and the models that are told there, by the first of them.
STATES_PAGE = "definition-states.md"
STATES = ("AskingState", "WaitingState", "EndState", "Event", "EventCase", "EventUndo", "StateDeadline", "Notice")


def files() -> dict[str, str]:
    """Each file of the reference that is made, by name."""
    made = schema.make()
    return {
        "definition.schema.json": json.dumps(made, indent=2) + "\n",
        "definition.md": "\n".join([HEAD, *_sections(made)]).rstrip() + "\n",
        STATES_PAGE: "\n".join([STATES_HEAD, *_state_sections(made)]).rstrip() + "\n",
    }


def _sections(made: Mapping[str, Any]) -> Iterator[str]:
    """The definition as a whole, lines of steps, and what both forms use."""
    yield from _section("The definition", made, {}, "definition.md")
    told: dict[str, Mapping[str, Any]] = {}
    for name in _reached(made["properties"], made["$defs"]):
        if name not in STATES:
            yield from _section(name, made["$defs"][name], told, "definition.md")
            told[name] = made["$defs"][name]


def _state_sections(made: Mapping[str, Any]) -> Iterator[str]:
    models = made["$defs"]
    told = {name: model for name, model in models.items() if name not in STATES}
    for name in _reached(made["properties"]["states"], models):
        if name in STATES:
            yield from _section(name, models[name], told, STATES_PAGE)
            told[name] = models[name]


def _reached(model: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    """The models that a reader of this one meets, in that order."""
    found: list[str] = []
    left = [model]
    while left:
        for name in re.findall(r"'#/\$defs/(\w+)'", str(left.pop(0))):
            if name not in found:
                found.append(name)
                left.append(models[name])
    return found


def _section(title: str, model: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]], page: str) -> Iterator[str]:
    """A model with all of its keys; or, where most of them were told, which they are and what differs. `told`: models before this one."""
    yield f"## {title}\n"
    yield f"{model['description']}\n"
    keys = model["properties"]
    larger = [name for name, other in told.items() if keys.items() < other["properties"].items()]
    smaller = [name for name, other in told.items() if other["properties"].items() < keys.items()]
    if larger:
        missing = ", ".join(f"`{key}`" for key in told[larger[0]]["properties"] if key not in keys)
        yield f"Its keys are those of {_link(larger[0], page)}, without {missing}.\n"
        return
    if smaller:
        yield f"It has the keys of {_link(smaller[0], page)}, and:\n"
        keys = {key: value for key, value in keys.items() if key not in told[smaller[0]]["properties"]}
    yield "| key | kind | default | means |"
    yield "| --- | --- | --- | --- |"
    for key, value in keys.items():
        means, _, said = value["description"].partition(" Default: ")
        default = "required" if key in model.get("required", ()) else said.removesuffix(".") or _default(value)
        yield f"| `{key}` | {_kind(value, page)} | {default} | {means} |"
    yield ""


def _link(name: str, page: str) -> str:
    """To the section of a model, which may stand on the other page."""
    home = STATES_PAGE if name in STATES else "definition.md"
    return f"[{name}]({'' if home == page else home}#{name.lower()})"


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if "Default " in value["description"]:
        return "by place"
    return "none" if default in (None, []) else str(default).lower()


def _kind(value: Mapping[str, Any], page: str) -> str:
    """In words. Raises: KeyError for what the language has not had so far."""
    if "$ref" in value:
        return _link(value["$ref"].rpartition("/")[2], page)
    if ways := value.get("anyOf") or value.get("oneOf"):
        kinds = [_kind(way, page) for way in ways if way != {"type": "null"}]
        return ", or ".join(dict.fromkeys(kinds))
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    match value["type"]:
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number":
            return f"{value['minimum']} to {value['maximum']}"
        case "array":
            count = f"{value['minItems']} to {value['maxItems']}" if "minItems" in value else f"up to {value['maxItems']}"
            return f"{count} of: {_kind(value['items'], page)}"
        case "object":
            [inner] = value.get("patternProperties", {"": value["additionalProperties"]}).values()
            return f"map to {_kind(inner, page)}"
        case _:
            return _text_kind(value)


def _text_kind(value: Mapping[str, Any]) -> str:
    if value.get("maxLength") == LENGTH_MAX:
        return "expression"
    if "(ms|s|m|h|d)" in value["pattern"]:
        return "duration"
    return {f"^{NAME_PATTERN}$": "name", "^[A-Za-z0-9_-]{1,64}$": "field"}.get(value["pattern"], "path")


def main() -> None:
    """Write the files in place of the old ones."""
    for name, text in files().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}: {len(text)} characters")


if __name__ == "__main__":
    main()
