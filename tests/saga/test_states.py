"""The state form: events from outside, joins, deadlines, reminders, ends, and what comes at the wrong time (R1, R10, R11, R14, R22)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.contract import canonical, command_id, event_command_id
from orchestrator.saga.decision import Decision
from orchestrator.saga.standing import allowed_acts, waiting_on
from tests.saga.listening import HOUSE_DATA, HOUSE_RULES, HOUSE_TEXT, SALE_DATA, STATES_RULES
from tests.saga.world import START, Story, compiled, story

MONEY = {"amount_minor": 500}
SOURCES = {"BuyerSigned": "agent", "SellerSigned": "agent", "ClosingAmended": "agent", "FundsReceived": "bank", "Bid": "bidder"}


def closing(*events: str) -> Story:
    """A house closing to which these events came."""
    told = story(rulebook=HOUSE_RULES, data=HOUSE_DATA)
    for name in events:
        heard(told, name, MONEY if name == "FundsReceived" else {})
    return told


def sale(*events: str) -> Story:
    """A sale to which these events came."""
    told = story(rulebook=STATES_RULES, data=SALE_DATA)
    for name in events:
        heard(told, name, {"name": "n"}, source="seller" if name == "SellerSigned" else None)
    return told


def counting() -> Story:
    """A sale that counts bids."""
    return sale("Listed", "BuyerSigned", "SellerSigned")


def heard(told: Story, name: str, data: Mapping[str, Any] = HOUSE_DATA, *, source: str | None = None) -> Decision:
    """An event from outside comes."""
    return told.feed(told.message(name, source=source or SOURCES.get(name, "anyone"), data=data))


def money(told: Story, amount_minor: int) -> Decision:
    """A deposit comes."""
    return heard(told, "FundsReceived", {"amount_minor": amount_minor})


def amended(told: Story, amendment: Any, price_minor: int = 600, funds_due_at: Any = "2026-12-10T12:00:00Z") -> Decision:
    """The closing is amended."""
    return heard(told, "ClosingAmended", {"amendment": amendment, "price_minor": price_minor, "funds_due_at": funds_due_at})


def bid(told: Story, amount: int, number: int) -> Decision:
    """A bid comes."""
    return heard(told, "Bid", {"amount": amount, "number": number})


def standing(told: Story) -> list[str]:
    """What the latest entry lists as left standing."""
    found: list[str] = canonical.load(told.journal[-1].effects).get("left_standing", [])
    return found


# --- joins


@pytest.mark.parametrize("events", [("BuyerSigned", "SellerSigned"), ("SellerSigned", "BuyerSigned")])
def test_all_events_of_a_join_come_in_any_order(events: tuple[str, str]) -> None:
    """Else a closing depends on who signs first."""
    told = closing(events[0])
    assert (told.order.state, dict(told.order.joined)) == ("awaiting_signatures", {events[0]: 2})
    heard(told, events[1])
    assert (told.order.state, told.order.joined) == ("awaiting_funds", {})


def test_one_event_twice_is_not_two_of_a_join() -> None:
    """Else one party signs for both."""
    told = closing("BuyerSigned")
    decision = heard(told, "BuyerSigned")
    assert (decision.verdict, told.order.state) == ("duplicate", "awaiting_signatures")
    assert (decision.reason or "").startswith("joined")


def test_an_event_of_a_join_that_its_guard_refuses_does_not_join() -> None:
    """Else a guard on a join guards nothing."""
    told = sale("Listed", "BuyerSigned")
    assert heard(told, "SellerSigned", {}, source="seller").verdict == "refused"
    assert (told.order.state, dict(told.order.joined)) == ("signing", {"BuyerSigned": 3})
    assert heard(told, "SellerSigned", {"name": "n"}, source="seller").verdict == "moved"
    assert told.order.state == "counting"


@pytest.mark.parametrize("name", ["Listed", "Shown"])
def test_any_event_of_a_choice_leads_on(name: str) -> None:
    """Else an order waits for all of what one is enough of."""
    assert sale(name).order.state == "signing"


def test_a_state_that_is_entered_again_waits_for_all_of_its_events_again() -> None:
    """Else a signature of the first round counts for the second."""
    told = counting()
    bid(told, 60, 1)
    assert (told.order.state, told.order.joined) == ("signing", {})
    heard(told, "BuyerSigned")
    assert told.order.state == "signing"


# --- what does not fit


@pytest.mark.parametrize("name", ["BuyerSigned", "FundsReceived", "ClosingAmended"])
def test_an_event_of_another_publisher_is_quarantined(name: str) -> None:
    """Else anyone signs, pays or amends."""
    told = closing()
    decision = heard(told, name, source="stranger")
    assert (decision.verdict, decision.quarantine, told.order.parked) == ("refused", "wrong_source", {})


def test_an_event_with_the_id_of_no_command_is_quarantined() -> None:
    """Else an answer to another order's command moves this one (R1)."""
    told = closing()
    decision = told.feed(told.message("BuyerSigned", source="agent", commandid="other"))
    assert (decision.verdict, decision.quarantine) == ("refused", "unknown_command")


