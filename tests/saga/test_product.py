"""The full product of reachable orders and inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import pytest

from orchestrator.saga.acts import moments
from orchestrator.saga.inputs import Message, OperatorAct
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.standing import waiting_on
from tests.saga.listening import HOUSE_RULES, OPENED_WITH, STATES_RULES, WATCHED_RULES
from tests.saga.world import (
    DATA,
    LOAN_RULES,
    ORDER_RULES,
    PARCEL_RULES,
    START,
    TOUR_RULES,
    TRIP_RULES,
    Story,
    all_checked,
    checked,
    every_input,
)

#: Orders whose whole row of inputs is tried. Breadth first, so all short lives are in it.
ORDERS_MAX = 60
RULES = [ORDER_RULES, TOUR_RULES, PARCEL_RULES, TRIP_RULES, LOAN_RULES, WATCHED_RULES, STATES_RULES, HOUSE_RULES]
every_rulebook = pytest.mark.parametrize("rulebook", RULES, ids=lambda rulebook: rulebook.name)


def _likeness(order: Order) -> tuple[Any, ...]:
    """Two orders alike in this have the same rows in every table of the rules."""
    asks = tuple((a.step, a.epoch, a.forward, a.undo, a.alarm, min(a.attempts, 1)) for a in order.asks.values())
    armed = tuple(sorted(order.deadlines))
    kept = tuple(sorted(message["type"] for message in order.parked.values()))
    return order.state, order.direction, order.pivot_passed, order.held, order.announced, asks, armed, tuple(sorted(order.joined)), kept


def _lives(rulebook: Rulebook) -> Iterator[tuple[Order, datetime]]:
    """The order as it opens, and as it is on the way back: of long definitions the search alone does not come to the end of that."""
    told = Story(rulebook, OPENED_WITH.get(rulebook.name, DATA))
    told.place()
    yield told.order, START
    told.act("abort")
    while told.order.direction == "undoing":
        yield told.order, told.now
        told.answer(next(ask.step for ask in told.order.asks.values() if ask.undo_is_open), undo=True)
    yield told.order, told.now


@cache
def _reachable(rulebook: Rulebook) -> list[tuple[Order, datetime]]:
    """Orders that differ, found by trying every input on every order found; each try is held to the laws."""
    found = list({_likeness(order): (order, now) for order, now in _lives(rulebook)}.values())
    known = {_likeness(order) for order, _ in found}
    todo = deque(found)
    for _ in range(ORDERS_MAX):
        if not todo:
            break
        order, now = todo.popleft()
        for input_, at in every_input(rulebook, order, now):
            decided = all_checked(rulebook, order, input_, at)
            decision = decided.own
            if isinstance(input_, Message) and input_.seen == "no":
                assert decision.entry is not None
            if isinstance(input_, OperatorAct) and decision.problem is None:
                assert input_.act in moments(order, is_admin=input_.is_admin), (input_, order)
            after = decided.order
            if after is None or after.seq == order.seq or after.epoch > 1 or _likeness(after) in known:
                continue
            known.add(_likeness(after))
            found.append((after, at))
            todo.append((after, at))
    return found


@every_rulebook
def test_every_reachable_order_has_a_verdict_for_every_input(rulebook: Rulebook) -> None:
    """Else some order meets an input it raises on, forgets to wait, or cannot be folded from its journal (R1, R2, R25, R27)."""
    ends = {"completed", "abandoned"} | ({"compensated"} if rulebook.pivots and rulebook.pivots[0].index else set())
    ends = ends if rulebook.is_line else {"compensated", "abandoned", *rulebook.endings}
    states = {order.state for order, _ in _reachable(rulebook)}
    assert states >= {*rulebook.by_state} | ends


@every_rulebook
def test_an_order_that_is_not_over_says_whom_it_waits_for(rulebook: Rulebook) -> None:
    """Else an operator looks at a living order and sees nobody to call."""
    sources = {event.source for event in rulebook.events.values() if event.source}
    participants = rulebook.participants | sources | {"operator", "outside"}
    for order, _ in _reachable(rulebook):
        over = order.direction == "ended" and not any(ask.undo_is_open for ask in order.asks.values())
        waits = waiting_on(rulebook, order)
        assert bool(waits) != over, order
        assert all(wait["participant"] in participants for wait in waits)
        if not order.held:
            assert all(wait["deadline_at"] is not None for wait in waits)


@every_rulebook
def test_whatever_an_order_waits_for_an_operator_can_bring_it_on(rulebook: Rulebook) -> None:
    """Else an order hangs, and only moving it by force or giving it up is left."""
    for order, now in _reachable(rulebook):
        for wait in waiting_on(rulebook, order):
            if wait["step"] not in rulebook.by_name:
                act = OperatorAct(act="deadline", actor="ann", reason="because", seq=order.seq, arguments={"due_at": now})
                name = next(name for name in order.deadlines if name in {"patience", f"state:{wait['step']}"})
                if not order.held:
                    assert checked(rulebook, order, replace(act, arguments={"name": name, "due_at": now}), now).problem is None
                continue
            seen = OperatorAct(act="retry", actor="ann", reason="because", seq=order.seq, is_admin=False, arguments={})
            for act in (seen, replace(seen, act="skip", arguments={"step": wait["step"]})):
                assert checked(rulebook, order, act, now).problem is None, (act.act, wait, order)
