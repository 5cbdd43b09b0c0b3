"""Branches, loops and computed fields: decided by the order's data and what steps answered, and undone like everything else."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.saga.graph import mermaid
from tests.saga.world import DATA, LOAN_RULES, Story, compiled

STEP = "{step: a, ask: p, command: A, done_on: Aed, deadline: 1s, harmless: true}"
PIVOT = "{step: a, ask: p, command: A, done_on: Aed, deadline: 1s, pivot: true}"
NEXT = "{step: b, ask: p, command: B, done_on: Bed, deadline: 1s}"
HEAD = "definition: d\nversion: 1\nopens_on: O\nkey: id\npatience: 1m\nsteps:\n"
LOOP = f"  - {{{{repeat: r, until: '{{until}}', at_most: 9, steps: [{{{{{STEP[1:-1]}}}}}]}}}}\n"


def loan(amount_minor: int = 500, **data: Any) -> Story:
    """A loan that was asked for."""
    told = Story(LOAN_RULES, data={**DATA, "amount_minor": amount_minor, **data})
    told.place()
    return told


def scored(told: Story, *points: int) -> Story:
    """The bureau answers, turn after turn."""
    for number in points:
        told.answer("score", data={"points": number})
    return told


@pytest.mark.parametrize(("amount_minor", "state"), [(100_001, "visit"), (-1, "complain"), (100_000, "score")])
def test_the_first_case_that_holds_is_taken_else_the_other_way(amount_minor: int, state: str) -> None:
    """Else an order goes a way that its data does not warrant."""
    assert loan(amount_minor).order.state == state


def test_the_ways_meet_again() -> None:
    """Else a branch is a dead end."""
    told = loan(100_001)
    told.answer("visit")
    told.answer("sign")
    assert told.order.state == "score"


def test_a_loop_asks_again_until_its_condition_holds() -> None:
    """Else it stops too soon, or asks one turn too many."""
    told = scored(loan(), 1, 4)
    assert [(command.name, command.attempt) for command in told.commands] == [("Score", 1)] * 3
    assert len({command.command_id for command in told.commands}) == 3
    scored(told, 5)
    assert told.order.state == "pay"
    assert [ask.round for ask in told.order.asks.values() if ask.step == "score"] == [1, 2, 3]


def test_a_loop_that_comes_to_its_last_turn_in_vain_is_undone_every_turn_for_itself() -> None:
    """Else a loop without success is a success, or leaves turns standing."""
    told = scored(loan(), 1, 2, 3)
    assert (told.order.direction, told.order.cause) == ("undoing", "turns")
    undone = []
    while told.order.direction == "undoing":
        undone.append(told.last.commands[0].undoes)
        told.answer("score", undo=True, which=2 - (len(undone) - 1))
    assert undone == [ask.command_id for ask in reversed(list(told.order.asks.values()))]
    assert told.order.status == "compensated"


def test_a_loop_after_the_pivot_goes_on_after_its_last_turn() -> None:
    """Else an order that cannot go back stands still."""
    told = scored(loan(), 9)
    told.answer("pay")
    told.answer("thank", data={"heard": False})
    assert told.order.state == "thank"
    told.answer("thank", data={"heard": False})
    assert told.order.status == "completed"


def test_computed_fields_are_what_they_say_and_stay_so() -> None:
    """Else a command carries what nobody wrote, or another thing at each attempt (R6)."""
    told = loan()
    [command] = told.last.commands
    assert command.data == {"who": "o1", "twice": 1000}


def test_an_undo_always_leaves_with_null_for_what_cannot_be_computed() -> None:
    """Else an effect stays because its undo could not be written."""
    told = loan()
    told.exhaust("score")
    assert [(command.name, command.data) for command in told.last.commands] == [("Unscore", {"points": None})]


def test_an_answer_on_which_the_definition_cannot_decide_is_refused_and_the_order_is_as_it_was() -> None:
    """Else one reply without a field stops the line, or moves the order at random."""
    told = Story(compiled(HEAD.replace("key: id", "key: order_id") + LOOP.format(until="replies.a.x > 1")))
    told.place()
    before = told.order
    decision = told.answer("a", data={"y": 9})
    assert (decision.verdict, decision.quarantine) == ("refused", "expression")
    assert "'x'" in (decision.reason or "")
    assert (told.order.state, told.order.asks, told.order.deadlines) == (before.state, before.asks, before.deadlines)
    told.answer("a", data={"x": 2})
    assert told.order.status == "completed"


def test_an_order_on_which_the_definition_cannot_decide_is_not_opened() -> None:
    """Else an order begins that can go nowhere."""
    told = Story(LOAN_RULES, data={"order_id": "o1"})
    decision = told.place()
    assert (decision.order, decision.verdict, decision.quarantine) == (None, "refused", "expression")


def test_an_act_on_which_the_definition_cannot_decide_is_refused() -> None:
    """Else an operator's skip is an error page."""
    told = Story(compiled(HEAD.replace("1m", "10m").replace("key: id", "key: order_id") + LOOP.format(until="replies.a.x")))
    told.place()
    assert told.act("skip", step="a").problem == "conflict"
    assert "'a'" in (told.last.reason or "")
    assert told.act("abort").verdict == "moved"


