"""The exploration finds what the plain one finds, which visits every state one by one."""

from __future__ import annotations

import pytest

from orchestrator.explore.moves import Moves
from orchestrator.explore.rows import DONE, HEARD, REFUSED, SENT, UNDO_SENT, UNDONE, VOUCHED, Beliefs, in_place
from orchestrator.explore.search import _Search, explore
from orchestrator.explore.world import Bound
from orchestrator.saga import silence
from orchestrator.saga.definition import Definition
from orchestrator.saga.draft import Draft
from tests.explore.kit import definition
from tests.explore.plain import promises_broken
from tests.explore.test_mutations import CORE

#: Without luck the exploration looks for an end, and the plain one with: it may find none where that one finds one.
_STRICTER = "No end can be reached from here, whoever answers."


def _kinds(promises: set[str]) -> set[str]:
    """Promises without what differs from one order to the next: the error that was raised."""
    return {promise.partition("Error: ")[0] for promise in promises}


def _promises_broken(explored: Definition, bound: Bound) -> set[str]:
    return {found.promise for found in _Search(Moves(explored.expanded, bound), bound).findings()}


def _bound(name: str) -> Bound:
    """What the plain one explores within a second or so."""
    return Bound(acts=0) if name == "pair" else Bound()


@pytest.mark.parametrize("name", CORE)
def test_it_finds_every_promise_that_a_defect_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a reduction would hide a way to break a promise."""
    of, plant, _ = CORE[name]
    plant(monkeypatch)

    plain, _ = promises_broken(definition(of), _bound(of))
    found = _promises_broken(definition(of), _bound(of))

    assert _kinds(plain) <= _kinds(found) <= _kinds(plain) | {_STRICTER}


@pytest.mark.parametrize("name", ["a force that skips an undo", "a skipped step taken for refused"])
def test_it_finds_every_promise_that_an_act_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a reduction would hide what only an operator's act brings about."""
    of, plant, _ = CORE[name]
    plant(monkeypatch)
    bound = Bound(crashes=0)

    plain, _ = promises_broken(definition(of), bound)

    assert plain
    assert _kinds(plain) == _kinds(_promises_broken(definition(of), bound))


@pytest.mark.parametrize("name", ["pivot", "after"])
def test_without_a_defect_neither_finds_anything(name: str) -> None:
    """If it failed, one of them would accuse a healthy core; and if the plain one had no more states, nothing would be reduced."""
    plain, states = promises_broken(definition(name), Bound())
    reduced = explore(definition(name), Bound())

    assert plain == set()
    assert reduced.counterexample is None
    assert reduced.complete
    assert reduced.states < states


def test_a_crash_is_a_delay_but_for_the_input_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, what a late publishing breaks would not be found: crashes have no states of their own."""
    clean = explore(definition("pivot"), Bound(acts=0))
    monkeypatch.setattr(silence, "rearm", lambda draft, deadline, _ms: Draft.disarm(draft, deadline.name))

    found = explore(definition("pivot"), Bound(acts=0)).counterexample
    without = explore(definition("pivot"), Bound(acts=0, crashes=0)).counterexample

    assert clean.counterexample is None
    assert found is not None
    assert found.promise.startswith("R27")
    assert found.moves[-1].kind == "sent_late"
    assert without is None


def test_participants_act_at_any_time_after_they_were_asked() -> None:
    """If it failed, some of what a participant may have done would never be judged."""
    beliefs = Beliefs()
    silent, outspoken = beliefs.blank

    assert beliefs.rows(beliefs.published(silent, is_undo=False)) == {SENT, SENT | DONE}
    asked = beliefs.published(outspoken, is_undo=False)
    assert beliefs.rows(asked) == {SENT, SENT | DONE, SENT | REFUSED}
    undoing = beliefs.published(asked, is_undo=True)
    both = SENT | UNDO_SENT
    assert beliefs.rows(undoing) == {both | kept | undone for kept in (0, DONE, REFUSED) for undone in (0, UNDONE)}
    confirmed = beliefs.answered(undoing, "undone")
    assert confirmed is not None
    assert beliefs.rows(confirmed) == {both | UNDONE, both | DONE | UNDONE, both | REFUSED | UNDONE}
    assert not any(in_place(row) for row in beliefs.rows(confirmed))


def test_a_belief_covers_what_can_do_no_more() -> None:
    """If it failed, a state would be left out that can do what no other can, or none would be."""
    beliefs = Beliefs()
    asked = beliefs.published(beliefs.blank[1], is_undo=False)
    heard = beliefs.answered(asked, "reply")
    assert heard is not None
    assert beliefs.rows(heard) == {SENT | DONE | HEARD}
    vouched = beliefs.vouched(asked)
    assert {row & VOUCHED for row in beliefs.rows(vouched)} == {VOUCHED}

    assert beliefs.covers(asked, heard)
    assert not beliefs.covers(heard, asked)
    assert beliefs.covers(asked, vouched)
    assert not beliefs.covers(vouched, asked)
    assert beliefs.covers(asked, beliefs.blank[1])
    assert not beliefs.covers(beliefs.published(beliefs.blank[0], is_undo=False), asked)
