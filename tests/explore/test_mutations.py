"""Planted defects: in definitions, found by the static checks or the exploration; in the core, found by the exploration."""

from __future__ import annotations

from typing import Any, cast

import pytest

from orchestrator.explore.search import explore
from orchestrator.explore.world import Bound
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from tests.explore.defects import ASKING
from tests.explore.defects_listening import LISTENING
from tests.explore.kit import TEXTS, explored

CORE = ASKING | LISTENING

#: What is planted in a definition → its text, what is replaced by what, and a word of the finding.
DEFINITIONS = {
    "an effect without undo": ("pair", "    undo: {command: Refund, done_on: Refunded, deadline: 10s}\n", "", "cannot be undone"),
    "a limit at the pivot": ("pivot", "pivot: true", "pivot: true\n    retry: {attempts: 2}", "without limit"),
    "a limit of an undo": ("pair", "{stuck_after: 2}", "{attempts: 2}", "without limit"),
    "two pivots": ("after", "    step", "", "pivot"),
    "patience too short": ("pair", "patience: 10m", "patience: 10s", "can take"),
    "a watched step without undo": (
        "watched",
        "    undo: {command: PutBack, done_on: IsBack, deadline: 10s, retry: {stuck_after: 1}}\n",
        "",
        "while the order is being undone",
    ),
    "a state that comes again and again": ("cycle", "    at_most: 2\n", "", "again"),
    "a wait that nothing ends after the pivot": (
        "house_closing",
        "  closed: {outcome: completed}",
        "  closing: {on: {KeysLost: closed}}\n  closed: {outcome: completed}",
        "nothing ends this wait",
    ),
    "a failed end that would undo the pivot": ("house_closing", "then: closed", "then: closing_unfinished", "nothing is undone"),
    "one event, two meanings": ("pair", "refused_on: Declined", "refused_on: Paid", "two answers"),
}


@pytest.mark.parametrize("name", CORE)
def test_a_defect_of_the_core_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a change of the core could break this promise and the exploration would call it clean."""
    definition, plant, promise = CORE[name]
    plant(monkeypatch)

    found = explored(definition).counterexample

    assert found is not None
    assert found.promise.startswith(promise), found


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_defect_of_a_definition_is_found(name: str) -> None:
    """If it failed, orders would run on a definition that cannot keep the promises."""
    base, old, new, word = DEFINITIONS[name]
    text = TEXTS[base].replace(old, new, 1)
    if name == "two pivots":
        text = TEXTS[base] + "    pivot: true\n"
    if name == "a wait that nothing ends after the pivot":
        text = text.replace("then: closed", "then: closing")

    assert any(word in finding.message for finding in check(read(text, "planted.yaml")))


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("an effect without undo", "The order is over (compensated)"),
        ("a limit at the pivot", "R12"),
        ("a watched step without undo", "The order is over (compensated)"),
    ],
)
def test_what_the_checks_refuse_would_break_a_promise(name: str, promise: str) -> None:
    """If it failed, a static check would forbid what does no harm, or the exploration would be blind to it."""
    base, old, new, _ = DEFINITIONS[name]
    text = TEXTS[base].replace(old, new, 1)

    found = explore(read(text, "planted.yaml"), Bound()).counterexample

    assert found is not None
    assert found.promise.startswith(promise), found


@pytest.mark.parametrize(("name", "limits"), [("pair", {"acts": 0}), ("pivot", {}), ("after", {}), ("pivot", {"attempts": 3})])
def test_without_a_defect_nothing_is_found(name: str, limits: dict[str, int]) -> None:
    """If it failed, the exploration would accuse a core that keeps its promises, or the core would break one."""
    exploration = explored(name, **cast("Any", limits))

    assert exploration.counterexample is None
    assert exploration.complete
    assert exploration.ends > 0
