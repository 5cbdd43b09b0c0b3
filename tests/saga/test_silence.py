"""Deadlines that pass: retries, exhaustion, patience, excuses and late confirms."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.saga.inputs import DeadlineDue, SentLate
from orchestrator.saga.retry import backoff_ms
from tests.saga.world import START, story


def test_silence_waits_a_backoff_and_then_asks_again() -> None:
    """Else a silent participant is asked at once, too late, or never (R5)."""
    told = story()
    ask = told.ask("reserve_inventory")
    rule = told.rulebook.by_name["reserve_inventory"].retry
    for attempt in (1, 2, 3):
        assert told.silence("reserve_inventory").commands == ()
        due_at = told.order.deadlines[f"retry:{ask.key}"].due_at
        assert due_at == told.now + timedelta(milliseconds=backoff_ms(rule, attempt, ask.command_id))
        assert told.due(f"retry:{ask.key}").commands[0].attempt == attempt + 1


def test_after_the_last_attempt_the_step_is_unknown_and_is_undone() -> None:
    """Else a step that may have been done is left standing when its participant fell silent (R5, R11)."""
    told = story()
    told.exhaust("reserve_inventory")
    assert told.ask("reserve_inventory").forward == "unknown"
    assert told.sent == ["ReserveInventory"] * 4 + ["ReleaseInventory"]
    assert (told.order.state, told.order.cause) == ("undoing_reserve_inventory", "silence")


def test_a_reply_during_the_backoff_counts() -> None:
    """Else a reply a second after its deadline is thrown away (R5)."""
    told = story()
    told.silence("reserve_inventory")
    assert told.answer("reserve_inventory").verdict == "moved"
    assert told.order.state == "taking_payment"
    assert "retry:reserve_inventory.0.1" not in told.order.deadlines


def test_patience_ends_and_everything_possibly_done_is_undone() -> None:
    """Else an order lives for ever between two silent participants (R7)."""
    told = story("reserve_inventory")
    told.due("patience")
    assert (told.order.cause, told.order.direction) == ("patience", "undoing")
    assert told.sent[-1] == "RefundPayment"


@pytest.mark.parametrize("undo", [False, True])
def test_an_excused_silence_sends_the_same_attempt_and_spends_none(undo: bool) -> None:
    """Else an outage of ours uses up a participant's attempts (R9)."""
    told = story()
    if undo:
        told.act("abort")
    name = "undo_reply:reserve_inventory.0.1" if undo else "reply:reserve_inventory.0.1"
    command = told.due(name, excused=True).commands[0]
    assert command.attempt == 1
    ask = told.ask("reserve_inventory")
    assert (ask.undo_attempts if undo else ask.attempts) == 1
    assert told.last.reason is not None
    assert told.last.reason.startswith("excused")
    assert name in told.order.deadlines


def test_a_deadline_fires_once_and_never_early_or_superseded() -> None:
    """Else silence is declared twice for one wait, or before its time (R18)."""
    told = story()
    armed = told.order.deadlines["reply:reserve_inventory.0.1"]
    due = DeadlineDue(name=armed.name, generation=armed.generation)
    assert armed.due_at is not None
    told.now = armed.due_at - timedelta(microseconds=1)
    assert told.feed(due).entry is None
    told.now = armed.due_at
    assert told.feed(replace(due, generation=armed.generation + 1)).entry is None
    assert told.feed(due).fired_late_s == 0
    assert told.feed(due).entry is None


def test_an_excused_reply_deadline_may_come_early_and_no_other() -> None:
    """Else a participant that lost what it was sent waits for every deadline to pass; or patience ends early (R18, R29)."""
    told = story()
    armed = told.order.deadlines["reply:reserve_inventory.0.1"]
    decision = told.feed(DeadlineDue(name=armed.name, generation=armed.generation, excused=True))
    assert ([command.attempt for command in decision.commands], decision.fired_late_s) == ([1], 0)
    assert told.order.deadlines[armed.name].generation != armed.generation
    patience = told.order.deadlines["patience"]
    assert told.feed(DeadlineDue(name="patience", generation=patience.generation, excused=True)).entry is None


def test_a_late_firing_says_how_late() -> None:
    """Else the lateness metric lies."""
    told = story()
    told.wait(seconds=31.5)
    assert told.silence("reserve_inventory").fired_late_s == 1.5


@pytest.mark.parametrize("undo", [False, True])
def test_a_command_sent_late_has_its_whole_deadline_from_then(undo: bool) -> None:
    """Else a participant is called silent before it could read the command (R5)."""
    told = story()
    if undo:
        told.act("abort")
    told.wait(seconds=20)
    told.feed(SentLate(command_id=told.last.commands[0].command_id if undo else told.commands[0].command_id))
    name = ("undo_reply" if undo else "reply") + ":reserve_inventory.0.1"
    assert told.order.deadlines[name].due_at == START + timedelta(seconds=50)
    assert told.feed(SentLate(command_id="gone")).entry is None
