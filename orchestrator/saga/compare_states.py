"""What differs between two graphs of states, in sentences by state and by event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.saga.differences import NONE, Pairs, computed, expression, fields, maybe, names, told, undoing
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import EventCase, EventRule, Notice, Stage, StateDeadline


def compare_states(old: Rulebook, new: Rulebook) -> Iterator[tuple[str, str]]:
    """Each difference: the state or event that it is about, and what it is. Steps are compared like those of a line."""
    for name, stage in old.by_stage.items():
        if name not in new.by_stage:
            yield name, "the state is removed. Orders in it have no such state there."
        else:
            yield from ((name, text) for text in told(_state(old, stage, new, new.by_stage[name])))
    yield from ((name, f"the state is added: {_kind(stage)}.") for name, stage in new.by_stage.items() if name not in old.by_stage)
    for name, rule in old.events.items():
        if name not in new.events:
            yield name, "no state takes this event there."
        else:
            yield from ((name, text) for text in told(_event(rule, new.events[name])))
    yield from ((name, "a state takes this event there, and none does here.") for name in new.events if name not in old.events)


def _kind(stage: Stage) -> str:
    if stage.ending is not None:
        return f"an end, {stage.ending.outcome}"
    return f"it asks {stage.steps[0].name}" if stage.steps else "it waits"


def _state(old: Rulebook, was: Stage, new: Rulebook, becomes: Stage) -> Pairs:
    events = {
        f"on {event}": (_cases(was.events.get(event)), _cases(becomes.events.get(event)))
        for event in sorted({*was.events, *becomes.events})
    }
    return {
        "kind": (_kind(was), _kind(becomes)),
        **events,
        "all of": (names(was.all_of), names(becomes.all_of)),
        "then": (_then(old, was), _then(new, becomes)),
        "when it is refused": (was.on_refused or "undo", becomes.on_refused or "undo"),
        "deadline": (_deadline(was.deadline), _deadline(becomes.deadline)),
        "told": (names(map(_notice, was.notices)), names(map(_notice, becomes.notices))),
        "entries at most": (str(was.at_most or "without limit"), str(becomes.at_most or "without limit")),
        "undoes": (_undone(was), _undone(becomes)),
    }


def _event(was: EventRule, becomes: EventRule) -> Pairs:
    one, other = was.undone_as, becomes.undone_as
    asked = {"who undoes it": (one.participant, other.participant)} if one is not None and other is not None else {}
    return {
        "published by": (was.source or "anyone", becomes.source or "anyone"),
        "ordered by": (was.order_by or NONE, becomes.order_by or NONE),
        **asked,
        **undoing(one.undo if one is not None else None, other.undo if other is not None else None),
    }


def _cases(cases: Sequence[EventCase] | None) -> str:
    if cases is None:
        return "not taken"
    said = []
    for case in cases:
        when = f"when {expression(case.when)} " if case.when is not None else ""
        changing = f", changing {computed(case.set)}" if case.set else ""
        said.append(f"{when}{case.then or 'it stays'}{changing}")
    return ", else ".join(said)


def _then(rulebook: Rulebook, stage: Stage) -> str:
    following = rulebook.way.after(stage)
    return following.state if isinstance(following, Stage) else NONE


def _deadline(deadline: StateDeadline | None) -> str:
    if deadline is None:
        return NONE
    at = f"at {expression(deadline.at)}" if deadline.at is not None else f"after {maybe(deadline.after_ms)}"
    return f"{at}, then {deadline.then}"


def _notice(notice: Notice) -> str:
    when = "at the entry" if notice.every_ms is None else f"every {maybe(notice.every_ms)}"
    return f"{notice.command} to {notice.participant} {when} with {fields(notice.fields)}"


def _undone(stage: Stage) -> str:
    return names(stage.ending.undone) if stage.ending is not None and stage.ending.outcome == "failed" else NONE