def test_an_event_on_which_nobody_can_decide_is_refused_and_changes_nothing() -> None:
    """Else one message without a field moves the order, or stops the line (R1)."""
    told = closing("BuyerSigned", "SellerSigned")
    before = told.order
    decision = heard(told, "FundsReceived", {})
    assert (decision.verdict, decision.quarantine, decision.commands) == ("refused", "expression", ())
    assert (told.order.asks, told.order.deadlines, told.journal[-1].message_id) == (before.asks, before.deadlines, None)


def test_an_event_whose_state_is_over_is_late() -> None:
    """Else a signature is taken twice, or is an error (R1)."""
    told = closing("BuyerSigned", "SellerSigned")
    assert heard(told, "BuyerSigned").verdict == "late"
    assert heard(told, "Nothing").verdict == "ignored"


def test_the_first_case_that_holds_is_taken() -> None:
    """Else an event leads where its data does not."""
    for amount, state in ((100, "reserving"), (99, "signing"), (-1, "undoing_counting")):
        told = counting()
        bid(told, amount, 1)
        assert told.order.state == state


def test_when_no_case_holds_the_event_is_refused_with_what_does_not_hold() -> None:
    """Else nobody can tell why an event did nothing."""
    told = counting()
    decision = bid(told, 0, 1)
    assert (decision.verdict, told.order.state) == ("refused", "counting")
    guards = ("event.amount >= 100", "event.amount >= 50", "event.amount < 0")
    assert decision.reason == "guard: " + " and ".join(f"{guard} does not hold" for guard in guards)
    assert decision.guards == tuple((guard, False) for guard in guards)


# --- amendments and deadlines


def test_an_amendment_changes_the_data_and_moves_the_deadline_that_is_taken_from_it() -> None:
    """Else the order ends at a time, or asks a price, that was agreed otherwise."""
    told = closing("BuyerSigned", "SellerSigned")
    assert told.order.deadlines["state:awaiting_funds"].due_at == START + timedelta(days=30)
    amended(told, 1)
    assert told.order.deadlines["state:awaiting_funds"].due_at == START + timedelta(days=39)
    assert (told.order.facts["price_minor"], told.order.data["price_minor"], told.order.state) == (600, 500, "awaiting_funds")
    assert money(told, 599).verdict == "refused"
    assert money(told, 600).verdict == "moved"
    told.answer("recording_deed")
    assert told.last.commands[0].data == {"closing_id": "o1", "price_minor": 600}


def test_an_amendment_of_before_counts_in_the_states_after_it() -> None:
    """Else what was agreed early is forgotten."""
    told = closing()
    amended(told, 1)
    assert told.order.deadlines["state:awaiting_signatures"].due_at == START + timedelta(days=14)
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned")
    assert told.order.deadlines["state:awaiting_funds"].due_at == START + timedelta(days=39)


@pytest.mark.parametrize("mark", [2, 1, "3", None, True, [9]])
def test_an_amendment_that_is_not_above_the_last_is_late_and_changes_nothing(mark: Any) -> None:
    """Else the order of arrival, which nobody promises, decides what was agreed."""
    told = closing("BuyerSigned", "SellerSigned")
    amended(told, 2)
    before = told.order
    assert amended(told, mark, price_minor=1).verdict == "late"
    assert (told.order.amended, told.order.deadlines) == (before.amended, before.deadlines)
    assert amended(told, 2.5, price_minor=700).verdict == "moved"


