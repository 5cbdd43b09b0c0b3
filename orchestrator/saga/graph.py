"""The state diagram of a definition, in Mermaid, from the machine that makes the moves."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.saga.rulebook import Rulebook, Stage, undoing


def mermaid(rulebook: Rulebook) -> str:
    """A Mermaid `stateDiagram-v2`. Forces are left out: they lead from anywhere to any step."""
    lines = ["stateDiagram-v2", f"    [*] --> {rulebook.stages[0].state}: {rulebook.opens_on}"]
    for stage in rulebook.stages:
        dest = rulebook.move(stage.state, f"done:{stage.name}")
        lines.append(f"    {stage.state} --> {dest}: {_all(step.done_on for step in stage.steps)}")
        if not rulebook.is_past_pivot(stage.steps[0]):
            lines += [f"    {stage.state} --> {back}: {why}" for back, why in _ways_back(rulebook, stage)]
    for stage in reversed(rulebook.stages):
        if stage.can_be_undone:
            confirmed = _all(step.undo.done_on for step in stage.steps if step.undo)
            lines.append(f"    {undoing(stage.name)} --> {_before(rulebook, stage)}: {confirmed}")
    return "\n".join([*lines, "    completed --> [*]", "    compensated --> [*]"]) + "\n"


def _ways_back(rulebook: Rulebook, stage: Stage) -> list[tuple[str, str]]:
    """A silent step may be done, so it is undone, and so is what stands beside a refused one. The pivot is asked until it answers."""
    itself = undoing(stage.name) if stage.can_be_undone else _before(rulebook, stage)
    refusals = sorted({name for step in stage.steps for name in step.refused_on})
    refused = (itself if len(stage.steps) > 1 else _before(rulebook, stage), ", ".join(refusals) or "refused")
    if stage.pivot:
        return [refused]
    return [(itself, "silence"), refused] if refusals else [(itself, "silence")]


def _before(rulebook: Rulebook, stage: Stage) -> str:
    undoable = [other for other in rulebook.stages[: stage.index] if other.can_be_undone]
    return undoing(undoable[-1].name) if undoable else "compensated"


def _all(names: Iterable[str]) -> str:
    return " and ".join(names)
