"""What differs between two definitions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.saga.compare import Change, compare
from orchestrator.saga.rulebook import Rulebook
from tests.saga.world import LOAN_RULES, ORDER_RULES, ORDER_TEXT, TOUR_RULES, TRIP_RULES, compiled

#: In place of any other.
EXPRESSION = "order.other == 1"


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


@pytest.mark.parametrize("rulebook", [ORDER_RULES, TRIP_RULES, LOAN_RULES], ids=lambda rules: rules.name)
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
    for path in leaves(document):
        if path[0] == "stages" and path[-1] != "state":
            continue
        if path[-1] in {"stage", "step"}:  # names that other parts go by
            continue
        if path[-1] == "pivot" and any("stage" not in item for item in document["way"]):  # the checks let no pivot into a branch
            continue
        other = copy.deepcopy(document)
        spot = other
        for part in path[:-1]:
            spot = spot[part]
        spot[path[-1]] = instead(path, spot[path[-1]])
        yield ".".join(map(str, path)), other
    other = copy.deepcopy(document)
    other["way"] = other["way"][::-1]
    if not any("repeat" in item or "choose" in item for item in other["way"]):
        other["stages"] = other["stages"][::-1]
        other["way"] = [{"stage": index} for index in range(len(other["stages"]))]
        yield "way", other


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif not isinstance(value, list):
        yield path


def instead(path: tuple[Any, ...], value: Any) -> Any:
    """Another value of the kind."""
    if path[-1] in {"when", "until"} or (len(path) > 1 and path[-2] == "with" and isinstance(path[-1], str)):
        return EXPRESSION
    if path[-1] == "then":
        return "go_on" if value == "undo" else "undo"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value is None:
        if path[-1] == "with":
            return ["other"]
        if path[-1] == "undo":
            return {
                "command": "Undo",
                "with": None,
                "done_on": "Undone",
                "deadline_ms": 1,
                "retry": {"attempts": None, "first_ms": 1, "factor": 2.0, "max_ms": 1, "stuck_after": 5},
            }
        return 1
    return f"{value}_other"