def test_marks_may_be_texts() -> None:
    """Else amendments that are numbered by their time cannot be ordered."""
    told = closing("BuyerSigned", "SellerSigned")
    assert [amended(told, mark).verdict for mark in ("2026-01-02", "2026-01-01", "2026-01-03", 4)] == ["moved", "late", "moved", "late"]


@pytest.mark.parametrize("at", ["soon", None, 7, "2026-12-10", "2026-12-10T12:00:00", {}])
def test_an_amendment_without_a_time_is_refused_and_changes_nothing(at: Any) -> None:
    """Else a slip of the pen takes away the end of a wait (R27)."""
    told = closing("BuyerSigned", "SellerSigned")
    before = told.order
    decision = amended(told, 1, funds_due_at=at)
    assert (decision.verdict, decision.quarantine) == ("refused", "expression")
    assert (told.order.amended, told.order.deadlines, told.order.replies) == (before.amended, before.deadlines, before.replies)


def test_a_deadline_that_is_moved_into_the_past_is_due_at_once() -> None:
    """Else the order waits on for what can come no longer."""
    told = closing("BuyerSigned", "SellerSigned")
    amended(told, 1, funds_due_at="2026-01-01T00:00:00Z")
    assert told.order.deadlines["state:awaiting_funds"].due_at == told.now
    told.due("state:awaiting_funds")
    assert (told.order.state, told.order.status, told.order.cause) == ("closing_unfinished", "failed", "deadline")


def test_a_moved_deadline_fires_at_its_new_time_alone() -> None:
    """Else an extension is given, and the order ends all the same (R18)."""
    told = closing("BuyerSigned", "SellerSigned")
    old = told.order.deadlines["state:awaiting_funds"]
    amended(told, 1)
    assert told.order.deadlines["state:awaiting_funds"].generation > old.generation


def test_a_deadline_leads_where_the_definition_says() -> None:
    """Else a state that waited long enough goes nowhere."""
    told = closing()
    told.due("state:awaiting_signatures")
    assert (told.order.state, told.order.status, told.announced) == ("closing_unfinished", "failed", ["ClosingFailed"])
    assert told.order.deadlines == {}


def test_a_state_whose_deadline_cannot_be_computed_is_not_entered() -> None:
    """Else an order waits without an end (R27)."""
    told = story(rulebook=HOUSE_RULES, data={**HOUSE_DATA, "funds_due_at": "soon"})
    heard(told, "BuyerSigned")
    decision = heard(told, "SellerSigned")
    assert (decision.quarantine, told.order.state) == ("expression", "awaiting_signatures")
    assert told.act("force", to="awaiting_funds").problem == "conflict"
    amended(told, 1)
    assert heard(told, "SellerSigned").verdict == "moved"
    assert told.order.state == "awaiting_funds"


def test_a_hold_keeps_what_is_left_of_a_states_clocks() -> None:
    """Else a held order ends, or reminds, while nobody may act (R23)."""
    told = closing()
    told.wait(days=1)
    told.act("hold")
    assert told.order.deadlines["remind:awaiting_signatures.0"].remaining_ms == 86_400_000
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned")
    assert told.order.deadlines["state:awaiting_funds"].remaining_ms == 29 * 86_400_000
    told.act("release")
    assert told.order.deadlines["state:awaiting_funds"].due_at == told.now + timedelta(days=29)


# --- notices


def test_reminders_come_in_rounds_each_with_an_id_of_its_own_until_the_state_is_left() -> None:
    """Else a reminder is taken for a repetition, or goes on when nothing is missing (R6)."""
    told = closing()
    for _ in range(3):
        told.due("remind:awaiting_signatures.0")
    commands = [(command.name, command.command_id, command.attempt) for command in told.commands]
    name = "awaiting_signatures.ChaseSignatures"
    assert commands == [("ChaseSignatures", command_id("o1", 0, name, number), 1) for number in (1, 2, 3)]
    assert (told.now - START, told.order.asks) == (timedelta(days=6), {})
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned")
    assert not [name for name in told.order.deadlines if name.startswith("remind")]


