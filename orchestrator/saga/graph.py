"""The state diagram of a definition, in Mermaid, from the machine that makes the moves."""

from __future__ import annotations

from orchestrator.saga.rulebook import Rulebook, StepRule, undoing


def mermaid(rulebook: Rulebook) -> str:
    """A Mermaid `stateDiagram-v2`. Forces are left out: they lead from anywhere to any step."""
    lines = ["stateDiagram-v2", f"    [*] --> {rulebook.steps[0].state}: {rulebook.opens_on}"]
    for step in rulebook.steps:
        dest = rulebook.move(step.state, f"done:{step.name}")
        lines.append(f"    {step.state} --> {dest}: {step.done_on}")
        if not rulebook.is_past_pivot(step):
            lines += [f"    {step.state} --> {back}: {why}" for back, why in _ways_back(rulebook, step)]
    lines += [
        f"    {undoing(step.name)} --> {_before(rulebook, step)}: {step.undo.done_on}" for step in reversed(rulebook.steps) if step.undo
    ]
    return "\n".join([*lines, "    completed --> [*]", "    compensated --> [*]"]) + "\n"


def _ways_back(rulebook: Rulebook, step: StepRule) -> list[tuple[str, str]]:
    """A silent step may be done, so it is undone too; a refused one is not. The pivot is asked until it answers."""
    refused = (_before(rulebook, step), ", ".join(sorted(step.refused_on)) or "refused")
    if step.pivot:
        return [refused]
    silent = (undoing(step.name) if step.undo is not None else refused[0], "silence")
    return [silent, refused] if step.refused_on else [silent]


def _before(rulebook: Rulebook, step: StepRule) -> str:
    undoable = [other for other in rulebook.steps[: step.index] if other.undo is not None]
    return undoing(undoable[-1].name) if undoable else "compensated"
