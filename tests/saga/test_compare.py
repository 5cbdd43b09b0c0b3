"""What differs between two definitions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.saga.compare import Change, compare
from orchestrator.saga.rulebook import Rulebook
from tests.fuzz.seeds import EVERY_STATE, EVERY_WORD
from tests.saga.world import DEFINITIONS, LOAN_RULES, ORDER_RULES, ORDER_TEXT, TOUR_RULES, TRIP_RULES, compiled

HOUSE_TEXT = (DEFINITIONS / "house_closing.yaml").read_text(encoding="utf-8")
HOUSE_RULES = compiled(HOUSE_TEXT)
EVERY = [ORDER_RULES, TRIP_RULES, LOAN_RULES, compiled(EVERY_WORD), HOUSE_RULES, compiled(EVERY_STATE)]
#: In place of any other.
EXPRESSION = "order.other == 1"
#: Of an event from outside that can be undone: no order is asked for it, so these say nothing.
NEVER_ASKED = {"command", "with", "done_on", "deadline_ms", "retry", "pivot", "harmless"}


def changed(old: str, new: str) -> list[str]:
    """What differs when the shipped definition is written otherwise."""
    assert old in ORDER_TEXT
    return [str(change) for change in compare(ORDER_RULES, compiled(ORDER_TEXT.replace(old, new)))]


def test_a_new_version_with_the_same_content_changes_nothing() -> None:
    """If it failed, an operator would look for what does not differ."""
    assert changed("version: 1", "version: 7") == []


def test_a_deadline_is_told_with_what_follows_from_it() -> None:
    """If it failed, nobody would see that all orders take longer now."""
    found = changed("refused_on: PaymentDeclined\n    deadline: 30s", "refused_on: PaymentDeclined\n    deadline: 1m")
    assert found == [
        "definition: longest until the pivot is asked (without one: until completed): 5 min 10 s → 7 min 10 s.",
        "definition: longest until the last undo is first sent, the others confirmed at once: 5 min 40 s → 7 min 40 s.",
        "take_payment: deadline: 30 s → 1 min.",
    ]


def test_who_is_asked_what_and_how_it_is_undone() -> None:
    """If it failed, a changed participant or undo would go unseen."""
    assert changed("ask: payment", "ask: bank") == ["take_payment: participant: payment → bank."]
    assert changed("done_on: PaymentRefunded", "done_on: MoneyBack") == ["take_payment: undo done on: PaymentRefunded → MoneyBack."]
    assert changed("retry: {first: 5s, max: 5m}}\n  - step: take", "retry: {first: 7s, max: 5m}}\n  - step: take") == [
        "reserve_inventory: undo's first backoff: 5 s → 7 s."
    ]
    assert changed("completed: OrderCompleted, ", "") == ["definition: announced when completed: OrderCompleted → none."]


def test_steps_that_come_and_go_are_told_with_the_state_that_is_gone() -> None:
    """If it failed, orders could be meant to move to a version that has no such state."""
    found = compare(ORDER_RULES, TOUR_RULES)
    assert Change("take_payment", "it is removed. Orders in the state taking_payment have no such state there.") in found
    assert Change("reserve", "it is added, on the way of every order: hotel is sent Reserve.") in found
    assert Change("definition", "name: order → tour.") in found


def test_states_and_events_are_told_with_what_changes_in_them() -> None:
    """If it failed, an operator would move orders to a graph that leads elsewhere."""

    def house(old: str, new: str) -> list[str]:
        assert old in HOUSE_TEXT
        return [str(change) for change in compare(HOUSE_RULES, compiled(HOUSE_TEXT.replace(old, new)))]

    assert house("deadline: {after: 14d, then", "deadline: {after: 20d, then") == [
        "awaiting_signatures: deadline: after 14 d, then closing_unfinished → after 20 d, then closing_unfinished."
    ]
    assert house("when: event.amount_minor >= order.price_minor\n", "when: event.amount_minor > 0\n") == [
        (
            "awaiting_funds: on FundsReceived: when `event.amount_minor >= order.price_minor` recording_deed → "
            "when `event.amount_minor > 0` recording_deed."
        )
    ]
    assert house("command: ReturnDeposit", "command: PayBack") == ["FundsReceived: undo's command: ReturnDeposit → PayBack."]
    assert house("{outcome: failed, undo: all}", "{outcome: failed, undo: none}")[-1] == (
        "closing_unfinished: undoes: FundsReceived, paying_seller, recording_deed → none."
    )
    renamed = house("awaiting_funds", "waiting_for_money")
    assert "awaiting_funds: the state is removed. Orders in it have no such state there." in renamed
    assert "waiting_for_money: the state is added: it waits." in renamed


def test_what_others_bring_about_is_told() -> None:
    """If it failed, nobody would see that a step is watched now, or what its answer must say."""
    assert changed("    ask: payment\n", "    ask: payment\n    send: on_silence\n")[-1] == "take_payment: sent: at once → on silence."
    assert changed("    done_on: PaymentTaken\n", "    done_on: PaymentTaken\n    done_when: event.paid == true\n") == [
        "take_payment: done when: none → `event.paid == true`."
    ]
    row = "policies: [{event: PaymentTaken, late: quarantine}]\nsteps:\n"
    assert changed("steps:\n", row) == ["definition: policies: none → PaymentTaken late in all other states: quarantine."]


@pytest.mark.parametrize("rulebook", EVERY, ids=lambda rules: rules.name)
def test_nothing_that_an_order_can_meet_goes_unseen(rulebook: Rulebook) -> None:
    """If it failed, two definitions would be called equal, and orders would behave otherwise on each."""
    assert compare(rulebook, rulebook) == []
    unseen = []
    for path, document in altered(rulebook.document):
        if not compare(rulebook, Rulebook(document)):
            unseen.append(path)
    assert unseen == ["version"]


def altered(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with one leaf changed, for every leaf that can be by itself, and with its items in another order."""
    states = [stage["state"] for stage in document["stages"]] if not document["way"] else []
    for path in leaves(document):
        if not (says_nothing_in_states(document, path) if states else says_nothing_in_a_line(document, path)):
            other = copy.deepcopy(document)
            spot = other
            for part in path[:-1]:
                spot = spot[part]
            others = sorted(document["events"]) if "all_of" in path else states
            spot[path[-1]] = instead(path, spot[path[-1]], others)
            yield ".".join(map(str, path)), other
    other = copy.deepcopy(document)
    if states:
        other["stages"] = other["stages"][1:] + other["stages"][:1]
        yield "begins_in", other
        return
    other["way"] = other["way"][::-1]
    if not any("repeat" in item or "choose" in item for item in other["way"]):
        other["stages"] = other["stages"][::-1]
        other["way"] = [{"stage": index} for index in range(len(other["stages"]))]
        yield "way", other