def test_rounds_go_on_when_a_state_is_entered_again_and_the_entry_tells_once() -> None:
    """Else a participant drops the second round as a repetition (R6)."""
    told = sale()
    assert [(command.name, command.participant, command.data) for command in told.commands] == [("Advertise", "agent", SALE_DATA)]
    heard(told, "Listed")
    told.due("remind:signing.0")
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned", {"name": "n"}, source="seller")
    bid(told, 60, 1)
    told.due("remind:signing.0")
    chased = [command for command in told.commands if command.name == "Chase"]
    assert len({command.command_id for command in chased}) == len(chased) == 2


def test_a_reminder_always_leaves_with_null_for_what_cannot_be_computed() -> None:
    """Else one missing field silences a reminder, or stops its order."""
    told = sale("Listed")
    told.due("remind:signing.1")
    assert [(command.participant, command.data) for command in told.last.commands] == [("seller", {"left": None})]


def test_a_state_that_asks_reminds_until_it_is_answered() -> None:
    """Else a reminder outlives its step."""
    told = counting()
    bid(told, 100, 1)
    told.due("remind:reserving.0")
    assert told.sent[-1] == "Hurry"
    told.answer("reserve", data={"ok": True, "place": 7})
    assert set(told.order.deadlines) == {"reply:recording.0.1"}


# --- events that can be undone


def test_money_is_an_ask_that_is_done_under_an_id_that_its_sender_knows() -> None:
    """Else its undo names nothing that the bank knows."""
    told = closing("BuyerSigned", "SellerSigned")
    decision = money(told, 500)
    ask = told.ask("FundsReceived")
    assert (ask.key, ask.forward, ask.undo, ask.attempts, ask.participant) == ("FundsReceived.0.1", "done", "none", 0, "bank")
    assert ask.command_id == event_command_id("o1", "bank", "m4")
    assert [command.name for command in decision.commands] == ["RecordDeed"]


def test_money_that_came_too_early_is_kept_and_counts_in_its_state() -> None:
    """Else a buyer who pays at once has paid for nothing."""
    told = closing("FundsReceived", "BuyerSigned")
    assert (told.order.state, list(told.order.parked), told.order.asks) == ("awaiting_signatures", ["2"], {})
    heard(told, "SellerSigned")
    assert (told.order.state, told.order.parked) == ("recording_deed", {})
    assert told.ask("FundsReceived").command_id == event_command_id("o1", "bank", "m2")
    assert told.journal[-1].cause_seq == 2


def test_money_that_was_kept_and_is_too_low_in_the_end_goes_back() -> None:
    """Else an early deposit disappears when its guard refuses it."""
    told = closing("FundsReceived")
    amended(told, 1)
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned")
    assert (told.last.verdict, told.order.state, told.sent) == ("refused", "awaiting_funds", ["ReturnDeposit"])


def test_money_that_was_kept_goes_back_when_the_order_turns_back() -> None:
    """Else a deposit stays with an order that came to nothing (R11)."""
    for turn in ("deadline", "abort", "called off"):
        told = closing("FundsReceived")
        if turn == "deadline":
            told.due("state:awaiting_signatures")
        elif turn == "abort":
            told.act("abort")
        else:
            heard(told, "ClosingCalledOff")
        assert (told.sent, told.order.parked) == (["ReturnDeposit"], {})
        assert told.last.commands[0].undoes == event_command_id("o1", "bank", "m2")
        told.answer("FundsReceived", undo=True)
        assert told.order.status == ("failed" if turn == "deadline" else "compensated")


def test_money_that_a_guard_refuses_goes_back_at_once_and_holds_nothing_up() -> None:
    """Else a deposit that is too low stays, or the closing waits for its return (R14)."""
    told = closing("BuyerSigned", "SellerSigned")
    decision = money(told, 499)
    assert (decision.verdict, decision.reason) == ("refused", "guard: event.amount_minor >= order.price_minor does not hold")
    assert [(command.name, command.undoes) for command in decision.commands] == [("ReturnDeposit", event_command_id("o1", "bank", "m4"))]
    assert money(told, 500).verdict == "moved"
    assert told.order.state == "recording_deed"
    told.answer("FundsReceived", undo=True, which=0)
    assert (told.order.state, told.ask("FundsReceived").undo) == ("recording_deed", "none")


