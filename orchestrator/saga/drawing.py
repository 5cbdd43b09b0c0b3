"""Arrows of a state diagram, and what is written on those that silence takes."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.saga.retry import RetryRule
from orchestrator.saga.rulebook import undoing
from orchestrator.saga.rules import Stage, StepRule
from orchestrator.saga.words import counted, duration, listed

#: Where every order begins.
START = "[*]"


@dataclass(frozen=True, slots=True)
class Edge:
    """One arrow of the diagram."""

    source: str
    target: str
    label: str


def label(event: str, conditions: tuple[str, ...]) -> str:
    """An event, and what must hold."""
    return " ".join([event, *(f"[{condition}]" for condition in conditions)])


def done(stage: Stage) -> str:
    """The answers with which its steps are done."""
    return " and ".join(label(step.done_on, (step.done_when.text,) if step.done_when is not None else ()) for step in stage.steps)


def retried(stage: Stage) -> list[Edge]:
    """The pivot and what follows it are asked until they answer."""
    limits = [(step.name, _watched(step) + _unlimited(step.deadline_ms, step.retry)) for step in stage.steps if step.retry.attempts is None]
    return [Edge(stage.state, stage.state, _silence(stage, limits))] if limits else []


def undo_retried(stage: Stage) -> Edge:
    """Undos are asked until they are confirmed."""
    undos = [(step.name, step.undo) for step in (*stage.steps, *stage.facts) if step.undo is not None]
    limits = [(name, _unlimited(undo.deadline_ms, undo.retry)) for name, undo in undos]
    return Edge(undoing(stage.name), undoing(stage.name), _silence(stage, limits))


def silence(stage: Stage) -> str:
    """Whose silence turns an order back, and when."""
    return _silence(stage, [(step.name, _limited(step)) for step in stage.steps])


def _silence(stage: Stage, limits: list[tuple[str, str]]) -> str:
    if len(stage.steps) + len(stage.facts) == 1:
        return f"silence ({limits[0][1]})"
    return f"silence of {listed([f'{name} ({limit})' for name, limit in limits], 'or')}"


def _unlimited(deadline_ms: int, rule: RetryRule) -> str:
    alarm = f", stuck after {rule.stuck_after}" if rule.stuck_after else ""
    return f"{duration(deadline_ms)}, asked again without limit{alarm}"


def _limited(step: StepRule) -> str:
    attempts = f"{counted(step.retry.attempts or 1, 'attempt')} of {duration(step.deadline_ms)}"
    is_whole = step.retry.attempts == 1 and not step.watched and step.patience_ms is None
    return attempts if is_whole else f"{_watched(step)}{attempts}, {duration(step.worst_case_ms)} in all"


def _watched(step: StepRule) -> str:
    return f"watched for {duration(step.deadline_ms)}, then " if step.watched else ""
