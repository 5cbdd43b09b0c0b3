"""Random lives of orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.fold import fold
from orchestrator.saga.inputs import OperatorAct
from orchestrator.saga.order import Order, from_document, to_document
from orchestrator.saga.rulebook import Rulebook
from tests.saga.listening import HOUSE_RULES, OPENED_WITH, STATES_RULES, WATCHED_RULES
from tests.saga.world import (
    DATA,
    LOAN_RULES,
    ORDER_RULES,
    PARCEL_RULES,
    TOUR_RULES,
    TRIP_RULES,
    Story,
    all_checked,
    decisions_of,
    every_input,
    story,
)

RULES = st.sampled_from([ORDER_RULES, TOUR_RULES, PARCEL_RULES, TRIP_RULES, LOAN_RULES, WATCHED_RULES, STATES_RULES, HOUSE_RULES])
#: Each number picks one of the inputs possible at that moment.
LIVES = st.lists(st.integers(min_value=0, max_value=10_000), max_size=10)


def _live(rulebook: Rulebook, picks: list[int], *, restart: bool = False) -> Story:
    told = Story(rulebook, OPENED_WITH.get(rulebook.name, DATA))
    told.place()
    for turn, pick in enumerate(picks):
        possible = list(every_input(rulebook, told.order, told.now, tag=str(turn)))
        input_, told.now = possible[pick % len(possible)]
        if restart:
            told.maybe = from_document(canonical.load(canonical.encode(to_document(told.order))))
        before = told.order
        for decision in decisions_of(all_checked(rulebook, before, input_, told.now)):
            told.decisions.append(decision)
            told.maybe = decision.order
            if decision.entry is not None:
                told.journal.append(decision.entry)
            if not (isinstance(input_, OperatorAct) and input_.act in {"force", "retry"}):
                _assert_reverse(rulebook, before, told.order)
            before = told.order
    return told


def _assert_reverse(rulebook: Rulebook, before: Order, after: Order) -> None:
    """No undo is sent for the first time on the way back while one of what was asked later is open; what was asked side by side may be."""
    if after.direction != "undoing":
        return
    for key, ask in after.asks.items():
        was = before.asks.get(key, replace(ask, undo="none", undo_attempts=0))
        first = ask.undo_attempts > 0 and was.undo_attempts == 0
        later = [other for other in after.asks.values() if other.rank > ask.rank]
        if first and ask.undo_is_open and was.undo == "none" and was.forward != "refused":
            assert not [other.key for other in later if other.undo_is_open], key


@hypothesis_settings(max_examples=120, deadline=None)
@given(rulebook=RULES, picks=LIVES)
def test_the_journal_folds_to_the_order_whatever_happens(rulebook: Rulebook, picks: list[int]) -> None:
    """Else an order cannot be rebuilt from its history (R25, R26)."""
    told = _live(rulebook, picks)
    assert fold(told.journal) == told.order
    assert [entry.seq for entry in told.journal] == list(range(1, told.order.seq + 1))


@hypothesis_settings(max_examples=60, deadline=None)
@given(rulebook=RULES, picks=LIVES)
def test_a_restart_after_every_step_changes_nothing(rulebook: Rulebook, picks: list[int]) -> None:
    """Else something about an order lives in memory only."""
    assert _live(rulebook, picks, restart=True).journal == _live(rulebook, picks).journal


@hypothesis_settings(max_examples=120, deadline=None)
@given(rulebook=RULES, picks=LIVES)
def test_compensated_means_that_nothing_was_left_unnamed(rulebook: Rulebook, picks: list[int]) -> None:
    """Else `compensated` hides an effect that nobody undid and nobody was told of (R13)."""
    order = _live(rulebook, picks).order
    if order.status != "compensated":
        return
    for ask in order.asks.values():
        if ask.possibly_done and rulebook.by_name[ask.step].undo is not None:
            assert ask.undo in {"undone", "skipped"}, ask


@hypothesis_settings(max_examples=60, deadline=None)
@given(rulebook=RULES, answers=st.lists(st.booleans(), max_size=60))
def test_before_the_pivot_attempts_are_bounded(rulebook: Rulebook, answers: list[bool]) -> None:
    """Else a silent participant before the pivot is asked for ever (R5)."""
    told = Story(rulebook, OPENED_WITH.get(rulebook.name, DATA))
    told.place()
    for answered in answers:
        if told.order.direction != "forward" or not told.order.deadlines:
            break
        awaited = [ask.step for ask in told.order.asks.values() if ask.is_open]
        if answered and awaited:
            told.answer(awaited[0], data={"shelf": 1, "ok": True, "place": 1})
        else:
            told.due()
    for ask in told.order.asks.values():
        limit = rulebook.by_name[ask.step].retry.attempts
        assert limit is None or ask.attempts <= limit


@pytest.mark.parametrize(
    "change",
    [{"reason": "another"}, {"patch": b'{"fields":{}}'}, {"prev_hash": "00"}, {"seq": 9}, {"actor": "eve"}],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_history_shows(change: dict[str, object]) -> None:
    """Else somebody can rewrite what happened (R26)."""
    told = story("reserve_inventory", "take_payment")
    journal = [told.journal[0], replace(told.journal[1], **change), told.journal[2]]  # type: ignore[arg-type]
    with pytest.raises(InvariantViolated):
        fold(journal)


def test_a_missing_entry_and_an_empty_journal_show() -> None:
    """Else a history with a hole passes for a whole one."""
    told = story("reserve_inventory", "take_payment")
    for journal in ([], told.journal[1:], [told.journal[0], told.journal[2]]):
        with pytest.raises(InvariantViolated):
            fold(journal)
