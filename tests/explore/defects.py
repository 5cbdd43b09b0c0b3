"""Defects of the core that are planted in tests: of asking, and of undoing what was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.saga import acts, asking, decide, forward, messages, silence, undoing
from orchestrator.saga.draft import Draft
from orchestrator.saga.order import Ask

Patch = pytest.MonkeyPatch


def _possibly_done(patch: Patch) -> None:
    """The undo of the silent step is dropped: only what is known to be done is undone."""
    patch.setattr(Ask, "possibly_done", property(lambda ask: ask.forward == "done"))


def _late_success_ignored(patch: Patch) -> None:
    original = messages._success

    def success(line: Any, step: Any, ask: Ask) -> Any:
        return original(line, step, ask) if ask.undo == "none" else line.late("ignored")

    patch.setattr(messages, "_success", success)


def _not_sent_again(patch: Patch) -> None:
    """A late success is noted, and its undo not sent again."""
    patch.setattr(messages, "send_undo", lambda *_args, **_named: None)


def _wrong_order(patch: Patch) -> None:
    """What was asked first is undone first."""
    original = undoing.undo_next

    def undo_next(draft: Draft) -> None:
        asks = list(draft.asks.values())
        if not any(ask.undo_is_open for ask in asks):
            for ask in asks:
                rule = draft.rulebook.by_name[ask.step]
                if ask.undo == "none" and ask.possibly_done and rule.undo is not None:
                    undoing.send_undo(draft, rule, rule.undo, ask)
                    draft.move(f"undo:{ask.step}")
                    return
        original(draft)

    patch.setattr(undoing, "undo_next", undo_next)


def _all_at_once(patch: Patch) -> None:
    """No undo waits for another."""
    original = undoing.undo_next

    def undo_next(draft: Draft) -> None:
        for ask in list(draft.asks.values()):
            rule = draft.rulebook.by_name[ask.step]
            if ask.undo == "none" and ask.possibly_done and rule.undo is not None:
                undoing.send_undo(draft, rule, rule.undo, ask)
        original(draft)

    patch.setattr(undoing, "undo_next", undo_next)


def _force_skips_an_undo(patch: Patch) -> None:
    patch.setattr(acts, "undo_at_once", asking.give_up)


def _patience_runs_on(patch: Patch) -> None:
    """The pivot does not disarm patience."""
    original = Draft.disarm
    patch.setattr(Draft, "disarm", lambda draft, *names: original(draft, *(names if names != ("patience",) else ())))


def _not_armed(prefix: str) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        original = Draft.arm

        def arm(draft: Draft, name: str, *args: Any, **named: Any) -> None:
            if not name.startswith(prefix):
                original(draft, name, *args, **named)

        patch.setattr(Draft, "arm", arm)

    return plant


def _counted_twice(patch: Patch) -> None:
    """A copy of a reply counts like the first."""
    original = messages.decide_message
    patch.setattr(decide, "decide_message", lambda book, order, message, now: original(book, order, replace(message, seen="no"), now))


def _refusal_ignored(patch: Patch) -> None:
    patch.setattr(messages, "_refusal", lambda line, *_: line.ignored("unexpected"))


def _refusal_journaled_only(patch: Patch) -> None:
    """A refusal of the pivot is said to move the order, and does not."""
    original = messages._refusal
    patch.setattr(messages, "_refusal", lambda line, step, ask: line.moved() if step.pivot else original(line, step, ask))


def _too_late_ignored(patch: Patch) -> None:
    patch.setattr(messages, "COMMAND_TOO_LATE", "Nothing")


def _backoff_is_deaf(patch: Patch) -> None:
    """A reply that comes during the backoff does not count."""
    original = messages._success

    def success(line: Any, step: Any, ask: Ask) -> Any:
        return line.late("deaf") if f"retry:{ask.key}" in line.draft.deadlines else original(line, step, ask)

    patch.setattr(messages, "_success", success)


def _no_confirmation_needed(patch: Patch) -> None:
    """An undo counts as done once it was sent."""
    original = undoing.send_undo

    def send_undo(draft: Draft, step: Any, undo: Any, ask: Ask, **named: Any) -> None:
        original(draft, step, undo, ask, **named)
        draft.change(draft.asks[ask.key], undo="undone")

    patch.setattr(undoing, "send_undo", send_undo)


def _undo_given_up(patch: Patch) -> None:
    """An undo that stays silent is left standing, and nobody said so."""

    def overdue(draft: Draft, _step: Any, _undo: Any, ask: Ask, **_named: Any) -> None:
        undoing.leave_standing(draft, ask)
        undoing.go_on_back(draft)

    patch.setattr(silence, "_confirmation_is_overdue", overdue)


def _unlisted(patch: Patch) -> None:
    """What is abandoned is not listed."""
    patch.setattr(acts, "leave_standing", lambda draft, ask: draft.change(ask, undo="skipped"))


def _skipped_is_refused(patch: Patch) -> None:
    """A step that an operator went past counts as never done."""
    patch.setattr(acts, "give_up", lambda draft, ask: draft.change(asking.give_up(draft, ask), forward="refused"))


def _silence_ends_it(patch: Patch) -> None:
    """When attempts are used up the order ends at once."""

    def enter_undo(draft: Draft, _cause: str) -> None:
        for ask in [ask for ask in draft.asks.values() if ask.is_open]:
            asking.give_up(draft, ask)
        draft.move("undone:compensated")
        asking.take_end(draft, "compensated")

    patch.setattr(silence, "enter_undo", enter_undo)


def _abort_across_the_pivot(patch: Patch) -> None:
    def abort(line: Any) -> Any:
        undoing.enter_undo(line.draft, "aborted")
        return line.moved()

    patch.setattr(messages, "_abort", abort)


def _force_across_the_pivot(patch: Patch) -> None:
    patch.setattr(acts, "_pivot_was_refused", lambda *_: True)


def _never_announced(patch: Patch) -> None:
    patch.setattr(asking, "settle", lambda _draft: None)


def _clocks_stay_stopped(patch: Patch) -> None:
    """The end of a hold leaves the other deadlines without a time."""

    def lift_hold(draft: Draft) -> None:
        draft.held = False
        draft.disarm("hold")

    for module in (acts, asking, silence):
        patch.setattr(module, "lift_hold", lift_hold)


def _next_step_not_asked(patch: Patch) -> None:
    """The order moves on, and asks nobody."""
    patch.setattr(forward, "ask_stage", lambda *_: None)


def _raises(patch: Patch) -> None:
    """An undo that names a reply which never came raises."""

    def body(draft: Draft, _fields: Any) -> dict[str, Any]:
        return {"id": draft.replies["pay"]["payment_id"]} if draft.direction == "undoing" else {}

    patch.setattr(undoing, "surely", body)


def _dies_after_the_alarm(patch: Patch) -> None:
    """Once the alarm was given nothing is sent any more: the patience of humans is the only clock left."""
    original = silence._reply_is_overdue

    def overdue(draft: Draft, step: Any, ask: Ask, **named: Any) -> None:
        if ask.alarm:
            draft.arm(f"reply:{ask.key}", 1_000)
        else:
            original(draft, step, ask, **named)

    patch.setattr(silence, "_reply_is_overdue", overdue)


#: What is planted → the definition it shows in, the defect, and how the broken promise begins.
ASKING: dict[str, tuple[str, Callable[[Patch], None], str]] = {
    "the undo of the silent step dropped": ("pair", _possibly_done, "The order is over (compensated)"),
    "a late success ignored": ("pair", _late_success_ignored, "R14"),
    "an undo not sent again after a late success": ("pair", _not_sent_again, "R14"),
    "two undos out of order": ("pair", _wrong_order, "R11"),
    "all undos at once": ("pair", _all_at_once, "R11"),
    "a force that skips an undo": ("pair", _force_skips_an_undo, "The order is over (completed)"),
    "patience after the pivot": ("pivot", _patience_runs_on, "R12"),
    "no deadline for a reply": ("pair", _not_armed("reply:"), "R27"),
    "no deadline for an undo": ("pair", _not_armed("undo_reply:"), "R27"),
    "no deadline for the next attempt": ("pair", _not_armed("retry:"), "R27"),
    "no alert for a refusal after the pivot": ("after", _not_armed("alert"), "R27"),
    "a reply counted twice": ("pair", _counted_twice, "R15"),
    "a refusal ignored": ("pair", _refusal_ignored, "R1"),
    "a refusal that moves nothing": ("pivot", _refusal_journaled_only, "No end"),
    "CommandTooLate ignored": ("pair", _too_late_ignored, "R1"),
    "a reply in the backoff ignored": ("pair", _backoff_is_deaf, "R1"),
    "an undo not waited for": ("pair", _no_confirmation_needed, "R11"),
    "an undo given up": ("pair", _undo_given_up, "R13"),
    "an abandoned effect not listed": ("pair", _unlisted, "R10"),
    "a skipped step taken for refused": ("pair", _skipped_is_refused, "The order is over"),
    "an end without undo": ("pair", _silence_ends_it, "R13"),
    "an abort across the pivot": ("pivot", _abort_across_the_pivot, "R12"),
    "a force back across the pivot": ("pivot", _force_across_the_pivot, "R12"),
    "an end never announced": ("pair", _never_announced, "R22"),
    "clocks that stay stopped": ("pair", _clocks_stay_stopped, "R27"),
    "the next step not asked": ("pair", _next_step_not_asked, "R27"),
    "an undo that raises": ("pair", _raises, "R1"),
    "no attempt after the alarm": ("after", _dies_after_the_alarm, "No end"),
}
