"""What the exploration visits, what it leaves out, and how it tells what it found."""

from __future__ import annotations

from collections import defaultdict
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.explore.inputs import Move, acts, events
from orchestrator.explore.moves import Moves
from orchestrator.explore.scenario import tell
from orchestrator.explore.search import _Search, explore
from orchestrator.explore.shape import OPEN, knowledge_covers, names_of, waits_of
from orchestrator.explore.variants import bounded, says, variants
from orchestrator.explore.world import Bound, Orders
from orchestrator.saga import messages
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.play import play_file
from tests.explore.defects_listening import LISTENING
from tests.explore.kit import TEXTS, definition, explored
from tests.saga.listening import HOUSE_RULES, ORDER_WATCHED_RULES, STATES_RULES
from tests.saga.world import LOAN_RULES, ORDER_TEXT, PARCEL_RULES, TOUR_RULES, TRIP_RULES


@pytest.mark.parametrize("name", ["order", "order_watched", "house_closing"])
def test_a_shipped_definition_explores_clean(name: str) -> None:
    """If it failed, some interleaving of what can happen to a shipped order would break a promise."""
    exploration = explored(name)

    assert exploration.counterexample is None
    assert exploration.complete
    assert exploration.ends > 100


@pytest.mark.parametrize("name", ["watched", "beside", "ways", "join", "cycle"])
def test_what_listens_explores_clean(name: str) -> None:
    """If it failed, watched steps, joins, states that come again, guards or ends would break a promise, or be beyond the exploration."""
    assert check(definition(name)) == []
    exploration = explored(name)

    assert exploration.counterexample is None
    assert exploration.complete
    assert exploration.ends > 50


def test_reminders_make_no_states() -> None:
    """If it failed, a state that reminds would be explored once for each number of reminders, without end."""
    names = names_of(Rulebook(definition("join").expanded))
    chased = explored("join", acts=0, crashes=0)
    text = TEXTS["join"].replace("    remind: {every: 1h, ask: store, command: Chase}\n", "")
    alone = explore(read(text, "join.yaml"), Bound(acts=0, crashes=0))

    assert names.notices == {"gathering.Chase"}
    assert chased.states == alone.states


def test_more_events_reach_more() -> None:
    """If it failed, the bound on events would bound nothing."""
    states = [explored("join", acts=0, crashes=0, events=events).states for events in (0, 1, 2, 3)]

    assert states == sorted(set(states))


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


@pytest.mark.parametrize(
    ("document", "ways"), [(LOAN_RULES.document, 3 * 2 * 2), (STATES_RULES.document, 4 * 2 * 2)], ids=["line", "states"]
)
def test_guards_come_out_every_way(document: dict[str, Any], ways: int) -> None:
    """If it failed, a branch or the end of a loop would never be explored."""
    said = [tuple((guard, says(text)) for text, guard in guards.items()) for _, guards in variants(document)]

    assert len(set(said)) == len(said) == ways
    for guard in {text for texts in said for text, _ in texts}:
        assert {dict(texts)[guard] for texts in said} == {True, False}


_ALIKE = [Rulebook(definition("pair").expanded), TOUR_RULES, TRIP_RULES, ORDER_WATCHED_RULES, HOUSE_RULES]
#: In a house closing nothing that is undone was ever asked, so no state covers another by what is known.
_COVERING = [*_ALIKE[:-1], Rulebook(definition("join").expanded)]


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


@pytest.mark.parametrize("rulebook", _COVERING, ids=lambda rulebook: rulebook.name)
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
            differ = {key for key, (one, other) in zip(orders.keys[covered], pairs, strict=True) if one != other}
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
        for key in [key for key, one in zip(orders.keys[before], known, strict=True) if one & OPEN]:
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
    moves = [*events(rulebook, order, Bound().events)]
    moves += [Move("deadline", name) for name in order.deadlines if waits_of(name) == name]
    moves += acts(rulebook, order)
    for key, ask in order.asks.items():
        is_answered = ask.attempts or rulebook.by_name[ask.step].watched
        moves += [Move("reply", key), Move("refusal", key), Move("too_late", key)] if is_answered else []
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


@pytest.mark.parametrize(
    "name", ["a join counted twice", "a late event not put back", "an idle watched step not undone", "what is parked kept at an end"]
)
def test_what_is_found_of_events_plays_as_a_scenario(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a counterexample with events from outside, or with answers that nobody was asked for, could not be played."""
    of, plant, _ = LISTENING[name]
    with monkeypatch.context() as patch:
        plant(patch)
        bound = Bound()
        found = explore(definition(of), bound).counterexample
        assert found is not None
        told = tell(definition(of), bound, found, f"{of}.yaml")
        (tmp_path / f"{of}.yaml").write_text(TEXTS[of])
        (tmp_path / "found.yaml").write_text(told.scenario)
        result = play_file(tmp_path / "found.yaml")

    assert result is not None
    assert result.failures == (), told.scenario
    healthy = play_file(tmp_path / "found.yaml")
    assert healthy is not None
    assert healthy.failures != (), told.scenario


def test_a_counterexample_is_the_plainest_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a reader would wade through acts and crashes that have nothing to do with what was found."""
    monkeypatch.setattr(Ask, "possibly_done", property(lambda ask: ask.forward == "done"))

    found = explored("pair").counterexample

    assert found is not None
    assert sorted(move.kind for move in found.moves) == ["deadline", "opens", "works"]


def test_the_small_definitions_differ() -> None:
    """If it failed, the mutations would be planted in fewer definitions than they say."""
    assert len({definition(name).fingerprint for name in TEXTS}) == len(TEXTS)