def test_the_graph_shows_what_must_hold() -> None:
    """Else the drawing shows one way where there are three."""
    drawn = mermaid(LOAN_RULES)
    assert "    [*] --> visit: LoanAsked [order.amount_minor > 100000]" in drawn
    assert "    [*] --> score: LoanAsked [otherwise]" in drawn
    assert "    score --> pay: Scored [has(replies.score) && has(replies.score.points) && replies.score.points >= 5]" in drawn
    assert "    score --> score: Scored [again]" in drawn
    assert "    undoing_score --> undoing_visit: Unscored" in drawn
    assert "    undoing_score --> compensated: Unscored" in drawn


FAULTS = {
    "two loops of one name": (LOOP.format(until="true") + LOOP.format(until="true").replace("step: a", "step: b"), "block is called r"),
    "a loop that may ask nothing": (
        f"  - {{repeat: r, until: 'true', at_most: 2, steps: [{{choose: c, cases: [{{when: 'true', steps: [{STEP}]}}]}}]}}",
        "may ask nothing",
    ),
    "a pivot in a branch": (f"  - {{choose: c, cases: [{{when: 'true', steps: [{PIVOT}]}}]}}", "Only some of its ways come to a pivot"),
    "turns that do not fit": (LOOP.format(until="order.x").replace("at_most: 9", "at_most: 90"), "before the pivot can take"),
    "a reply that not every way has": (
        f"  - {{choose: c, cases: [{{when: order.x, steps: [{STEP}]}}]}}\n  - {NEXT.replace('ask', 'with: [a.id], harmless: true, ask')}",
        "names the reply of a",
    ),
    "an undo after the pivot": (f"  - {PIVOT}\n  - {{repeat: r, until: order.x, at_most: 2, steps: [{NEXT}]}}", "nothing is undone"),
    "no expression": (f"  - {{choose: c, cases: [{{when: 'order.', steps: [{STEP}]}}]}}", "no CEL expression"),
    "a word that is none": (f"  - {{choose: c, cases: [{{when: order.x, step: [{STEP}]}}]}}", "is not a field here"),
    "a state within a block": (
        f"  - {{parallel: x, steps: [{STEP}, {NEXT.replace('ask', 'state: s, ask')}]}}",
        "is not a field here",
    ),
    "a pivot beside others": (f"  - {{parallel: x, steps: [{PIVOT}, {NEXT}]}}", "stands beside other steps"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_work_is_found_with_its_place(fault: str) -> None:
    """Else the first order finds it (R31)."""
    steps, finding = FAULTS[fault]
    with pytest.raises(DefinitionError) as refused:
        compiled(HEAD + steps + "\n")
    found = [f"{each.path}: {each.message}" for each in refused.value.findings]
    assert any(finding in each for each in found), found
    assert all("(" not in each.path for each in refused.value.findings)


TWO_PIVOTS = compiled("""
definition: two
version: 1
opens_on: Opened
key: order_id
patience: 1m
steps:
  - {step: hold, ask: p, command: Hold, done_on: Held, deadline: 1s, undo: {command: LetGo, done_on: LetGone, deadline: 1s}}
  - choose: how
    cases:
      - when: order.amount_minor > 100
        steps: [{step: wire, ask: bank, command: Wire, done_on: Wired, refused_on: NotWired, deadline: 1s, pivot: true}]
    otherwise:
      - {step: cash, ask: till, command: Cash, done_on: Cashed, deadline: 1s, pivot: true}
      - {step: count, ask: till, command: Count, done_on: Counted, deadline: 1s}
  - {step: thank, ask: post, command: Thank, done_on: Thanked, deadline: 1s}
""")


@pytest.mark.parametrize(("amount_minor", "way"), [(101, ["wire", "thank"]), (100, ["cash", "count", "thank"])])
def test_each_way_has_its_own_pivot_and_none_is_passed_twice(amount_minor: int, way: list[str]) -> None:
    """Else a way of a choice has no point of no return, or what follows can be undone (R12)."""
    told = Story(TWO_PIVOTS, data={**DATA, "amount_minor": amount_minor})
    told.place()
    assert not told.order.pivot_passed
    told.answer("hold")
    for step in way:
        assert (told.order.state, told.order.pivot_passed) == (step, True)
        assert told.act("abort").problem == "conflict"
        told.answer(step)
    assert told.order.status == "completed"


def test_a_refused_pivot_of_one_way_opens_the_way_back_and_the_other_way() -> None:
    """Else an order whose pivot did not happen cannot be undone, or moved to where it could (R12, R22)."""
    told = Story(TWO_PIVOTS)
    told.place()
    told.answer("hold")
    told.answer("wire", "refused")
    assert (told.order.direction, told.sent[-1]) == ("undoing", "LetGo")
    assert told.act("force", to="cash").problem == "conflict"
    told.answer("hold", undo=True)
    assert told.order.status == "compensated"
