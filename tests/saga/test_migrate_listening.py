"""Another version of a definition that listens: what others bring about comes under the names that they know (R30, R6, R11)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.contract import first_command_id
from orchestrator.saga.rulebook import Rulebook
from tests.saga.listening import HOUSE_TEXT, SALE_DATA, STATES_RULES
from tests.saga.test_migrate import migrated
from tests.saga.test_states import closing, heard, money
from tests.saga.world import Story, compiled, story

CHAIN = """
definition: chain
version: 1
opens_on: Opened
key: order_id
patience: 1h
steps:
  - {step: a, ask: p, command: DoA, send: on_silence, done_on: ADone, deadline: 1m, undo: {command: UndoA, done_on: AUndone, deadline: 1m}}
  - {step: b, ask: q, command: DoB, send: on_silence, done_on: BDone, deadline: 1m, undo: {command: UndoB, done_on: BUndone, deadline: 1m}}
  - {step: c, ask: r, command: DoC, done_on: CDone, deadline: 1m, pivot: true}
"""
FIRST = compiled(CHAIN)
NEXT = CHAIN.replace("version: 1", "version: 2")
SECOND = compiled(NEXT)
NEW_A = compiled(NEXT.replace("step: a,", "step: begin,"))
NEW_B = compiled(NEXT.replace("step: b,", "step: middle,"))
ASKED_A = compiled(NEXT.replace("command: DoA, send: on_silence,", "command: DoA,"))
ASKED_B = compiled(NEXT.replace("command: DoB, send: on_silence,", "command: DoB,"))
OTHER_B = compiled(NEXT.replace("done_on: BDone", "done_on: BDid"))
MORE = compiled(
    NEXT.replace(
        "  - {step: a,",
        "  - {step: z, ask: p, command: DoZ, send: on_silence, done_on: ZDone, deadline: 1m, "
        "undo: {command: UndoZ, done_on: ZUndone, deadline: 1m}}\n  - {step: a,",
    )
)
EARLIER_PIVOT = compiled(NEXT.replace("done_on: BDone, ", "done_on: BDone, pivot: true, ").replace(", pivot: true}", "}"))


def chain() -> Story:
    """An order that watches its first step."""
    return story(rulebook=FIRST)


def test_a_watched_step_under_another_name_is_heard_under_the_id_that_it_has() -> None:
    """Else its event is kept for a step that is waited for already, and never applied."""
    told = chain()
    assert migrated(told, NEW_A, {"a": "begin"}).verdict == "moved"
    assert told.ask("begin").command_id == first_command_id("o1", "a")
    assert heard(told, "ADone", source="p").verdict == "moved"
    assert (told.order.state, told.order.parked) == ("b", {})


@pytest.mark.parametrize(
    ("target", "names"),
    [(NEW_B, {"b": "middle"}), (ASKED_A, {}), (ASKED_B, {}), (OTHER_B, {})],
    ids=["a new name for a step to come", "the present step is asked", "a step to come is asked", "another answer"],
)
def test_what_others_bring_about_must_be_heard_there(target: Rulebook, names: Mapping[str, str]) -> None:
    """Else their effects stay when the order is undone, or their events mean nothing (R11)."""
    told = chain()
    before = told.order
    decision = migrated(told, target, names)
    assert decision.problem == "conflict"
    assert "Others bring" in (decision.reason or "")
    assert decision.order is before


def test_what_is_over_need_not_be_watched_there() -> None:
    """Else an order that has long passed a watched step is bound to its version."""
    told = chain()
    heard(told, "ADone", source="p")
    assert migrated(told, ASKED_A).verdict == "moved"


def test_what_was_kept_is_applied_under_the_other_version() -> None:
    """Else a migration loses early events."""
    told = chain()
    heard(told, "BDone", source="q")
    migrated(told, SECOND)
    heard(told, "ADone", source="p")
    assert (told.order.version, told.order.state, told.order.parked) == (2, "c", {})


def test_an_order_that_was_forced_moves_with_the_watched_step_it_waits_for() -> None:
    """Else a forced order can never be migrated: its watched ask is of epoch 0."""
    told = chain()
    told.act("force", to="b")
    assert (told.order.epoch, told.ask("b").epoch) == (1, 0)
    assert migrated(told, SECOND).verdict == "moved"
    assert told.order.state == "b"


def test_a_watched_pivot_that_was_reached_after_a_force_is_passed_there_too() -> None:
    """Else an order that cannot go back is refused its way on."""
    text = (
        NEXT.replace("version: 2", "version: 1").replace("done_on: BDone, ", "done_on: BDone, pivot: true, ").replace(", pivot: true}", "}")
    )
    told = story(rulebook=compiled(text))
    told.act("force", to="b")
    assert told.order.pivot_passed
    assert migrated(told, EARLIER_PIVOT).verdict == "moved"
    assert told.order.pivot_passed


def test_a_watched_step_that_the_order_has_passed_there_is_taken_and_undone_with_the_rest() -> None:
    """Else its event is kept for a turn that never comes (R1)."""
    told = chain()
    assert migrated(told, MORE).verdict == "moved"
    assert heard(told, "ZDone", source="p").verdict == "moved"
    assert (told.order.state, told.order.parked, told.ask("z").forward) == ("a", {}, "done")
    told.act("abort")
    assert {ask.step: ask.undo for ask in told.order.asks.values()} == {"a": "none", "z": "none", "b": "asked"}


def test_an_order_that_is_being_undone_does_not_begin_to_watch() -> None:
    """Else an effect appears behind the way back (R11)."""
    told = chain()
    told.act("abort")
    assert "watches z" in (migrated(told, MORE).reason or "")
    assert migrated(told, SECOND).verdict == "moved"


HOUSE_NEXT = HOUSE_TEXT.replace("version: 1", "version: 2")
HOUSES = {
    "other reminders": HOUSE_NEXT.replace("    remind: {every: 2d, ask: agent, command: ChaseSignatures, with: [closing_id]}\n", ""),
    "a notice in the place of a reminder": HOUSE_NEXT.replace(
        "    remind: {every: 2d, ask: agent, command: ChaseSignatures, with: [closing_id]}\n",
        "    ask: agent\n    command: ChaseSignatures\n    with: [closing_id]\n",
    ),
    "one signature is enough": HOUSE_NEXT.replace("[BuyerSigned, SellerSigned]", "[BuyerSigned]"),
    "the other signature is enough": HOUSE_NEXT.replace("[BuyerSigned, SellerSigned]", "[SellerSigned]"),
    "money that cannot go back": HOUSE_NEXT.replace(
        "        undo: {command: ReturnDeposit, with: [closing_id], done_on: DepositReturned, deadline: 1h, retry: {first: 1m, max: 1h}}\n",
        "",
    ),
    "no such state": HOUSE_NEXT.replace("awaiting_signatures", "signing"),
}


@pytest.mark.parametrize("case", HOUSES)
def test_a_state_is_left_for_one_that_waits_alike(case: str) -> None:
    """Else what has come counts for nothing, a clock fires that nobody knows, or money that was kept is lost."""
    told = closing("BuyerSigned", "FundsReceived")
    before = told.order
    decision = migrated(told, compiled(HOUSES[case]))
    assert (decision.problem, decision.order) == ("conflict", before), decision.reason


def test_a_closing_goes_on_under_another_version() -> None:
    """Else long lives cannot be mended."""
    told = closing("BuyerSigned")
    money(told, 500)
    assert migrated(told, compiled(HOUSE_NEXT.replace("deadline: {after: 14d", "deadline: {after: 20d"))).verdict == "moved"
    told.due("remind:awaiting_signatures.0")
    heard(told, "SellerSigned")
    assert (told.order.version, told.order.state) == (2, "recording_deed")


def test_the_end_that_an_undo_leads_to_must_be_there() -> None:
    """Else an order is undone to an end that does not exist (R3)."""
    told = closing("BuyerSigned", "SellerSigned", "FundsReceived")
    told.answer("recording_deed", "refused")
    assert told.order.goal == "closing_unfinished"
    other = compiled(HOUSE_NEXT.replace("closing_unfinished", "closing_failed"))
    assert "no such end" in (migrated(told, other).reason or "")
    assert migrated(told, compiled(HOUSE_NEXT)).verdict == "moved"
    told.answer("FundsReceived", undo=True)
    assert (told.order.state, told.rulebook.version) == ("closing_unfinished", 2)


def test_a_state_that_asks_keeps_its_reminders_or_stays() -> None:
    """Else a reminder fires in a state that has none."""
    told = story(rulebook=STATES_RULES, data=SALE_DATA)
    told.act("force", to="reserving")
    document = dict(STATES_RULES.document)
    stages = [{**stage, "notices": []} if stage["state"] == "reserving" else stage for stage in document["stages"]]
    assert migrated(told, Rulebook({**document, "version": 2, "stages": stages})).problem == "conflict"
    assert migrated(told, Rulebook({**document, "version": 2})).verdict == "moved"
    told.due("remind:reserving.0")
    assert told.sent[-1] == "Hurry"
