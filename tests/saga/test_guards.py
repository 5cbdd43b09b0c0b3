"""What a definition asks of an answer, changes of the data, gives as time, and says of events at the wrong time (R1, R5)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.saga.decision import Decision
from orchestrator.saga.rulebook import Rulebook
from tests.saga.listening import WATCHED_RULES
from tests.saga.world import DATA, START, Story, compiled, story

GUARDED_TEXT = """
definition: guarded
version: 1
opens_on: Opened
key: order_id
patience: 10m
abort_on: [CalledOff]
steps:
  - step: quote
    ask: desk
    command: Quote
    with: [order_id, amount_minor]
    done_on: Quoted
    done_when: event.price <= order.amount_minor
    set: {amount_minor: event.price, was: order.amount_minor}
    refused_on: NotQuoted
    deadline: 10s
    patience: 14s
    retry: {attempts: 3, first: 2s}
    undo: {command: Unquote, with: [order_id, amount_minor], done_on: Unquoted, deadline: 10s}
  - step: pay
    ask: bank
    command: Pay
    with: [amount_minor, was]
    done_on: Paid
    done_when: replies.quote.price == order.amount_minor
    deadline: 10s
    pivot: true
"""
GUARDED = compiled(GUARDED_TEXT)


def guarded() -> Story:
    """An order that waits for its quote."""
    return story(rulebook=GUARDED)


def with_policies(*rows: str) -> Rulebook:
    """The same definition, with what it says of events at the wrong time."""
    return compiled(GUARDED_TEXT + "policies:\n" + "".join(f"  - {row}\n" for row in rows))


# --- done_when


def test_an_answer_that_its_guard_refuses_is_noted_and_waited_past() -> None:
    """Else an answer that the definition does not accept completes the step."""
    told = guarded()
    before = told.order
    decision = told.answer("quote", data={"price": 501})
    assert (decision.verdict, decision.reason) == ("refused", "guard: event.price <= order.amount_minor does not hold")
    assert (decision.quarantine, decision.guards) == (None, (("event.price <= order.amount_minor", False),))
    assert (told.order.asks, told.order.deadlines, told.order.replies) == (before.asks, before.deadlines, {})
    assert told.journal[-1].message_id == "m2"
    assert told.answer("quote", data={"price": 500}).verdict == "moved"
    assert told.order.state == "pay"


def test_a_guard_that_cannot_be_asked_refuses_to_the_quarantine() -> None:
    """Else an answer without a field counts as done, or stops the line."""
    told = guarded()
    decision = told.answer("quote", data={})
    assert (decision.verdict, decision.quarantine, told.order.state) == ("refused", "expression", "quote")
    assert told.answer("quote", data={"price": "much"}).quarantine == "expression"


def test_a_guard_is_asked_of_what_is_awaited_alone() -> None:
    """Else a success that comes when the order is being undone is not counted, and its effect stays (R11)."""
    told = guarded()
    told.act("abort")
    told.answer("quote", data={"price": 9_999})
    assert (told.ask("quote").forward, told.last.commands[0].name, told.last.guards) == ("done", "Unquote", ())


def test_an_order_whose_answers_never_hold_is_undone_like_one_that_hears_nothing() -> None:
    """Else a refused answer keeps an order waiting for ever."""
    told = guarded()
    told.answer("quote", data={"price": 501})
    told.due("patience:quote.0.1")
    assert (told.order.cause, told.sent[-1]) == ("patience", "Unquote")


def test_what_was_refused_is_undone_all_the_same() -> None:
    """Else the effect behind an answer that was not accepted stays (R11)."""
    told = guarded()
    told.answer("quote", data={"price": 501})
    told.act("abort")
    assert told.ask("quote").undo == "asked"


# --- set


def test_a_success_changes_the_data_each_field_computed_of_the_order_as_it_was() -> None:
    """Else fields depend on the order in which they are written, or what was agreed at the opening is lost."""
    told = guarded()
    told.answer("quote", data={"price": 400})
    assert dict(told.order.amended) == {"amount_minor": 400, "was": 500}
    assert (told.order.facts["amount_minor"], told.order.data["amount_minor"]) == (400, 500)
    assert told.last.commands[0].data == {"amount_minor": 400, "was": 500}


def test_an_order_whose_data_changed_is_still_opened_by_equal_data() -> None:
    """Else the shop's repetition of an order is a conflict (R16)."""
    told = guarded()
    told.answer("quote", data={"price": 400})
    assert told.feed(told.message("Opened", source="shop", data=DATA)).verdict == "duplicate"
    assert told.feed(told.message("Opened", source="shop", data={**DATA, "amount_minor": 400})).quarantine == "order_exists"


def test_an_undo_carries_the_data_as_it_is_and_stays_so() -> None:
    """Else an undo names what was agreed before, or another thing at each attempt (R6)."""
    told = guarded()
    told.answer("quote", data={"price": 400})
    told.answer("pay", "too_late")
    assert told.last.commands[0].data == {"order_id": "o1", "amount_minor": 400}


def test_a_late_or_refused_answer_changes_no_data() -> None:
    """Else what the order did not take is agreed all the same."""
    told = guarded()
    told.answer("quote", data={"price": 501})
    told.answer("quote", "refused")
    told.answer("quote", data={"price": 1})
    assert told.order.amended == {}


def test_the_journal_says_what_changed_and_nothing_where_nothing_did() -> None:
    """Else a history without such rules is written otherwise than before (R25)."""
    told = guarded()
    told.answer("quote", data={"price": 400})
    assert b'"amended"' not in told.journal[0].patch
    assert b'"amended":{"amount_minor":400,"was":500}' in told.journal[1].patch


