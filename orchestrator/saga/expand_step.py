"""One step of an expanded document, and how it is undone: the defaults of each place."""

from __future__ import annotations

from typing import Any

from orchestrator.saga.language import Asking, Branch, Retry, Undo


def expand_step(name: str, step: Asking, *, unlimited: bool) -> dict[str, Any]:
    """One step. `unlimited`: there is no way back from it, so it is asked until it answers."""
    document: dict[str, Any] = {
        "step": name,
        "participant": step.ask,
        "command": step.command,
        "with": step.with_,
        "done_on": step.done_on,
        "refused_on": step.refused_on,
        "deadline_ms": step.deadline,
        "retry": _retry(step.retry, unlimited=unlimited),
        "pivot": step.pivot,
        "harmless": step.harmless,
        "undo": step.undo and expand_undo(step.undo),
    }
    seldom = {"done_when": step.done_when, "set": step.set_, "patience_ms": step.patience, "watched": _is_watched(step) or None}
    return document | {word: value for word, value in seldom.items() if value is not None}


def _is_watched(step: Asking) -> bool:
    return isinstance(step, Branch) and step.send == "on_silence"


def expand_undo(undo: Undo) -> dict[str, Any]:
    """How something is undone."""
    return {
        "command": undo.command,
        "with": undo.with_,
        "done_on": undo.done_on,
        "deadline_ms": undo.deadline,
        "retry": _retry(undo.retry, unlimited=True),
    }


def _retry(retry: Retry, *, unlimited: bool) -> dict[str, Any]:
    """Defaults by place: attempts are counted before the pivot; the pivot, what follows it, and undos go on without limit."""
    return {
        "attempts": retry.attempts if retry.attempts or unlimited else 3,
        "first_ms": retry.first or (5_000 if unlimited else 1_000),
        "factor": retry.factor or 2.0,
        "max_ms": retry.max or (300_000 if unlimited else 60_000),
        "stuck_after": retry.stuck_after or (5 if unlimited else None),
    }
