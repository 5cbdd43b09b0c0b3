"""The way forward: from a stage that is done to the next, deciding branches and loops between them (R3)."""

from __future__ import annotations

from orchestrator.saga.asking import ask_stage, take_end
from orchestrator.saga.draft import Draft
from orchestrator.saga.rules import Stage, StepRule
from orchestrator.saga.undoing import enter_undo
from orchestrator.saga.way import Choice, Entry, Place


def begin(draft: Draft) -> None:
    """An order opens. Raises: ExpressionError."""
    _walk(draft, draft.rulebook.way.first)


def go_on(draft: Draft, step: StepRule) -> None:
    """Leave a step behind. With the last one open of its stage the order goes on. Raises: ExpressionError."""
    beside = [ask for ask in draft.asks.values() if ask.is_open]
    if not any(ask.alarm and ask.forward != "asked" for ask in beside):
        draft.disarm("alert")
    if not beside:
        _walk(draft, draft.rulebook.way.after(draft.rulebook.stage_of(step)))


def _walk(draft: Draft, place: Place) -> None:
    """Walk to the next stage and ask it, or to the end; a loop that came to its last turn in vain is undone."""
    while place is not None and not isinstance(place, Stage):
        if isinstance(place, Choice):
            names = draft.names()
            place = next((then for when, then in place.cases if when.holds(names)), place.otherwise)
        elif isinstance(place, Entry):
            draft.turns = {**draft.turns, place.turn.name: 1}
            place = place.turn.body
        elif place.until.holds(draft.names()):
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
        take_end(draft)
    else:
        draft.move(f"to:{place.state}")
        ask_stage(draft, place)
