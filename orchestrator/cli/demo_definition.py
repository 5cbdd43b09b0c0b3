"""The demo's definition: the shipped `order` with every duration divided, so that five minutes of outage take fifteen seconds."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.saga.definition import Definition

#: By how much the demo runs faster than the shipped definition.
FASTER = 20
NAME = "order_demo"


def faster(definition: Definition) -> str:
    """The text of `order_demo`: `definition` with every duration, defaults too, divided by `FASTER`. (YAML, for JSON is YAML.)"""
    expanded = definition.expanded
    raw = {**definition.raw, "definition": NAME, "patience": _shorter(expanded["patience_ms"])}
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
