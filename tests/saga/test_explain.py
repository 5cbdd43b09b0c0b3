"""A definition told in sentences, and the worst cases in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.saga.bounds import Bounds, Line, bounds
from orchestrator.saga.explain import explain
from orchestrator.saga.rulebook import Rulebook
from tests.fuzz.seeds import EVERY_STATE, EVERY_WORD
from tests.saga.world import DATA, DEFINITIONS, LOAN_RULES, ORDER_RULES, PARCEL_RULES, START, TOUR_RULES, TRIP_RULES, Story, compiled

WATCHED_RULES = compiled((DEFINITIONS / "order_watched.yaml").read_text(encoding="utf-8"))
HOUSE_RULES = compiled((DEFINITIONS / "house_closing.yaml").read_text(encoding="utf-8"))
STATE_RULES, WORD_RULES = compiled(EVERY_STATE), compiled(EVERY_WORD)
LINES = (ORDER_RULES, TOUR_RULES, PARCEL_RULES, TRIP_RULES, LOAN_RULES, WATCHED_RULES, WORD_RULES)
EVERY = {rules.name: rules for rules in (*LINES, HOUSE_RULES, STATE_RULES)}
BOTH = pytest.mark.parametrize("rulebook", EVERY.values(), ids=EVERY)
PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"

#: Without a pivot, and without anything to undo.
LOOK_RULES = compiled("""
definition: look
version: 1
opens_on: LookPlaced
key: order_id
patience: 10m
steps:
  - step: look
    ask: desk
    command: Look
    done_on: Looked
    refused_on: Gone
    deadline: 90s
    harmless: true
    retry: {attempts: 6, first: 1s}
""")


#: A graph without a pivot: a question that is asked twice at most, and an end that leaves what was done standing.
QUIZ_TEXT = """
definition: quiz
version: 1
opens_on: QuizOpened
key: order_id
patience: 2h
states:
  asking:
    ask: desk
    command: Ask
    done_on: Asked
    refused_on: Unsaid
    deadline: 10s
    retry: {attempts: 2, first: 1s}
    undo: {command: Unask, done_on: Unasked, deadline: 5s}
    then: waiting
    on_refused: asking
    at_most: 2
  waiting:
    on: {Answered: won}
    deadline: {after: 1h, then: lost}
  won: {outcome: completed}
  lost: {outcome: failed, undo: none}
