"""Defects of the core that are planted in tests: of watched steps, and of events from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.saga import asking, decide, events, forward, undoing
from orchestrator.saga.draft import Draft
from orchestrator.saga.rules import Ending
from tests.explore.defects import Patch


def _parked_is_dropped(patch: Patch) -> None:
    """An order that turns back lets go what it had parked."""
    original = undoing.note_unreached

    def note_unreached(draft: Draft) -> None:
        draft.parked = {}
        original(draft)

    patch.setattr(decide, "_turns_back", lambda *_: False)
    patch.setattr(undoing, "note_unreached", note_unreached)


def _unreached_is_not_undone(patch: Patch) -> None:
    """What others may still bring about is not stopped."""
    patch.setattr(undoing, "note_unreached", lambda _draft: None)


def _idle_is_not_undone(patch: Patch) -> None:
    """A watched step that was reached, and of which nothing was heard, counts as never done."""
    original = asking.give_up

    def give_up(draft: Draft, ask: Any) -> Any:
        given_up = original(draft, ask)
        return draft.change(given_up, forward="refused") if ask.forward == "idle" else given_up

    patch.setattr(undoing, "give_up", give_up)


def _not_put_back(*, forward_only: bool) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        original = events._put_back

        def put_back(draft: Draft, *args: Any) -> None:
            if (draft.direction == "forward") != forward_only:
                original(draft, *args)

        patch.setattr(events, "_put_back", put_back)

    return plant


def _joined_twice(patch: Patch) -> None:
    """A second event of one type stands for the one that is missing."""
    original = events._awaited

    def awaited(line: Any, rule: Any, stage: Any) -> Any:
        if rule.type in line.draft.joined:
            line.draft.joined = dict.fromkeys(stage.all_of - {rule.type}, 1)
        return original(line, rule, stage)

    patch.setattr(events, "_awaited", awaited)


def _failed_end_undoes_nothing(patch: Patch) -> None:
    original = undoing.leave_undone

    def leave_undone(draft: Draft, ending: Ending) -> None:
        original(draft, replace(ending, undone=frozenset()))

    patch.setattr(forward, "leave_undone", leave_undone)


def _failed_end_leaves_silently(patch: Patch) -> None:
    """What a failed end does not undo is not listed."""
    patch.setattr(undoing, "leave_standing", lambda draft, ask: draft.change(ask, undo="skipped"))


def _pivot_is_not_passed(patch: Patch) -> None:
    """The watched pivot is passed only when it is asked by command."""
    original = asking.ask_stage

    def ask_stage(draft: Draft, stage: Any) -> None:
        original(draft, stage)
        draft.pivot_passed = draft.pivot_passed and not any(step.watched for step in stage.steps)

    patch.setattr(forward, "ask_stage", ask_stage)


def _parked_at_an_end(patch: Patch) -> None:
    """What is parked stays so when the order comes to its end."""
    original = decide._fitting
    patch.setattr(decide, "_fitting", lambda book, order, now: original(book, order, now) if order.direction == "forward" else ())


def _parked_counts_for_nothing(patch: Patch) -> None:
    """What was parked is late when the order turns back, and nothing comes of it."""
    patch.setattr(events, "_at_last", lambda line, _rule: line.late("passed"))


def _all_is_given_back(patch: Patch) -> None:
    """A late event undoes what came in time, too."""
    original = events._put_back

    def put_back(draft: Draft, *args: Any) -> None:
        original(draft, *args)
        for ask in [ask for ask in draft.asks.values() if ask.undo == "none" and ask.forward == "done"]:
            undoing.undo_at_once(draft, ask)

    patch.setattr(events, "_put_back", put_back)


def _early_is_forgotten(patch: Patch) -> None:
    """What came too early is said to be kept, and is not."""
    original = Draft.finish

    def finish(draft: Draft, input_: Any, verdict: Any, **named: Any) -> Any:
        draft.parked = {} if verdict == "parked" else draft.parked
        return original(draft, input_, verdict, **named)

    patch.setattr(Draft, "finish", finish)


def _no_deadline_of_a_state(patch: Patch) -> None:
    """A state's own deadline leads nowhere."""
    patch.setattr(forward, "arm_state_deadline", lambda *_: None)
    original = Draft.arm
    patch.setattr(Draft, "arm", lambda draft, name, *args, **named: None if name == "patience" else original(draft, name, *args, **named))


#: What is planted → the definition it shows in, the defect, and how the broken promise begins.
LISTENING: dict[str, tuple[str, Callable[[Patch], None], str]] = {
    "what is parked dropped on turning back": ("house_closing", _parked_is_dropped, "R1: FundsReceived"),
    "a watched step that was not reached not undone": ("watched", _unreached_is_not_undone, "The order is over (compensated)"),
    "an idle watched step not undone": ("watched", _idle_is_not_undone, "The order is over (compensated)"),
    "a late event not put back": ("join", _not_put_back(forward_only=False), "R14"),
    "an event that is refused not put back": ("cycle", _not_put_back(forward_only=True), "R14"),
    "a join counted twice": ("join", _joined_twice, "R1: Paid has come already"),
    "a failed end that undoes nothing": ("join", _failed_end_undoes_nothing, "R13"),
    "an effect that a failed end leaves not listed": ("join", _failed_end_leaves_silently, "R10"),
    "a watched pivot not passed when it is reached": ("order_watched", _pivot_is_not_passed, "R12"),
    "what is parked kept at an end": ("house_closing", _parked_at_an_end, "R1: the order is"),
    "what was parked not undone on turning back": ("house_closing", _parked_counts_for_nothing, "R14"),
    "what was kept given back by a completed order": ("join", _all_is_given_back, "R14"),
    "what came too early not kept": ("watched", _early_is_forgotten, "R1: Taken"),
    "no deadline for a state": ("join", _no_deadline_of_a_state, "R27"),
}
