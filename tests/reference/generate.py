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


def files() -> dict[str, str]:
    """Each file of the reference that is made, by name."""
    made = schema.make()
    return {
        "definition.schema.json": json.dumps(made, indent=2) + "\n",
        "definition.md": "\n".join([HEAD, *_sections(made)]).rstrip() + "\n",
    }


def _sections(made: Mapping[str, Any]) -> Iterator[str]:
    yield from _section("The definition", made, made["$defs"])
    for name in _reached(made["properties"], made["$defs"]):
        yield from _section(name, made["$defs"][name], made["$defs"])


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


def _section(title: str, model: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{model['description']}\n"
    larger = [name for name, other in models.items() if model["properties"].items() < other["properties"].items()]
    if larger:
        missing = ", ".join(f"`{key}`" for key in models[larger[0]]["properties"] if key not in model["properties"])
        yield f"Its keys are those of [{larger[0]}](#{larger[0].lower()}), without {missing}.\n"
        return
    yield "| key | kind | default | means |"
    yield "| --- | --- | --- | --- |"
    for key, value in model["properties"].items():
        means, _, said = value["description"].partition(" Default: ")
        default = "required" if key in model.get("required", ()) else said.removesuffix(".") or _default(value)
        yield f"| `{key}` | {_kind(value)} | {default} | {means} |"
    yield ""


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if "Default " in value["description"]:
        return "by place"
    return "none" if default in (None, []) else str(default).lower()


def _kind(value: Mapping[str, Any]) -> str:
    """In words. Raises: KeyError for what the language has not had so far."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if ways := value.get("anyOf") or value.get("oneOf"):
        kinds = [_kind(way) for way in ways if way != {"type": "null"}]
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
            return f"{count} of: {_kind(value['items'])}"
        case "object":
            [inner] = value.get("patternProperties", {"": value["additionalProperties"]}).values()
            return f"map to {_kind(inner)}"
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