# --- patience of a step


def test_a_steps_patience_ends_its_attempts() -> None:
    """Else a step takes as long as its attempts, whatever the definition gives it (R5)."""
    told = guarded()
    told.silence("quote")
    told.due()
    assert told.order.deadlines["patience:quote.0.1"].due_at == START + timedelta(seconds=14)
    told.due("patience:quote.0.1")
    assert (told.now - START, told.order.cause, told.ask("quote").forward) == (timedelta(seconds=14), "patience", "unknown")
    assert [name for name in told.order.deadlines if not name.startswith("undo")] == []


def test_an_answer_ends_a_steps_patience() -> None:
    """Else an order is undone for a step that is done."""
    told = guarded()
    told.answer("quote", data={"price": 400})
    assert set(told.order.deadlines) == {"reply:pay.0.1"}


def test_a_steps_patience_counts_the_watching_and_is_kept_by_the_first_command() -> None:
    """Else a watched step has its time twice."""
    told = story(rulebook=WATCHED_RULES)
    limit = told.order.deadlines["patience:stock.0.1"]
    told.silence("stock")
    assert told.order.deadlines["patience:stock.0.1"] == limit
    told.due("patience:stock.0.1")
    assert (told.order.cause, told.ask("stock").forward) == ("patience", "unknown")


def test_a_retry_gives_a_step_its_time_anew() -> None:
    """Else an operator's retry is given up a moment later."""
    told = guarded()
    told.wait(seconds=9)
    told.act("retry")
    assert told.order.deadlines["patience:quote.0.1"].due_at == told.now + timedelta(seconds=14)


def test_a_hold_stops_a_steps_patience() -> None:
    """Else a held order is undone (R23)."""
    told = guarded()
    told.act("hold")
    assert told.order.deadlines["patience:quote.0.1"].remaining_ms == 14_000


# --- policies


def abort_late(told: Story) -> Decision:
    """The order is called off when there is no way back."""
    told.answer("quote", data={"price": 400})
    return told.feed(told.message("CalledOff", source="shop"))


@pytest.mark.parametrize(
    ("row", "quarantine"),
    [
        ("{event: CalledOff, late: quarantine}", "late"),
        ("{event: CalledOff, in: [pay], late: quarantine}", "late"),
        ("{event: CalledOff, in: [quote], late: quarantine}", None),
        ("{event: CalledOff, late: note}", None),
        ("{event: CalledOff, in: [undoing_quote], late: quarantine}", None),
    ],
)
def test_a_policy_lets_a_human_see_what_is_late_in_its_states(row: str, quarantine: str | None) -> None:
    """Else a definition's word about an event in a state is not kept, or is kept in others (R1)."""
    decision = abort_late(story(rulebook=with_policies(row)))
    assert (decision.verdict, decision.quarantine) == ("late", quarantine)


def test_a_row_that_names_a_state_goes_before_one_that_names_none() -> None:
    """Else an exception cannot be made."""
    rows = ("{event: CalledOff, late: quarantine}", "{event: CalledOff, in: [pay], late: note}")
    for order in (rows, rows[::-1]):
        assert abort_late(story(rulebook=with_policies(*order))).quarantine is None


def test_what_a_human_is_let_see_is_done_all_the_same_and_can_be_replayed() -> None:
    """Else a policy leaves an effect standing, or a replay of what it showed is a duplicate (R14, R15)."""
    told = story(rulebook=with_policies("{event: Quoted, late: quarantine}"))
    told.answer("quote", "refused")
    decision = told.answer("quote", data={"price": 1})
    assert (decision.verdict, decision.quarantine, [command.name for command in decision.commands]) == ("late", "late", ["Unquote"])
    assert told.journal[-1].message_id is None
    assert told.answer("quote", data={"price": 1}).verdict == "duplicate"


def test_an_unexpected_event_is_ignored_or_seen() -> None:
    """Else what nobody awaits is lost where the definition wants it seen."""
    told = story(rulebook=WATCHED_RULES)
    told.answer("stock", data={"shelf": 3})
    decision = told.feed(told.message("Weighed", source="printer", commandid=told.ask("label").command_id))
    assert (decision.verdict, decision.quarantine) == ("ignored", "unexpected")


@pytest.mark.parametrize(("event", "source", "verdict"), [("LabelPrinted", "printer", "ignored"), ("LabelRefused", "printer", "parked")])
def test_a_policy_lets_an_early_event_go(event: str, source: str, verdict: str) -> None:
    """Else what a definition does not want kept is kept."""
    told = story(rulebook=WATCHED_RULES)
    decision = told.feed(told.message(event, source=source))
    assert (decision.verdict, len(told.order.parked)) == (verdict, int(verdict == "parked"))


def test_a_policy_lets_a_human_see_an_early_event() -> None:
    """Else a choreography that runs ahead is not noticed where it must not."""
    text = """
definition: early
version: 1
opens_on: Opened
key: order_id
patience: 1h
states:
  one: {on: {First: two}, deadline: {after: 1m, then: off}}
  two: {on: {Second: done}, deadline: {after: 1m, then: off}}
  done: {outcome: completed}
  off: {outcome: failed}
policies: [{event: Second, early: quarantine}]
"""
    told = story(rulebook=compiled(text))
    decision = told.feed(told.message("Second", source="x"))
    assert (decision.verdict, decision.quarantine, told.order.parked) == ("refused", "early", {})
    told.feed(told.message("First", source="x"))
    assert told.feed(told.message("Second", source="x")).verdict == "moved"