@pytest.mark.parametrize("when", ["after the deed", "while undone", "after the end", "abandoned"])
def test_money_that_comes_too_late_goes_back_and_the_order_stays_what_it_is(when: str) -> None:
    """Else somebody's money is kept by an order that cannot use it (R14)."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    if when == "while undone":
        told.answer("recording_deed", "refused")
    elif when == "after the end":
        told.answer("recording_deed")
        told.answer("paying_seller")
    elif when == "abandoned":
        told.act("abandon", admin=True)
    state, announced = told.order.state, told.announced
    decision = money(told, 500)
    assert (decision.verdict, [command.name for command in decision.commands]) == ("late", ["ReturnDeposit"])
    assert told.order.state == state
    told.answer("FundsReceived", undo=True)
    assert (told.order.state, told.announced) == (state, announced)
    if when == "while undone":
        told.answer("FundsReceived", undo=True, which=0)
        assert told.order.status == "failed"
    elif when != "after the deed":
        assert told.order.status == {"after the end": "completed", "abandoned": "abandoned"}[when]


def test_the_undo_of_an_event_is_asked_without_end_and_calls_a_human() -> None:
    """Else a deposit whose return is not confirmed is forgotten (R13)."""
    told = counting()
    bid(told, 0, 1)
    told.due("undo_reply:Bid.0.1")
    told.due("undo_retry:Bid.0.1")
    assert (told.order.status, told.ask("Bid").undo_attempts, told.order.state) == ("stuck", 2, "counting")
    told.act("confirm", step="Bid")
    assert told.order.status == "running"


def test_an_older_event_that_can_be_undone_is_given_back() -> None:
    """Else the loser of a race keeps nothing of what they sent."""
    told = counting()
    assert bid(told, 60, 5).verdict == "moved"
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned", {"name": "n"}, source="seller")
    decision = bid(told, 100, 4)
    assert (decision.verdict, [command.name for command in decision.commands]) == ("late", ["ReturnBid"])


def test_an_event_that_comes_twice_to_a_join_is_given_back_once_more() -> None:
    """Else of two deposits one is lost."""
    text = HOUSE_TEXT.replace(
        "BuyerSigned: {from: agent}", "BuyerSigned: {from: agent, undo: {command: Unsign, done_on: Unsigned, deadline: 1h}}"
    )
    told = story(rulebook=compiled(text), data=HOUSE_DATA)
    heard(told, "BuyerSigned")
    decision = heard(told, "BuyerSigned")
    assert (decision.verdict, [command.name for command in decision.commands]) == ("duplicate", ["Unsign"])
    assert [ask.key for ask in told.order.asks.values()] == ["BuyerSigned.0.1", "BuyerSigned.0.2"]


def test_the_same_message_again_is_no_second_deposit() -> None:
    """Else a redelivery gives money back that came once."""
    told = closing("BuyerSigned", "SellerSigned")
    message = told.message("FundsReceived", source="bank", data=MONEY)
    told.feed(message)
    assert told.feed(replace(message, seen="same")).entry is None


# --- steps, refusals and the pivot


def test_the_pivot_closes_the_way_back() -> None:
    """Else a recorded deed is undone (R12)."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    assert (told.order.pivot_passed, set(told.order.deadlines)) == (True, {"reply:recording_deed.0.1"})
    assert told.act("abort").problem == "conflict"
    assert heard(told, "ClosingCalledOff").verdict == "late"


