"""The state form of an expanded document: each state is a stage that says itself what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.saga.expand_step import expand_step, expand_undo
from orchestrator.saga.reach import reached
from orchestrator.saga.state_language import AskingState, EndState, Event, EventCase, Notice, State, WaitingState


def expand_states(states: Mapping[str, State], begins_in: str | None) -> dict[str, Any]:
    """`way` (none), `stages`, `steps`, `events` (by type: who publishes it, and how two are ordered) and `facts` (how some are undone).

    The first of the stages is where an order begins.
    """
    if begins_in is not None and begins_in in states:
        states = {begins_in: states[begins_in], **states}
    unlimited = _unlimited(states)
    asking = {name: state for name, state in states.items() if isinstance(state, AskingState)}
    return {
        "way": [],
        "stages": [_stage(name, state) for name, state in states.items()],
        "steps": [expand_step(state.step or name, state, unlimited=name in unlimited) for name, state in asking.items()],
        "events": _events(states),
        "facts": list(_facts(states)),
    }


def taken(state: State) -> dict[str, Event]:
    """The events from outside that a state takes, by type, each with what it says of it."""
    if isinstance(state, EndState):
        return {}
    found = {name: Event(then=event) if isinstance(event, str) else event for name, event in state.on.items()}
    if isinstance(state, WaitingState):
        found |= {name: Event(then=state.then) for name in state.any_of if name not in found}
        found |= {name: Event() for name in state.all_of if name not in found}
    return found


def following(state: State) -> list[str]:
    """The names of the states that a state leads to, as they are written."""
    if isinstance(state, EndState):
        return []
    names = [case.then for event in taken(state).values() for case in [event, *(event.cases or [])]]
    names.append(state.then)
    if isinstance(state, AskingState):
        names.append(state.on_refused)
    elif state.deadline is not None:
        names.append(state.deadline.then)
    return list(dict.fromkeys(name for name in names if name is not None))


def _unlimited(states: Mapping[str, State]) -> set[str]:
    """The states that ask without limit: pivots, and what follows them."""
    pivots = {name: state.then for name, state in states.items() if isinstance(state, AskingState) and state.pivot}
    # Names that lead nowhere are found by the checks, later.
    known = {name: [then for then in following(state) if then in states] for name, state in states.items()}
    return {*pivots, *reached(known, [then for then in pivots.values() if then in states])}


def _stage(name: str, state: State) -> dict[str, Any]:
    document: dict[str, Any] = {"stage": name, "state": name, "steps": []}
    if isinstance(state, EndState):
        return document | {"ending": {"outcome": state.outcome, "undo": state.undo or "all"}}
    document |= {
        "then": state.then,
        "events": {event: _cases(said) for event, said in taken(state).items()},
        "notices": [_notice(name, notice) for notice in state.remind],
        "at_most": state.at_most,
    }
    if isinstance(state, AskingState):
        return document | {"steps": [state.step or name], "on_refused": state.on_refused}
    if state.ask is not None and state.command is not None:
        told = {"notice": f"{name}.{state.command}", "participant": state.ask, "command": state.command, "with": state.with_}
        document["notices"].insert(0, {**told, "every_ms": None})
    deadline = state.deadline and {"after_ms": state.deadline.after, "at": state.deadline.at, "then": state.deadline.then}
    return document | {"all_of": state.all_of, "deadline": deadline}


def _cases(event: Event) -> list[dict[str, Any]]:
    cases: list[EventCase] = list(event.cases or [event])
    return [{"when": case.when, "set": case.set_ or {}, "then": case.then} for case in cases]


def _notice(state: str, notice: Notice) -> dict[str, Any]:
    return {
        "notice": f"{state}.{notice.command}",
        "participant": notice.ask,
        "command": notice.command,
        "with": notice.with_,
        "every_ms": notice.every,
    }


def _events(states: Mapping[str, State]) -> dict[str, dict[str, Any]]:
    events: dict[str, dict[str, Any]] = {}
    for state in states.values():
        for name, event in taken(state).items():
            known = events.setdefault(name, {"source": None, "order_by": None})
            known["source"] = known["source"] or event.from_
            known["order_by"] = known["order_by"] or event.order_by
    return events


def _facts(states: Mapping[str, State]) -> Iterator[dict[str, Any]]:
    """An event with an undo is kept like a step that nobody was asked for."""
    found: set[str] = set()
    for state in states.values():
        for name, event in taken(state).items():
            if event.undo is None or name in found:
                continue
            found.add(name)
            yield {
                "step": name,
                "participant": event.undo.ask or event.from_ or "",
                "command": "",
                "with": None,
                "done_on": name,
                "refused_on": [],
                "deadline_ms": 0,
                "retry": {"attempts": None, "first_ms": 1, "factor": 1.0, "max_ms": 1, "stuck_after": None},
                "pivot": False,
                "harmless": False,
                "undo": expand_undo(event.undo),
            }