"""


def told(rulebook: Rulebook) -> list[str]:
    """Every sentence."""
    return [line.text for section in explain(rulebook).sections for line in section.lines]


def test_the_shipped_definition_in_sentences() -> None:
    """If it failed, who asks what happens when payment is silent would be told something else than what happens."""
    lines = told(ORDER_RULES)
    silence = (
        "It is asked up to 4 times in all, over at most 2 min 35 s (30 s for each answer, then a pause of at most 5 s, 10 s and 20 s); "
        "then it counts as possibly done, and everything is undone, last first: "
    )
    pivot = (
        "It is asked without limit until it answers: 1 min for each answer, then a pause of at most 5 s, 10 s, 20 s and so on up to 5 min. "
        "After 5 sendings in vain, at most 6 min 15 s after the first, the order is stuck: a human is called, and it is asked on."
    )
    for text in (
        "OrderPlaced opens an order. Its id is the field order_id of the event's data, and the event's subject.",
        "It has 30 min of patience until email_invoice, the point of no return, is asked. When patience ends, everything is undone.",
        f"{silence}reserve_inventory.",
        f"{silence}take_payment, reserve_inventory.",
        "InventoryRejected: it is refused, and there is nothing to undo: the order ends compensated.",
        "PaymentDeclined: it is refused, and everything is undone, last first: reserve_inventory.",
        "InvoiceRejected: it is refused, and everything is undone, last first: take_payment, reserve_inventory.",
        pivot,
        "take_payment: payment is sent RefundPayment with order_id and take_payment.payment_id, until it confirms with PaymentRefunded.",
        "email_invoice, the point of no return: it is asked after at most 5 min 10 s.",
        "InvoiceRejected can come at any time after email_invoice is asked; undoing begins then.",
    ):
        assert text in lines
    assert any(line.startswith("completed: every step on its way is done") and "OrderCompleted is announced" in line for line in lines)
    assert any(line.startswith("OrderCancelRequested calls it off") for line in lines)


def test_what_stands_side_by_side_is_told_so() -> None:
    """If it failed, a refusal in a block would seem to leave its neighbours standing."""
    lines = told(TRIP_RULES)
    assert "2. book (state booking): 3 steps side by side, until all are done." in lines
    assert "RoomRefused: it is refused, and everything is undone, last first: flight, quote." in lines
    assert any(line.endswith("last first: room and flight side by side, quote.") for line in lines)
    assert any(line.startswith("MailRefused: it is refused, and there is no way back. The order is stuck until") for line in lines)


def test_branches_and_loops_are_told_with_their_conditions_and_bounds() -> None:
    """If it failed, an author would not see which way an order goes, or that a loop ends."""
    lines = told(LOAN_RULES)
    for text in (
        "1. by_amount: one of several ways, the first whose condition holds.",
        "When `order.amount_minor > 100000`:",
        "Else when `order.amount_minor < 0`:",
        "Otherwise nothing is asked here.",
        "When it does not hold after the last turn, everything is undone, each turn for itself.",
        "When it does not hold after the last turn, the order goes on.",
        "2.1. score (state score): bureau is sent Score with who = `order.order_id` and twice = `order.amount_minor * 2`.",
    ):
        assert text in lines
    assert any(line.startswith("2. scoring: at most 3 turns, until `has(replies.score)") for line in lines)
    assert any(line.endswith("last first: score, visit (as far as they were asked, each turn for itself).") for line in lines)


def test_what_has_no_pivot_and_no_undo_is_bounded() -> None:
    """If it failed, a bound would be missing where there is one."""
    lines = told(LOOK_RULES)
    assert bounds(LOOK_RULES).completed_ms == 6 * 90_000 + 1_000 + 2_000 + 4_000 + 8_000 + 16_000
    for text in (
        "It has 10 min of patience until it is completed. When patience ends, everything is undone.",
        "completed: after at most 9 min 31 s.",
        "compensated: after at most 9 min 31 s; when patience ends it, after 10 min. There is nothing to undo.",
        "No step has an undo.",
    ):
        assert text in lines


@BOTH
def test_every_name_of_a_definition_is_told(rulebook: Rulebook) -> None:
    """If it failed, a step, an event, an undo or an announcement would be left out."""
    text = "\n".join(told(rulebook))
    names = {rulebook.opens_on, *rulebook.event_types, *rulebook.participants, *rulebook.by_name, *rulebook.by_state, *rulebook.announce}
    names |= {*rulebook.announce.values(), *(step.command for step in rulebook.steps), *rulebook.endings}
    names |= {notice.command for stage in rulebook.stages for notice in stage.notices}
    names |= {step.undo.command for step in rulebook.steps if step.undo}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == {"CommandTooLate"}


def test_what_others_bring_about_is_told_with_when_it_is_asked_for() -> None:
    """If it failed, an author would not know when Escrow speaks, or that it stops what nobody asked for yet."""
    lines = told(WATCHED_RULES)
    first = (
        "1. update_inventory (state updating_inventory): inventory does it by itself, on somebody else's event; after 30 s of silence "
        "Escrow asks: inventory is sent UpdateInventory with all of the order's data."
    )
    for text in (
        first,
        "InventoryRejected: it is refused, and everything is undone, last first: email_invoice.",
        "It is sent, too, when the order turns back before it came to the step, which may be done nevertheless.",
        "email_invoice, the point of no return: it is asked after at most 3 min 5 s.",
    ):
        assert text in lines
    assert any(line.endswith("With the silence before, that is at most 3 min 5 s.") for line in lines)


def test_guards_changes_patience_and_policies_are_told() -> None:
    """If it failed, an answer would be refused, or data changed, and no sentence would say so."""
    lines = told(WORD_RULES)
    assert (
        "Reserved, when `event.ok == true`: it is done. The order's data changes: amount = `event.amount`. When that does not hold, the "
        "answer is refused, and it is waited on."
    ) in lines
    assert any(line.endswith("Its own patience is 20 s: what is over first ends it.") for line in lines)
    assert "Stamped in looking or greet: when it comes before its state, it is quarantined, for a human." in lines


def test_states_are_told_with_what_leads_out_of_them() -> None:
    """If it failed, nobody would learn what a state waits for, when it ends, or what becomes of an event that it does not take."""
    lines = told(HOUSE_RULES)
    for text in (
        "awaiting_signatures, where an order begins: it waits for BuyerSigned and SellerSigned, in any order.",
        "When BuyerSigned and SellerSigned have all come, each once, awaiting_funds follows.",
        "Every 2 d while it lasts agent is told ChaseSignatures with closing_id; no answer is awaited.",
        "After 14 d in it, closing_unfinished follows.",
        "One whose amendment is not above that of the one before is late.",
        "FundsReceived, from bank, when `event.amount_minor >= order.price_minor`: recording_deed follows.",
        "One that is refused or late is put back at once: what it stands for is undone.",
        "At the time that `order.funds_due_at` says, closing_unfinished follows; the deadline moves with the order's data.",
        "DeedRejected: it is refused, and closing_unfinished follows.",
        "closing_unfinished: an end. The order has failed. What was done of FundsReceived is undone first.",
        "FundsReceived: bank is sent ReturnDeposit with closing_id, until it confirms with DepositReturned.",
        "recording_deed, the point of no return: it is asked after at most 60 d.",
    ):
        assert text in lines
    lines = told(STATE_RULES)
    for text in (
        "When `event.refused == true`: not_rented follows.",
        "An order can enter it 2 times; in place of one more everything is undone.",
        "At the entry agent is told InviteToView with rent_id; no answer is awaited.",
    ):
        assert text in lines
    assert any(line.endswith("What was done of TenantSigned is left standing, and listed in the history.") for line in lines)


def test_each_end_of_a_graph_has_its_longest_time() -> None:
    """If it failed, an order would end later than was told, or one that patience ends would seem to have no bound."""
    day, hour = 86_400_000, 3_600_000
    found = {bound.end: (bound.outcome, bound.longest_ms, bound.at_once_ms) for bound in bounds(HOUSE_RULES).ends}
    assert found == {
        "closed": ("completed", None, 61 * day + hour),
        "closing_unfinished": ("failed", None, 61 * day + hour),
        "compensated": ("compensated", None, 60 * day + hour),
    }
    short = compiled(QUIZ_TEXT)
    times = bounds(short)
    found = {bound.end: (bound.outcome, bound.longest_ms, bound.at_once_ms) for bound in times.ends}
    # asking: 2 × 10 s and a pause of 1 s, twice; then waiting for 1 h.
    assert found == {
        "won": ("completed", 2 * 21_000 + hour, 2 * 21_000 + hour),
        "lost": ("failed", 2 * 21_000 + hour, 2 * 21_000 + hour),
        "compensated": ("compensated", None, 2 * 21_000 + hour + 2 * 5_000),
    }
    assert (times.decided_ms, times.completed_ms, times.last_undo_sent_ms) == (2 * 21_000 + hour, 2 * 21_000 + hour, 3_647_000)
    waiting = bounds(
        compiled(QUIZ_TEXT.replace("on: {Answered: won}\n    deadline: {after: 1h, then: lost}", "on: {Answered: won, GivenUp: lost}"))
    )
    assert waiting.decided_ms == 2 * hour


def test_the_worst_case_of_what_others_bring_about_is_what_the_core_does() -> None:
    """If it failed, a choreography that falls silent would turn back later than was told."""
    longest = bounds(WATCHED_RULES)
    story = Story(WATCHED_RULES)
    story.place()
    while story.order.direction == "forward":
        deadlines = story.order.deadlines
        last = f"reply:{story.ask('update_inventory').key}"
        story.due(last if last in deadlines else next(name for name in deadlines if name.startswith("retry")))
    assert story.now - START <= timedelta(milliseconds=longest.decided_ms)
    begun = story.now
    answered_at_the_end(story, "email_invoice", undo=True)
    assert story.sent[-1] == "RestoreInventory"
    assert longest.last_undo_sent_ms is not None
    assert story.now - begun == timedelta(milliseconds=longest.last_undo_sent_ms - longest.decided_ms)


def test_the_worst_case_is_what_the_core_does() -> None:
    """If it failed, the times told would be shorter than what an order can take, or longer than it ever takes."""
    longest = bounds(LOAN_RULES)
    story = Story(LOAN_RULES, data={**DATA, "amount_minor": 200_000})
    story.place()
    for step in ("visit", "sign", "score", "score", "score"):
        answered_at_the_end(story, step)
    assert story.order.cause == "turns"
    assert (story.now - START) == timedelta(milliseconds=longest.decided_ms)
    for which in (2, 1, 0):
        answered_at_the_end(story, "score", undo=True, which=which)
    assert story.sent[-1] == "Unvisit"
    assert longest.last_undo_sent_ms is not None
    assert (story.now - START) == timedelta(milliseconds=longest.last_undo_sent_ms)
    answered_at_the_end(story, "visit", undo=True)
    assert longest.compensated_at_once_ms is not None
    assert (story.now - START, story.order.state) == (timedelta(milliseconds=longest.compensated_at_once_ms), "compensated")


@pytest.mark.parametrize("rulebook", [ORDER_RULES, TOUR_RULES, TRIP_RULES], ids=lambda rules: rules.name)
def test_no_silence_takes_longer_than_is_told(rulebook: Rulebook) -> None:
    """If it failed, an order would still go forward when it was said that undoing has begun."""
    story = Story(rulebook)
    story.place()
    for stage in rulebook.stages[: rulebook.pivots[0].index if rulebook.pivots else None]:
        slowest = max(stage.steps, key=lambda step: (step.retry.attempts or 1) * step.deadline_ms)
        while story.ask(slowest.name).attempts < (slowest.retry.attempts or 1) or not waited(story, slowest.name):
            story.due()
            if story.order.direction != "forward":
                break
        for step in stage.steps:
            if story.order.direction == "forward" and story.ask(step.name).forward == "asked":
                story.answer(step.name)
    longest = timedelta(milliseconds=bounds(rulebook).decided_ms)
    assert story.now - START <= longest
    assert story.order.direction == "undoing" or story.order.pivot_passed


def waited(story: Story, step: str) -> bool:
    """The last attempt's deadline is all but over."""
    key = f"reply:{story.ask(step).key}"
    if key in story.order.deadlines:
        due_at = story.order.deadlines[key].due_at
        assert due_at is not None
        story.now = due_at
    return True


