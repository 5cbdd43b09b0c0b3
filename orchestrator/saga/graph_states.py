"""The arrows of a graph of states.

What was done on the way differs from order to order, so the way back has an arrow wherever some order can take it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.saga.drawing import START, Edge, done, label, retried, silence, undo_retried
from orchestrator.saga.reach import reached
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage
from orchestrator.saga.words import counted, duration, listed


def edges_of_states(rulebook: Rulebook) -> list[Edge]:
    """Every arrow: forward, back, and along the undos."""
    back = _Back(rulebook)
    drawn = [Edge(START, rulebook.stages[0].state, rulebook.opens_on)]
    living = [stage for stage in rulebook.stages if stage.ending is None]
    for stage in living:
        for move in moves(rulebook, stage):
            drawn += back.arrows_of(move)
        drawn += [Edge(stage.state, stage.state, name) for name in _staying(stage)]
        drawn += retried(stage)
        if not stage.pivot and not rulebook.is_stage_past_pivot(stage):
            drawn += back.arrows_of_no_answer(stage)
        elif stage.pivot and stage.on_refused is None:
            drawn += back.arrows_of_refusal(stage)
    for stage in reversed(living):
        if stage.can_be_undone:
            drawn.append(undo_retried(stage))
            drawn += back.arrows_of_undo(stage)
    return _merged(drawn)


@dataclass(frozen=True, slots=True)
class Move:
    """What leads from a state to another."""

    source: Stage
    target: Stage
    label: str
    #: Step and events that are done with it.
    did: frozenset[str]
    #: Whether the step that was asked may be done, though it did not answer.
    is_unanswered: bool


def moves(rulebook: Rulebook, stage: Stage) -> list[Move]:
    """Everything that leads out of a state, but for what turns the order back."""
    found: list[Move] = []
    following = rulebook.way.after(stage)
    if isinstance(following, Stage) and stage.steps:
        found.append(Move(stage, following, done(stage), frozenset(step.name for step in stage.steps), False))
    elif isinstance(following, Stage) and stage.all_of:
        found.append(Move(stage, following, listed(sorted(stage.all_of)), stage.all_of, False))
    if stage.on_refused is not None and not rulebook.is_stage_past_pivot(stage):
        found.append(Move(stage, rulebook.by_stage[stage.on_refused], refused(stage), frozenset(), False))
    for name, cases in stage.events.items():
        for case in cases:
            if case.then is not None:
                said = label(name, (case.when.text,) if case.when is not None else ())
                found.append(Move(stage, rulebook.by_stage[case.then], said, frozenset({name}), bool(stage.steps)))
    if stage.deadline is not None:
        at = stage.deadline.at
        said = f"at {at.text}" if at is not None else f"after {duration(stage.deadline.after_ms or 0)}"
        found.append(Move(stage, rulebook.by_stage[stage.deadline.then], said, frozenset(), False))
    return found


def refused(stage: Stage) -> str:
    """The answers that say no."""
    return listed(sorted({name for step in stage.steps for name in step.refused_on}) or ["refused"], "or")


def _staying(stage: Stage) -> list[str]:
    """Events that are taken and lead nowhere."""
    return [name for name, cases in stage.events.items() if name not in stage.all_of and any(case.then is None for case in cases)]


def _merged(drawn: list[Edge]) -> list[Edge]:
    """One arrow from a state to another, with all that leads there."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for edge in drawn:
        labels.setdefault((edge.source, edge.target), {})[edge.label] = None
    return [Edge(source, target, listed([*said], "or")) for (source, target), said in labels.items()]


