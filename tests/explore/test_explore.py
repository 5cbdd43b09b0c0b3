"""What the exploration visits, what it leaves out, and how it tells what it found."""

from __future__ import annotations

from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.explore.inputs import Move, acts
from orchestrator.explore.moves import Moves
from orchestrator.explore.scenario import tell
from orchestrator.explore.search import _Search, explore
from orchestrator.explore.world import OPEN, Bound, Orders, bounded, knowledge_covers, variants
from orchestrator.saga import messages
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.play import play_file
from tests.explore.kit import TEXTS, definition, explored
from tests.saga.world import LOAN_RULES, ORDER_TEXT, PARCEL_RULES, TOUR_RULES, TRIP_RULES


def test_the_shipped_definition_explores_clean() -> None:
    """If it failed, some interleaving of what can happen to a shipped order would break a promise."""
    exploration = explored("order")

    assert exploration.counterexample is None
    assert exploration.complete
    assert exploration.ends > 100


@pytest.mark.parametrize("rulebook", [TOUR_RULES, PARCEL_RULES, TRIP_RULES, LOAN_RULES], ids=lambda rulebook: rulebook.name)
def test_every_form_explores_clean(rulebook: Rulebook) -> None:
    """If it failed, steps side by side, branches, loops or steps after the pivot would break a promise, or be beyond the exploration."""
    exploration = explore(_Read(rulebook), Bound(acts=0, crashes=0))  # type: ignore[arg-type]

    assert exploration.counterexample is None
    assert exploration.complete


def test_an_exploration_repeats_itself() -> None:
    """If it failed, a counterexample found once could not be found again."""
    assert explored("pivot") == explored("pivot")


def test_more_of_the_bound_reaches_more() -> None:
    """If it failed, raising a bound would explore nothing new."""
    states = [explored("pivot", acts=acts).states for acts in (0, 1, 2)]

    assert states == sorted(set(states))


def test_too_many_states_are_not_called_clean() -> None:
    """If it failed, an exploration that was given up would pass for one that found nothing."""
    exploration = explored("pair", states=100)

    assert not exploration.complete
    assert exploration.counterexample is None


def test_limits_are_lowered_and_never_raised() -> None:
    """If it failed, the exploration would run on other limits than it says."""
    expanded = definition("pair").expanded
    retries = [step["retry"] for step in bounded(expanded, 2)["steps"]] + [step["undo"]["retry"] for step in bounded(expanded, 2)["steps"]]

    assert [retry["attempts"] for retry in retries] == [2, 2, None, None]
    assert [retry["stuck_after"] for retry in retries] == [None, None, 2, 2]
    assert bounded(expanded, 50) == expanded


def test_guards_come_out_every_way() -> None:
    """If it failed, a branch or the end of a loop would never be explored."""
    decided = variants(LOAN_RULES.document)
    said = [tuple(guards.items()) for _, guards in decided]

    assert len(set(said)) == len(said) > 1
    for guard in {text for texts in said for text, _ in texts}:
        assert {dict(texts)[guard] for texts in said} == {True, False}


_ALIKE = [Rulebook(definition("pair").expanded), TOUR_RULES, TRIP_RULES]


class _Read:
    """What is explored of a definition."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.expanded = rulebook.document


def _met(rulebook: Rulebook, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Order]]:
    """Up to four orders of each number, as the exploration met them."""
    alike: defaultdict[int, list[Order]] = defaultdict(list)
    original = Orders.number

    def number(orders: Orders, order: Order, phase: tuple[Any, ...] = ()) -> int:
        known = original(orders, order, phase)
        if len(alike[known]) < 4 and not any(met.seq == order.seq for met in alike[known]):
            alike[known].append(order)
        return known

    with monkeypatch.context() as patch:
        patch.setattr(Orders, "number", number)
        explore(_Read(rulebook), Bound(acts=0))  # type: ignore[arg-type]
    return alike


@pytest.mark.parametrize("rulebook", _ALIKE, ids=lambda rulebook: rulebook.name)
def test_orders_that_are_one_have_the_same_futures(rulebook: Rulebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, the exploration would leave out what makes a difference, and miss what only the left-out order does."""
    moves = Moves(rulebook.document, Bound())
    compared = 0
    for first, *others in _met(rulebook, monkeypatch).values():
        number = moves.orders.number(first)
        for move in _every(rulebook, first):
            expected = moves._tried(number, first, move)
            for other in others:
                assert moves._tried(number, other, move) == expected, (first, other, move)
                compared += 1
    assert compared > 50