def answered_at_the_end(story: Story, step: str, *, undo: bool = False, which: int = -1) -> None:
    """The participant uses all of its time."""
    name = f"{'undo_' if undo else ''}reply:{story.ask(step, which).key}"
    due_at = story.order.deadlines[name].due_at
    assert due_at is not None
    story.now = due_at
    story.answer(step, undo=undo, which=which, data={"points": 0})


def routes(way: Sequence[dict[str, Any]]) -> Iterator[tuple[int, ...]]:
    """Every way through, as the stages asked."""
    parts = [list(item_routes(item)) for item in way]
    yield from (tuple(itertools.chain(*route)) for route in itertools.product(*parts))


def item_routes(item: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    if "choose" in item:
        for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
            yield from routes(inner)
    elif "repeat" in item:
        yield from (tuple(itertools.chain(*turns)) for turns in itertools.product(list(routes(item["way"])), repeat=item["at_most"]))
    else:
        yield (item["stage"],)


def items(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A choice or a loop around what is there."""
    ways = st.lists(inner, max_size=2)
    choice = st.builds(lambda a, b: {"choose": "c", "cases": [{"way": a}], "otherwise": b}, ways, ways)
    return choice | st.builds(lambda way, turns: {"repeat": "r", "way": way, "at_most": turns}, ways, st.integers(1, 2))


@settings(max_examples=200, deadline=None)
@given(way=st.lists(st.recursive(st.builds(lambda index: {"stage": index}, st.integers(0, 3)), items, max_leaves=4), max_size=3))
def test_the_longest_of_all_ways_is_the_longest(way: list[dict[str, Any]]) -> None:
    """If it failed, some way through branches and loops would take longer than is told."""
    forward_ms, undo_ms = {0: 1, 1: 10, 2: 100, 3: 7}, {1: 1_000, 3: 50_000}
    every = list(routes(way))
    found = Line(way).longest(forward_ms, undo_ms)
    undos = [[undo_ms[stage] for stage in route if stage in undo_ms] for route in every]
    times = [sum(forward_ms[stage] for stage in route) for route in every]
    assert found.whole == max(time + sum(back) for time, back in zip(times, undos, strict=True))
    assert found.sent == max((time + sum(back[1:]) for time, back in zip(times, undos, strict=True) if back), default=float("-inf"))


def test_the_page_tells_every_time() -> None:
    """If it failed, a program would read a number that no page explains."""
    table = PAGE.read_text(encoding="utf-8").partition("| time | means |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE) == [field.name for field in fields(Bounds)]
    assert set(asdict(explain(ORDER_RULES))["bounds"]) == {field.name for field in fields(Bounds)}
