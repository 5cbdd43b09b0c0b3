"""The way forward: from a stage that is done to the next, deciding branches and loops between them (R3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from orchestrator.contract.canonical import parse_time
from orchestrator.errors import MalformedMessage
from orchestrator.saga.asking import ask_stage, leave_state, take_end, tell
from orchestrator.saga.draft import Draft
from orchestrator.saga.expression import Expression, ExpressionError
from orchestrator.saga.order import Cause
from orchestrator.saga.rules import Stage, StateDeadline, StepRule
from orchestrator.saga.undoing import enter_undo, leave_undone, undo_at_once
from orchestrator.saga.way import Choice, Entry, Place


def begin(draft: Draft) -> None:
    """An order opens. Raises: ExpressionError."""
    _walk(draft, draft.rulebook.way.first, "event")


def go_on(draft: Draft, step: StepRule) -> None:
    """Leave a step behind. With the last one open of its stage the order goes on. Raises: ExpressionError."""
    beside = [ask for ask in draft.asks.values() if ask.is_open]
    if not any(ask.alarm and not ask.is_awaited for ask in beside):
        draft.disarm("alert")
    if not beside:
        leave_state(draft)
        _walk(draft, draft.rulebook.way.after(draft.rulebook.stage_of(step)), "event")


def go_to(draft: Draft, name: str, cause: Cause) -> None:
    """Leave a state for another one, whatever is still open in it: that may be done, so it is undone at once. Raises: ExpressionError.

    `cause`: why, should the other one be an end that undoes.
    """
    leave_state(draft)
    stage = draft.rulebook.by_stage[name]
    if stage.ending is None or stage.ending.outcome == "completed":
        for ask in [ask for ask in draft.asks.values() if ask.is_open]:
            undo_at_once(draft, ask)
    _walk(draft, stage, cause)


def arrive_at_next(draft: Draft, stage: Stage) -> None:
    """Leave a state whose events have all come. Raises: ExpressionError."""
    following = draft.rulebook.way.after(stage)
    assert isinstance(following, Stage)
    go_to(draft, following.name, "event")


def arrive(draft: Draft, stage: Stage) -> None:
    """Be in a stage: ask its steps, tell what is to be told, and arm its own deadline. Raises: ExpressionError."""
    ask_stage(draft, stage)
    if stage.deadline is not None:
        arm_state_deadline(draft, stage, stage.deadline)
    for place, notice in enumerate(stage.notices):
        if notice.every_ms is None:
            tell(draft, notice)
        else:
            draft.arm(f"remind:{stage.name}.{place}", notice.every_ms)


def amend(draft: Draft, values: Mapping[str, Expression]) -> None:
    """Change the order's data, and with it the deadline that the state's own takes from there. Raises: ExpressionError."""
    draft.amend(values)
    stage = draft.rulebook.by_state.get(draft.state)
    if values and stage is not None and stage.deadline is not None and stage.deadline.at is not None:
        arm_state_deadline(draft, stage, stage.deadline)


def arm_state_deadline(draft: Draft, stage: Stage, deadline: StateDeadline) -> None:
    """Arm a state's own deadline; one that lies in the past is due at once. Raises: ExpressionError."""
    name = f"state:{stage.name}"
    if deadline.at is None:
        assert deadline.after_ms is not None
        draft.arm(name, deadline.after_ms)
        return
    at = deadline.at.value(draft.names())
    try:
        due_at = max(parse_time(at), draft.now)
    except (MalformedMessage, TypeError, ValueError, AttributeError):
        raise ExpressionError(f"{deadline.at.text}: {at!r} is no time such as 2026-01-31T12:00:00Z") from None
    draft.arm(name, -(-(due_at - draft.now) // timedelta(milliseconds=1)), due_at=due_at)


def _walk(draft: Draft, place: Place, cause: Cause) -> None:
    """Walk to the next stage and be there, or to the end; a loop that came to its last turn in vain is undone."""
    while place is not None and not isinstance(place, Stage):
        if isinstance(place, Choice):
            place = next((then for when, then in place.cases if draft.holds(when)), place.otherwise)
        elif isinstance(place, Entry):
            draft.turns = {**draft.turns, place.turn.name: 1}
            place = place.turn.body
        elif draft.holds(place.until):
            place = place.after
        elif (turns := draft.turns.get(place.name, 1)) < place.at_most:
            draft.turns = {**draft.turns, place.name: turns + 1}
            place = place.body
        elif place.goes_on:
            place = place.after
        else:
            enter_undo(draft, "turns")
            return
    if place is None:
        draft.move("to:completed")
        take_end(draft, "completed")
    elif place.ending is not None:
        _end(draft, place, cause)
    elif place.at_most is not None and draft.turns.get(place.name, 0) >= place.at_most:
        enter_undo(draft, "turns")
    else:
        if place.at_most is not None:
            draft.turns = {**draft.turns, place.name: draft.turns.get(place.name, 0) + 1}
        draft.move(f"to:{place.state}")
        arrive(draft, place)


def _end(draft: Draft, stage: Stage, cause: Cause) -> None:
    """Take an end of the state form: a whole one at once, a failed one when all that it undoes is undone."""
    assert stage.ending is not None
    if stage.ending.outcome == "failed":
        leave_undone(draft, stage.ending)
        enter_undo(draft, cause, goal=stage.state)
        return
    draft.move(f"to:{stage.state}")
    take_end(draft, "completed")