class _Back:
    """Where an order goes when it turns back: the undo that is the first, or the end where there is none."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._every = frozenset(name for name, step in rulebook.by_name.items() if step.undo is not None)
        following = {stage.index: [after.index for after in rulebook.following(stage)] for stage in rulebook.stages}
        self._ahead = {index: reached(following, after) for index, after in following.items()}
        self._into: dict[int, list[Move]] = {stage.index: [] for stage in rulebook.stages}
        for stage in rulebook.stages:
            for move in moves(rulebook, stage):
                self._into[move.target.index].append(move)

    def arrows_of(self, move: Move) -> Iterator[Edge]:
        """To the other state; to the undos, where that is an end which undoes, or one that was entered as often as it may be."""
        target = move.target
        if target.ending is not None and target.ending.outcome == "failed":
            yield from self._turned(move, move.label, self._every & target.ending.undone, target.state)
            return
        yield Edge(move.source.state, target.state, move.label)
        if target.at_most is not None:
            vain = label(move.label, (f"{target.state} was entered {counted(target.at_most, 'time')}",))
            yield from self._turned(move, vain, self._every, "compensated")

    def arrows_of_no_answer(self, stage: Stage) -> Iterator[Edge]:
        """What ends every wait before the pivot, and undoes everything."""
        reasons = [silence(stage)] if stage.steps else []
        unanswered = Move(stage, stage, "", frozenset(), is_unanswered=bool(stage.steps))
        for why in [*reasons, f"patience ({duration(self._rulebook.patience_ms)})", *sorted(self._rulebook.abort_on)]:
            yield from self._turned(unanswered, why, self._every, "compensated")
        if stage.steps and stage.on_refused is None and stage.steps[0].refused_on:
            yield from self.arrows_of_refusal(stage)

    def arrows_of_refusal(self, stage: Stage) -> Iterator[Edge]:
        """Of a step whose refusal leads to no state: everything is undone, but for itself."""
        yield from self._turned(Move(stage, stage, "", frozenset(), is_unanswered=False), refused(stage), self._every, "compensated")

    def arrows_of_undo(self, stage: Stage) -> Iterator[Edge]:
        """To the undo that is next, or the end that waits for the last."""
        own = [(name, step.undo) for name, step in self._rulebook.by_name.items() if step.index == stage.index and step.undo is not None]
        ends = [(name, ending.undone) for name, ending in self._rulebook.endings.items() if ending.outcome == "failed"]
        for end, undone in [("compensated", self._every), *ends]:
            names = self._every & undone
            confirmed = [undo.done_on for name, undo in own if name in names]
            came_early = bool(stage.facts)
            can_end_so = end == "compensated" or came_early or self._rulebook.by_stage[end].index in self._ahead[stage.index]
            if not confirmed or not can_end_so:
                continue
            again = [undoing(stage.name)] if len(confirmed) > 1 else []
            following = [*again, *self._before(stage, names, end, surely=not came_early)]
            yield from (Edge(undoing(stage.name), first, why) for first in dict.fromkeys(following) for why in confirmed)

    def _turned(self, move: Move, why: str, names: frozenset[str], end: str) -> Iterator[Edge]:
        """From a state to the undos that can be the first of these, or to the end."""
        stage = move.source
        early = [name for name in sorted(names) if name in self._rulebook.events and self._rulebook.is_to_come(stage.state, name)]
        for name in early:
            yield Edge(stage.state, self._home(name), label("turned back", (f"{name} came early",)))
        did = names & (frozenset(step.name for step in stage.steps) if move.is_unanswered else move.did)
        firsts = [self._home(name) for name in sorted(did)]
        if not did:
            firsts = [self._home(name) for name in sorted(names & stage.awaits)]
            firsts += self._before(stage, names, end, surely=True)
        yield from (Edge(stage.state, first, why) for first in dict.fromkeys(firsts))

    def _before(self, stage: Stage, names: frozenset[str], end: str, *, surely: bool) -> list[str]:
        """The undos that can be the first for what is before this state. `surely`: what is on the way to it was done."""
        found: list[str] = [end] if stage.index == 0 else []
        todo, seen = [stage], {stage.index}
        while todo:
            for move in self._into[todo.pop(0).index]:
                did = move.did & names
                asked = {step.name for step in move.source.steps} & names if move.is_unanswered or not surely else set[str]()
                found += [self._home(name) for name in sorted(did | asked | (names & move.source.awaits))]
                if (did and surely) or move.source.index in seen:
                    continue
                seen.add(move.source.index)
                todo.append(move.source)
                found += [end] if move.source.index == 0 else []
        return list(dict.fromkeys(found))

    def _home(self, name: str) -> str:
        """The state while a step or an event is undone."""
        return undoing(self._rulebook.stage_of(self._rulebook.by_name[name]).name)