def says_nothing_in_a_line(document: Any, path: tuple[Any, ...]) -> bool:
    """Names that other parts go by; and a pivot in a branch, which stands on each way or on none."""
    if path[-1] == "pivot" and any("stage" not in item for item in document["way"]):
        return True
    return path[-1] in {"stage", "step"} or (path[0] == "stages" and path[-1] != "state")


def says_nothing_in_states(document: Any, path: tuple[Any, ...]) -> bool:
    """Names that other parts go by, words that are there for others, and one time of a deadline that has the other."""
    if path[-1] in {"stage", "step", "state", "notice"} or (path[0] == "stages" and "steps" in path):
        return True
    if path[0] == "facts":
        return path[2] in NEVER_ASKED
    spot = document
    for part in path[:-1]:
        spot = spot[part]
    if path[-2:-1] == ("ending",) and path[-1] == "undo":
        return bool(spot["outcome"] == "completed")
    return path[-2:-1] == ("deadline",) and spot[path[-1]] is None


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif not isinstance(value, list):
        yield path


def instead(path: tuple[Any, ...], value: Any, others: list[str]) -> Any:
    """Another value of the kind. `others`: names of which one can stand in its place."""
    if path[-1] in {"when", "until", "done_when", "at"} or (len(path) > 1 and path[-2] in {"with", "set"} and isinstance(path[-1], str)):
        return EXPRESSION
    if others and ("all_of" in path or path[-1] in {"then", "on_refused"}):
        return next(name for name in others if name != value)
    if path[-1] == "then":
        return "go_on" if value == "undo" else "undo"
    if path[-1] in {"early", "late", "unexpected"}:
        return "quarantine" if value != "quarantine" else "note"
    if path[-1] == "outcome":
        return "completed" if value == "failed" else "failed"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value is None:
        return ANEW.get(path[-1], 1)
    return "none" if value == "all" else f"{value}_other"


#: In place of none.
ANEW: dict[str, Any] = {
    "with": ["other"],
    "undo": {
        "command": "Undo",
        "with": None,
        "done_on": "Undone",
        "deadline_ms": 1,
        "retry": {"attempts": None, "first_ms": 1, "factor": 2.0, "max_ms": 1, "stuck_after": 5},
    },
}