def test_a_refused_pivot_leads_to_the_failed_end_when_all_is_undone() -> None:
    """Else the end is told while money is still out (R22)."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    told.answer("recording_deed", "refused")
    assert (told.order.state, told.order.goal, told.order.cause) == ("undoing_awaiting_funds", "closing_unfinished", "refused")
    assert told.announced == []
    told.answer("FundsReceived", undo=True)
    assert (told.order.state, told.order.status, told.announced) == ("closing_unfinished", "failed", ["ClosingFailed"])


def recording() -> Story:
    """A sale that has come to its pivot."""
    told = counting()
    bid(told, 100, 1)
    told.answer("reserve", data={"ok": True, "place": 7})
    return told


def test_a_refused_pivot_that_leads_on_gives_the_order_its_patience_again() -> None:
    """Else it waits in a state that nothing ends (R27)."""
    told = recording()
    assert "patience" not in told.order.deadlines
    told.answer("recording", "refused")
    assert (told.order.state, told.order.pivot_passed) == ("settling", False)
    assert told.order.deadlines["patience"].due_at == told.now + timedelta(days=30)
    told.due("patience")
    assert told.order.direction == "undoing"


def test_a_refusal_leads_where_the_definition_says() -> None:
    """Else `on_refused` is a word."""
    told = counting()
    bid(told, 100, 1)
    told.answer("reserve", "refused")
    assert (told.order.state, told.order.status) == ("split", "failed")


def test_silence_before_the_pivot_undoes_the_order_whatever_it_leads_to() -> None:
    """Else a participant that may have acted is not asked to undo it (R11)."""
    told = counting()
    bid(told, 100, 1)
    told.exhaust("reserve")
    assert (told.order.cause, told.sent[-1], told.order.goal) == ("silence", "Unreserve", None)


def test_an_event_takes_the_order_out_of_a_state_that_asks_and_what_was_asked_is_undone() -> None:
    """Else an ask is left behind that may be done."""
    told = counting()
    bid(told, 100, 1)
    heard(told, "Hastened")
    assert (told.order.state, told.sent[-2:]) == ("recording", ["Unreserve", "Record"])
    assert told.answer("reserve", data={"ok": True, "place": 7}).verdict == "late"
    assert told.order.state == "recording"


def test_a_refusal_after_the_pivot_waits_for_a_human() -> None:
    """Else an order that cannot go back stands still, and nobody is told (R12)."""
    told = recording()
    told.answer("recording")
    heard(told, "KeysHandedOver")
    told.answer("paying", "refused")
    assert (told.order.status, told.order.state) == ("stuck", "paying")
    told.act("skip", step="paying")
    assert (told.order.state, told.order.status, told.announced) == ("sold", "completed", ["SaleDone"])


# --- ends


def test_a_failed_end_undoes_all() -> None:
    """Else something stays that the definition says is undone."""
    told = counting()
    bid(told, -1, 1)
    assert (told.order.goal, told.sent[-1], told.order.cause) == ("dropped", "ReturnBid", "event")
    told.answer("Bid", undo=True)
    assert (told.order.state, told.order.status, told.order.goal) == ("dropped", "failed", None)


def test_a_failed_end_undoes_what_it_names_and_lists_the_rest() -> None:
    """Else an effect is left standing and nobody is told (R10)."""
    told = recording()
    told.answer("recording", "refused")
    heard(told, "Settled")
    assert (standing(told), told.sent[-1]) == (["Bid.0.1"], "Unreserve")
    told.answer("reserve", undo=True)
    assert (told.order.state, told.order.status, told.announced) == ("split", "failed", ["SaleSplit"])


def test_a_failed_end_that_undoes_nothing_lists_all_and_is_taken_at_once() -> None:
    """Else an end after the point of no return has no end."""
    told = recording()
    told.answer("recording")
    heard(told, "KeysLost")
    assert (told.order.state, told.order.status, told.order.deadlines) == ("kept", "failed", {})
    assert standing(told) == ["Bid.0.1", "reserve.0.1"]


def test_a_state_that_is_entered_too_often_undoes_the_order() -> None:
    """Else an order goes round for ever."""
    told = counting()
    bid(told, 60, 1)
    heard(told, "BuyerSigned")
    heard(told, "SellerSigned", {"name": "n"}, source="seller")
    assert told.order.turns["counting"] == 2
    bid(told, 60, 2)
    assert (told.order.cause, told.order.direction) == ("turns", "undoing")
    assert [ask.undo for ask in told.order.asks.values()] == ["none", "asked"]


# --- operators


def test_a_force_moves_to_any_state_but_a_failed_end() -> None:
    """Else an operator cannot help, or goes around the undo path (R22)."""
    told = closing()
    for to, problem in (("closing_unfinished", "conflict"), ("compensated", "conflict"), ("undoing_awaiting_funds", "conflict")):
        assert told.act("force", to=to).problem == problem
    assert told.act("force", to="nowhere").problem == "invalid"
    assert told.act("force", to="awaiting_funds").verdict == "moved"
    assert (told.order.state, told.order.epoch) == ("awaiting_funds", 1)
    assert set(told.order.deadlines) == {"patience", "state:awaiting_funds"}


@pytest.mark.parametrize("to", ["completed", "closed"])
def test_a_force_to_the_whole_end_takes_it_under_either_name(to: str) -> None:
    """Else a bulk of orders of two forms cannot be closed by one word."""
    told = closing("BuyerSigned")
    told.act("force", to=to)
    assert (told.order.state, told.order.status, told.announced) == ("closed", "completed", ["ClosingCompleted"])


def test_a_force_back_gives_back_what_is_awaited_again() -> None:
    """Else money that is asked for once more was never returned (R22)."""
    text = HOUSE_TEXT.replace("    pivot: true\n", "    undo: {command: Unrecord, done_on: Unrecorded, deadline: 1d}\n").replace(
        "    retry: {first: 1h, max: 1d, stuck_after: 3}\n", ""
    )
    text = text.replace("    done_on: SellerPaid\n", "    done_on: SellerPaid\n    pivot: true\n")
    told = story(rulebook=compiled(text), data=HOUSE_DATA)
    for name in ("BuyerSigned", "SellerSigned"):
        heard(told, name)
    money(told, 500)
    told.act("force", to="awaiting_signatures")
    assert [command.name for command in told.last.commands] == ["ReturnDeposit", "Unrecord"]
    assert told.act("force", to="recording_deed").problem == "conflict"
    assert told.act("force", to="awaiting_funds").verdict == "moved"
    assert money(told, 500).verdict == "moved"
    assert told.order.state == "recording_deed"


def test_a_force_is_not_hindered_by_what_was_given_back_as_it_came() -> None:
    """Else a second deposit, returned long ago, keeps an operator from helping for ever."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    money(told, 500)
    assert told.act("force", to="paying_seller").verdict == "moved"
    assert told.ask("FundsReceived", 0).undo == "none"