@pytest.mark.parametrize("rulebook", _ALIKE, ids=lambda rulebook: rulebook.name)
def test_what_is_heard_of_an_undone_ask_changes_nothing_else(rulebook: Rulebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a state would be left out that does what the one which covers it does not."""
    moves = Moves(rulebook.document, Bound())
    orders = moves.orders
    families: defaultdict[int, dict[int, Order]] = defaultdict(dict)
    for first, *_ in _met(rulebook, monkeypatch).values():
        number = orders.number(first)
        families[orders.family[number]][number] = first
    compared = 0
    for family in families.values():
        for covering, covered in permutations(family, 2):
            pairs = list(zip(orders.known[covering], orders.known[covered], strict=True))
            if not all(knowledge_covers(*pair) for pair in pairs):
                continue
            differ = {key for key, (one, other) in zip(family[covered].asks, pairs, strict=True) if one != other}
            for move in _every(rulebook, family[covered]):
                if move.subject not in differ or move.kind == "undone":
                    assert _futures(moves, covering, move) == _futures(moves, covered, move), (family[covering], family[covered], move)
                    compared += 1
    assert compared > 50


@pytest.mark.parametrize("name", ["pair", "order"])
def test_a_confirmation_beside_a_forced_order_can_come_later(name: str) -> None:
    """If it failed, a state in which an undo of an earlier epoch is confirmed would be left out, and do what no other does."""
    bound = Bound(crashes=0)
    moves = Moves(definition(name).expanded, bound)
    _ = list(_Search(moves, bound).findings())
    orders = moves.orders
    compared = 0
    for before, known in list(enumerate(orders.known)):
        for key in [key for key, one in zip(orders.met[before].asks, known, strict=True) if one & OPEN]:
            confirmed = Move("undone", key)
            (after,) = moves._decided(before, confirmed)
            if orders.family[after.order] == orders.family[before]:
                for move in _every(moves.rulebook, orders.met[after.order]):
                    if _is_of_another(move, orders.met[before], key):
                        assert _both(moves, after.order, move, None) == _both(moves, before, move, confirmed), (
                            orders.met[before],
                            key,
                            move,
                        )
                        compared += 1
    assert compared > 1_000


def _is_of_another(move: Move, order: Order, key: str) -> bool:
    """Whether a move is not about this ask; and one that an honest participant can make: it never does what it refused."""
    ask = order.asks.get(move.subject)
    is_honest = move.kind != "reply" or ask is None or ask.forward != "refused" or ask.undo != "none"
    return is_honest and move.subject not in {key, "retry"} and ("step", order.asks[key].step) not in move.arguments


def _both(moves: Moves, number: int, move: Move, then: Move | None) -> list[tuple[int, frozenset[Any]]]:
    """Where one move, or two, lead to, and what is sent on the way."""
    return [
        (moves.orders.family[last.order], outcome.sent | last.sent)
        for outcome in moves._decided(number, move)
        for last in (moves._decided(outcome.order, then) if then else [outcome])
    ]


def _futures(moves: Moves, number: int, move: Move) -> list[tuple[Any, ...]]:
    """What a move leads to, whatever is known of asks that are undone."""
    outcomes = moves._tried(number, moves.orders.met[number], move)
    return [(moves.orders.family[outcome.order], *outcome[2:]) for outcome in outcomes]


def _every(rulebook: Rulebook, order: Order) -> list[Move]:
    moves = [Move("event", name) for name in rulebook.abort_on]
    moves += [Move("deadline", name) for name in order.deadlines if ":" not in name]
    moves += acts(rulebook, order)
    for key, ask in order.asks.items():
        moves += [Move("reply", key), Move("refusal", key), Move("too_late", key)] if ask.attempts else []
        moves += [Move("undone", key)] if ask.undo_attempts else []
    return moves


@pytest.mark.parametrize("defect", ["silent step", "success in the backoff", "too late"])
def test_what_is_found_plays_as_a_scenario(defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a counterexample could not be played on the definition as it is written, with all its attempts."""
    with monkeypatch.context() as patch:
        _plant(patch, defect)
        order = definition("order")
        bound = Bound()
        found = explore(order, bound).counterexample
        assert found is not None
        told = tell(order, bound, found, "order.yaml")
        (tmp_path / "order.yaml").write_text(ORDER_TEXT)
        (tmp_path / "found.yaml").write_text(told.scenario)
        result = play_file(tmp_path / "found.yaml")

        assert result is not None
        assert result.failures == (), told.scenario
        assert result.title == found.promise
    healthy = play_file(tmp_path / "found.yaml")
    assert healthy is not None
    assert healthy.failures != ()
    assert told.lines[0].startswith("1. OrderPlaced arrives")


def _plant(patch: pytest.MonkeyPatch, defect: str) -> None:
    success = messages._success

    def deaf(line: Any, step: Any, ask: Ask) -> Any:
        return line.late("deaf") if f"retry:{ask.key}" in line.draft.deadlines else success(line, step, ask)

    if defect == "silent step":
        patch.setattr(Ask, "possibly_done", property(lambda ask: ask.forward == "done"))
    elif defect == "too late":
        patch.setattr(messages, "COMMAND_TOO_LATE", f"Not{COMMAND_TOO_LATE}")
    else:
        patch.setattr(messages, "_success", deaf)


def test_a_counterexample_is_the_plainest_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a reader would wade through acts and crashes that have nothing to do with what was found."""
    monkeypatch.setattr(Ask, "possibly_done", property(lambda ask: ask.forward == "done"))

    found = explored("pair").counterexample

    assert found is not None
    assert sorted(move.kind for move in found.moves) == ["deadline", "opens", "works"]


def test_the_small_definitions_differ() -> None:
    """If it failed, the mutations would be planted in fewer definitions than they say."""
    assert len({definition(name).fingerprint for name in TEXTS}) == len(TEXTS)
