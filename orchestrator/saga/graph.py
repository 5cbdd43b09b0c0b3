"""The state diagram of a definition, in Mermaid, from the machine that makes the moves."""

from __future__ import annotations

from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage
from orchestrator.saga.way import exits


def mermaid(rulebook: Rulebook) -> str:
    """A Mermaid `stateDiagram-v2`. Forces are left out: they lead from anywhere to any step."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {_state(stage)}: {_label(rulebook.opens_on, when)}" for stage, when in exits(rulebook.way.first)]
    for stage in rulebook.stages:
        done = " and ".join(step.done_on for step in stage.steps)
        ways = exits(rulebook.way.after(stage))
        lines += [f"    {stage.state} --> {_state(following)}: {_label(done, when)}" for following, when in ways]
        if not rulebook.is_past_pivot(stage.steps[0]):
            lines += [f"    {stage.state} --> {back}: {why}" for back, why in _ways_back(rulebook, stage)]
    for stage in reversed(rulebook.stages):
        if stage.can_be_undone:
            confirmed = " and ".join(step.undo.done_on for step in stage.steps if step.undo)
            lines += [f"    {undoing(stage.name)} --> {before}: {confirmed}" for before in _before(rulebook, stage)]
    return "\n".join([*lines, "    completed --> [*]", "    compensated --> [*]"]) + "\n"


def _state(stage: Stage | None) -> str:
    return "completed" if stage is None else stage.state


def _label(event: str, conditions: tuple[str, ...]) -> str:
    """Mermaid ends a label at a line break and takes a semicolon for one."""
    return " ".join([event, *(f"[{condition}]" for condition in conditions)]).replace(";", ",")


def _ways_back(rulebook: Rulebook, stage: Stage) -> list[tuple[str, str]]:
    """A silent step may be done, so it is undone, and so is what stands beside a refused one. The pivot is asked until it answers."""
    itself = [undoing(stage.name)] if stage.can_be_undone else _before(rulebook, stage)
    refusals = sorted({name for step in stage.steps for name in step.refused_on})
    refused = [(back, ", ".join(refusals) or "refused") for back in (itself if len(stage.steps) > 1 else _before(rulebook, stage))]
    if stage.pivot:
        return refused
    silent = [(back, "silence") for back in itself]
    return [*silent, *refused] if refusals else silent


def _before(rulebook: Rulebook, stage: Stage) -> list[str]:
    """The states of the undos that can be the first when all from this stage on is undone; `compensated` where there may be none."""
    found: dict[str, None] = {}
    todo, seen = [stage], {stage.index}
    while todo:
        here = todo.pop(0)
        if any(following is here for following, _ in exits(rulebook.way.first)):
            found["compensated"] = None
        for other in reversed(rulebook.stages):
            if other.index not in seen and any(following is here for following, _ in exits(rulebook.way.after(other))):
                seen.add(other.index)
                if other.can_be_undone:
                    found[undoing(other.name)] = None
                else:
                    todo.append(other)
    return list(found)