def test_a_force_back_across_the_pivot_is_refused() -> None:
    """Else a recorded deed is left behind an order that begins anew (R12)."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    assert told.act("force", to="awaiting_funds").problem == "conflict"
    told.answer("recording_deed")
    assert told.act("force", to="recording_deed").problem == "conflict"


def test_what_was_kept_is_decided_where_a_force_leads_to() -> None:
    """Else an early deposit is forgotten when an operator goes around its state (R15)."""
    told = closing("FundsReceived")
    told.act("force", to="recording_deed")
    assert (told.last.verdict, told.order.parked, told.sent) == ("late", {}, ["RecordDeed", "ReturnDeposit"])
    told = closing("FundsReceived")
    told.act("force", to="awaiting_funds")
    assert (told.order.state, told.order.parked) == ("recording_deed", {})


def test_abandoning_lists_money_that_was_kept() -> None:
    """Else a deposit is left with nobody, and nobody is told (R10)."""
    told = closing("FundsReceived")
    told.act("abandon", admin=True)
    assert (standing(told), told.order.parked, told.order.status) == (["FundsReceived.0.1"], {}, "abandoned")


def test_a_state_that_waits_says_for_what() -> None:
    """Else an operator sees an order that waits for nobody."""
    told = closing("BuyerSigned")
    [wait] = waiting_on(HOUSE_RULES, told.order)
    assert (wait["participant"], wait["step"], wait["for"]) == ("outside", "awaiting_signatures", "SellerSigned")
    assert wait["deadline_at"] == START + timedelta(days=14)
    heard(told, "SellerSigned")
    [wait] = waiting_on(HOUSE_RULES, told.order)
    assert (wait["participant"], wait["for"]) == ("outside", "FundsReceived")
    [wait] = waiting_on(STATES_RULES, sale().order)
    assert (wait["participant"], wait["for"], wait["deadline_at"]) == ("outside", "Listed or Shown", START + timedelta(days=1))
    assert allowed_acts(told.order, is_admin=False) == ["force", "abort", "hold", "deadline"]


def test_deadlines_of_a_state_can_be_moved_by_an_operator() -> None:
    """Else only the definition can give an order more time."""
    told = closing()
    told.act("deadline", name="state:awaiting_signatures", due_at=told.now + timedelta(days=30))
    told.wait(days=29)
    assert told.order.deadlines["state:awaiting_signatures"].due_at == told.now + timedelta(days=1)
