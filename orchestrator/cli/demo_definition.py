"""The demo's definitions: shipped ones with every duration divided, so that five minutes of outage take fifteen seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.files import shipped_definition
from orchestrator.saga.definition import Definition

#: By how much the demo runs faster than the shipped definition.
FASTER = 20
NAME, WATCHED_NAME = "order_demo", "order_watched_demo"


def write_faster(directory: Path, shipped: str, name: str) -> Path:
    """Write a shipped definition, faster and under its own name, into a directory of definitions inside of this one, which is returned."""
    definitions = directory / "definitions"
    definitions.mkdir(exist_ok=True)
    (definitions / f"{name}.yaml").write_text(faster(shipped_definition(shipped), name), encoding="utf-8")
    return definitions


def faster(definition: Definition, name: str) -> str:
    """The text of a line of steps called `name`, every duration of it, defaults too, divided by `FASTER`. (YAML, for JSON is YAML.)"""
    expanded = definition.expanded
    raw = {**definition.raw, "definition": name, "patience": _shorter(expanded["patience_ms"])}
    raw["steps"] = [_faster(step, whole) for step, whole in zip(raw["steps"], expanded["steps"], strict=True)]
    return f"# Made by `escrow demo` from {definition.name}: every duration divided by {FASTER}.\n{json.dumps(raw, indent=2)}\n"


def _faster(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """A step or an undo as it was written, its times from the document in which the defaults are written out."""
    retry = {name: value for name, value in whole["retry"].items() if value is not None and not name.endswith("_ms")}
    retry |= {name: _shorter(whole["retry"][f"{name}_ms"]) for name in ("first", "max")}
    quick = {**part, "deadline": _shorter(whole["deadline_ms"]), "retry": retry}
    if part.get("undo"):
        quick["undo"] = _faster(part["undo"], whole["undo"])
    return quick


def _shorter(duration_ms: int) -> str:
    return f"{max(1, duration_ms // FASTER)}ms"
