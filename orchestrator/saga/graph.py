"""The state diagram of a definition, in Mermaid, from the machine that makes the moves; for an order, with where it is and was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.saga.order import ENDS
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage, StepRule
from orchestrator.saga.way import Choice, Place, Turn, exits
from orchestrator.saga.words import counted, duration, listed

#: How states are drawn, by class.
_STYLES = {
    "current": "fill:#ffd54f,stroke:#b28704,stroke-width:3px,color:#000",
    "visited": "fill:#c8e6c9,stroke:#388e3c,color:#000",
    "possible": "stroke:#1565c0,stroke-width:2px,stroke-dasharray:4",
}
_START = "[*]"


@dataclass(frozen=True, slots=True)
class Edge:
    """One arrow of the diagram."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where an order is in the diagram of its definition."""

    current: str
    #: States it was in before, in no order.
    visited: frozenset[str]
    #: States that it can come to next by itself. A force leads to any step, an admin to `abandoned`.
    possible: frozenset[str]


def marks(rulebook: Rulebook, state: str, visited: Collection[str]) -> Marks:
    """Where an order is whose journal names these states."""
    following = {edge.target for edge in edges(rulebook) if edge.source == state}
    return Marks(current=state, visited=frozenset(visited) - {state}, possible=frozenset(following) - {state})


def mermaid(rulebook: Rulebook, order: Marks | None = None) -> str:
    """A Mermaid `stateDiagram-v2`. Forces are left out: they lead from anywhere to any step."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {edge.source} --> {edge.target}: {_plain(edge.label)}" for edge in edges(rulebook)]
    lines += ["    completed --> [*]", "    compensated --> [*]"]
    if order is not None:
        ended = {order.current} & (ENDS - {"completed", "compensated"})
        lines += [f"    {state} --> [*]" for state in ended]
        drawn = {"current": {order.current}, "visited": order.visited, "possible": order.possible - order.visited}
        lines += [f"    classDef {name} {style}" for name, style in _STYLES.items() if drawn[name]]
        lines += [f"    class {','.join(sorted(states))} {name}" for name, states in drawn.items() if states]
    return "\n".join(lines) + "\n"


def edges(rulebook: Rulebook) -> list[Edge]:
    """Every arrow: forward, back, and along the undos."""
    come_from = preceding(rulebook)
    drawn = [Edge(_START, _state(stage), _label(rulebook.opens_on, when)) for stage, when in exits(rulebook.way.first)]
    for stage in rulebook.stages:
        done = " and ".join(step.done_on for step in stage.steps)
        drawn += [Edge(stage.state, _state(following), _label(done, when)) for following, when in exits(rulebook.way.after(stage))]
        drawn += _retried(stage)
        if not rulebook.is_past_pivot(stage.steps[0]):
            drawn += [Edge(stage.state, back, why) for back, why in _ways_back(rulebook, stage, done, come_from)]
    for stage in reversed(rulebook.stages):
        if stage.can_be_undone:
            confirmed = " and ".join(step.undo.done_on for step in stage.steps if step.undo)
            drawn.append(_undo_retried(stage))
            drawn += [Edge(undoing(stage.name), before, confirmed) for before in _before(stage, come_from)]
    return drawn


def _state(stage: Stage | None) -> str:
    return "completed" if stage is None else stage.state


def _label(event: str, conditions: tuple[str, ...]) -> str:
    return " ".join([event, *(f"[{condition}]" for condition in conditions)])


def _plain(label: str) -> str:
    """Mermaid ends a label at a line break and takes a semicolon for one."""
    return label.replace(";", ",")


def _retried(stage: Stage) -> list[Edge]:
    """The pivot and what follows it are asked until they answer."""
    limits = [(step.name, _unlimited(step.deadline_ms, step.retry)) for step in stage.steps if step.retry.attempts is None]
    return [Edge(stage.state, stage.state, _silence(stage, limits))] if limits else []


def _undo_retried(stage: Stage) -> Edge:
    undos = [(step.name, step.undo) for step in stage.steps if step.undo is not None]
    limits = [(name, _unlimited(undo.deadline_ms, undo.retry)) for name, undo in undos]
    return Edge(undoing(stage.name), undoing(stage.name), _silence(stage, limits))


def _silence(stage: Stage, limits: list[tuple[str, str]]) -> str:
    """Whose silence counts, and when."""
    if len(stage.steps) == 1:
        return f"silence ({limits[0][1]})"
    return f"silence of {listed([f'{name} ({limit})' for name, limit in limits], 'or')}"


def _unlimited(deadline_ms: int, rule: RetryRule) -> str:
    alarm = f", stuck after {rule.stuck_after}" if rule.stuck_after else ""
    return f"{duration(deadline_ms)}, asked again without limit{alarm}"


def _limited(step: StepRule) -> str:
    attempts = f"{counted(step.retry.attempts or 1, 'attempt')} of {duration(step.deadline_ms)}"
    return attempts if step.retry.attempts == 1 else f"{attempts}, {duration(worst_case_ms(step.retry, step.deadline_ms))} in all"


def _ways_back(rulebook: Rulebook, stage: Stage, done: str, come_from: Mapping[int, list[Stage | None]]) -> Iterator[tuple[str, str]]:
    """A silent step may be done, so it is undone, and so is what stands beside a refused one. The pivot is asked until it answers."""
    itself = [undoing(stage.name)] if stage.can_be_undone else _before(stage, come_from)
    refusals = sorted({name for step in stage.steps for name in step.refused_on})
    if not stage.pivot:
        silence = _silence(stage, [(step.name, _limited(step)) for step in stage.steps])
        why = listed([silence, f"patience ({duration(rulebook.patience_ms)})", *sorted(rulebook.abort_on)], "or")
        yield from ((back, why) for back in itself)
        turns = {turn.name: turn for turn in _last_turns(rulebook.way.after(stage))}
        yield from ((back, f"{done} [{counted(turn.at_most, 'turn')} in vain]") for turn in turns.values() for back in itself)
    if refusals or stage.pivot:
        refused = itself if len(stage.steps) > 1 else _before(stage, come_from)
        yield from ((back, ", ".join(refusals) or "refused") for back in refused)


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


def _before(stage: Stage, come_from: Mapping[int, list[Stage | None]]) -> list[str]:
    """The states of the undos that can be the first when all before this stage's last asking is undone; `compensated` where there may be
    none. In a loop its own is among them: that of the turn before.
    """
    found: dict[str, None] = {}
    todo, seen = [stage], set[int]()
    while todo:
        for other in come_from[todo.pop(0).index]:
            if other is None:
                found["compensated"] = None
            elif other.can_be_undone:
                found[undoing(other.name)] = None
            elif other.index not in seen:
                seen.add(other.index)
                todo.append(other)
    return list(found)
