"""The arrows of a line of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.saga.drawing import START, Edge, done, label, retried, silence, undo_retried
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage
from orchestrator.saga.way import Choice, Place, Turn, exits
from orchestrator.saga.words import counted, duration, listed

ComeFrom = Mapping[int, list[Stage | None]]


def edges_of_line(rulebook: Rulebook) -> list[Edge]:
    """Every arrow: forward, back, and along the undos."""
    come_from = preceding(rulebook)
    drawn = [Edge(START, _state(stage), label(rulebook.opens_on, when)) for stage, when in exits(rulebook.way.first)]
    for stage in rulebook.stages:
        drawn += [Edge(stage.state, _state(following), label(done(stage), when)) for following, when in exits(rulebook.way.after(stage))]
        drawn += retried(stage)
        if not rulebook.is_stage_past_pivot(stage):
            drawn += [Edge(stage.state, back, why) for back, why in _ways_back(rulebook, stage, come_from)]
    for stage in reversed(rulebook.stages):
        if stage.can_be_undone:
            confirmed = " and ".join(step.undo.done_on for step in stage.steps if step.undo)
            drawn.append(undo_retried(stage))
            drawn += [Edge(undoing(stage.name), before, confirmed) for before in _before(stage, come_from)]
    return drawn


def _state(stage: Stage | None) -> str:
    return "completed" if stage is None else stage.state


def _ways_back(rulebook: Rulebook, stage: Stage, come_from: ComeFrom) -> Iterator[tuple[str, str]]:
    """A silent step may be done, so it is undone, and so is what stands beside a refused one. The pivot is asked until it answers.

    Watched steps that the order has not come to may be done too: they are undone before all else (R11).
    """
    to_come = [undoing(other.name) for other in rulebook.stages[stage.index + 1 :] if watches(other)][-1:]
    itself = to_come or ([undoing(stage.name)] if stage.can_be_undone else _before(stage, come_from))
    refusals = sorted({name for step in stage.steps for name in step.refused_on})
    if not stage.pivot:
        why = listed([silence(stage), f"patience ({duration(rulebook.patience_ms)})", *sorted(rulebook.abort_on)], "or")
        yield from ((back, why) for back in itself)
        turns = {turn.name: turn for turn in _last_turns(rulebook.way.after(stage))}
        yield from ((back, f"{done(stage)} [{counted(turn.at_most, 'turn')} in vain]") for turn in turns.values() for back in itself)
    if refusals or stage.pivot:
        refused = itself if to_come or len(stage.steps) > 1 else _before(stage, come_from)
        yield from ((back, ", ".join(refusals) or "refused") for back in refused)


def watches(stage: Stage) -> bool:
    """Whether others may bring about a step of it that has an undo."""
    return any(step.watched and step.undo is not None for step in stage.steps)


def _last_turns(place: Place) -> Iterator[Turn]:
    """The loops whose last turn in vain can end here, and with it the order's way forward."""
    if isinstance(place, Choice):
        for then in (*(then for _, then in place.cases), place.otherwise):
            yield from _last_turns(then)
    elif isinstance(place, Turn):
        if not place.goes_on:
            yield place
        yield from _last_turns(place.after)


def preceding(rulebook: Rulebook) -> dict[int, list[Stage | None]]:
    """By index of a stage: the stages that an order can come from, last first, and None where it can be the first."""
    found: dict[int, list[Stage | None]] = {stage.index: [] for stage in rulebook.stages}
    for stage in reversed(rulebook.stages):
        for index in {following.index for following, _ in exits(rulebook.way.after(stage)) if following is not None}:
            found[index].append(stage)
    for index in {following.index for following, _ in exits(rulebook.way.first) if following is not None}:
        found[index].append(None)
    return found


def _before(stage: Stage, come_from: ComeFrom) -> list[str]:
    """The states of the undos that can be the first when all before this stage's last asking is undone; `compensated` where there may be
    none. In a loop its own is among them: that of the turn before. An order may never have come to a watched one, so any of them can be.
    """
    found: dict[str, None] = {}
    todo, seen = [stage], set[int]()
    while todo:
        for other in come_from[todo.pop(0).index]:
            if other is None:
                found["compensated"] = None
                continue
            if other.can_be_undone:
                found[undoing(other.name)] = None
            if (other.can_be_undone and not watches(stage)) or other.index in seen:
                continue
            seen.add(other.index)
            todo.append(other)
    return list(found)
