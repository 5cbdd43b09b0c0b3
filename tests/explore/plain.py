"""The exploration without its reductions: participants move by themselves, crashes are states, and no state covers another.

It shares what orders decide with `orchestrator.explore.moves`, and nothing else; slow, and so for small definitions alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.explore.inputs import Move, places
from orchestrator.explore.moves import Moves, Outcome
from orchestrator.explore.promises import broken_by_ending, ending, is_over
from orchestrator.explore.rows import SENT, UNDO_SENT, VOUCHED, Answer, acts_of, after_answer
from orchestrator.explore.world import Bound, Sending
from orchestrator.saga.definition import Definition

_ANSWERS: tuple[Answer, ...] = ("reply", "refusal", "too_late", "undone")
_LOST = bytes(row & ~(SENT | UNDO_SENT) for row in range(256))


class State(NamedTuple):
    """One state: the order's number, the rows that participants really have, what a crash left unpublished, and the bound's rest."""

    order: int
    rows: bytes
    unsent: frozenset[Sending]
    acts: int
    crashes: int


#: What may happen next: the state after it, and the promise that is broken.
Steps = Iterator[tuple[State, str | None]]


def promises_broken(definition: Definition, bound: Bound) -> tuple[set[str], int]:
    """Every promise that some run breaks, and the number of states; a run ends with the first it breaks."""
    search = _Plain(definition, bound)
    return search.run(), len(search.seen)


class _Plain:
    def __init__(self, definition: Definition, bound: Bound) -> None:
        self._moves = Moves(definition.expanded, bound)
        self._bound = bound
        self.seen: set[State] = set()
        self._ahead: set[State] = set()

    def run(self) -> set[str]:
        found: set[str] = set()
        todo: list[State] = []
        for _, world, broken in self._moves.first(self._bound):
            if broken:
                found.add(broken)
                continue
            rows = bytes(self._moves.beliefs.seen(belief) for belief in world.rows)
            sent = frozenset((place, False) for place, row in enumerate(rows) if row & SENT)
            todo.append(State(world.order, rows, frozenset(), world.acts, world.crashes))
            if world.crashes:
                todo.append(State(world.order, bytes(len(rows)), sent, world.acts, world.crashes - 1))
        while todo:
            state = todo.pop()
            if state in self.seen:
                continue
            self.seen.add(state)
            if broken := self._broken_by_ending(state):
                found.add(broken)
                continue
            for following, broken in self._after(state, called=False):
                if broken:
                    found.add(broken)
                else:
                    todo.append(following)
            if not self._an_end_is_ahead(state):
                found.add("No end can be reached from here, whoever answers.")
        return found

    def _broken_by_ending(self, state: State) -> str | None:
        end = ending(self._moves.rulebook, self._moves.orders.met[state.order])
        broken = end and broken_by_ending(end, [[row] for row in state.rows])
        return broken[0] if broken else None

    def _after(self, state: State, *, called: bool) -> Steps:
        moves, asks = self._moves, self._moves.orders.met[state.order].asks
        for outcome in moves._own_moves(state.order, with_acts=state.acts > 0):
            if self._guard(state.order, outcome) not in state.unsent:
                yield from self._taken(state, outcome, state.rows)
        for place, (row, ask) in enumerate(zip(state.rows, asks.values(), strict=True)):
            for _, after in acts_of(row, may_refuse=bool(moves.rulebook.by_name[ask.step].refused_on)):
                yield state._replace(rows=_set(state.rows, place, after)), None
            for answer in _ANSWERS:
                heard = after_answer(row, answer)
                for outcome in [] if heard is None else moves._answer(state.order, place, answer):
                    yield from self._taken(state, outcome, _set(state.rows, place, heard or 0))
        if state.unsent:
            yield from self._published_at_last(state)
        if state.acts:
            for outcome in moves._operator(state.order, called=False):
                yield from self._taken(state._replace(acts=state.acts - 1), outcome, state.rows)
        elif called:
            for outcome in moves._operator(state.order, called=True):
                yield from self._taken(state, outcome, state.rows)

    def _guard(self, number: int, outcome: Outcome) -> Sending | None:
        """The command whose deadline this is: it does not run while that lies unpublished (R5)."""
        move, order = outcome.move, self._moves.orders.met[number]
        name = move.arguments[0][1] if move.kind == "silence" else move.subject
        deadline = order.deadlines.get(name)
        return places(order).get(deadline.command_id or "") if deadline else None

    def _published_at_last(self, state: State) -> Steps:
        """What a crash left unpublished goes out: at once, or so late that its deadlines count anew."""
        out = state._replace(rows=_published(state.rows, state.unsent), unsent=frozenset())
        yield out, None
        keys = list(self._moves.orders.met[state.order].asks)
        for place, is_undo in sorted(state.unsent):
            late = Move("sent_late", keys[place], (("of", "undo"),) if is_undo else ())
            for outcome in self._moves._decided(out.order, late):
                out = out._replace(order=outcome.order)
                yield out, outcome.broken

    def _taken(self, state: State, outcome: Outcome, rows: bytes) -> Steps:
        missing = len(self._moves.orders.met[outcome.order].asks) - len(rows)
        rows += bytes(missing)
        for place in outcome.vouched:
            rows = _set(rows, place, rows[place] | VOUCHED)
        waiting = state.unsent - outcome.answered
        if not outcome.sent:
            yield state._replace(order=outcome.order, rows=rows, unsent=waiting), outcome.broken
            return
        out = _published(rows, waiting | outcome.sent)
        yield state._replace(order=outcome.order, rows=out, unsent=frozenset()), outcome.broken
        if state.crashes:
            unsent = waiting | outcome.sent
            yield State(outcome.order, rows, unsent, state.acts, state.crashes - 1), outcome.broken

    def _an_end_is_ahead(self, state: State) -> bool:
        """Whether an end can be reached once all that is under way is lost."""
        at: State | None = State(state.order, state.rows.translate(_LOST), state.unsent, 0, 0)
        way: list[tuple[State, Steps]] = []
        tried: set[State] = set()
        while at is not None or way:
            if at is not None:
                if at in self._ahead or is_over(self._moves.orders.met[at.order]):
                    self._ahead.update([at, *(passed for passed, _ in way)])
                    return True
                tried.add(at)
                way.append((at, self._after(at, called=True)))
            at = next((following for following, _ in way[-1][1] if following not in tried), None)
            if at is None:
                way.pop()
        return False


def _published(rows: bytes, sendings: frozenset[Sending]) -> bytes:
    changed = bytearray(rows)
    for place, is_undo in sendings:
        changed[place] |= UNDO_SENT if is_undo else SENT
    return bytes(changed)


def _set(rows: bytes, place: int, row: int) -> bytes:
    return rows[:place] + bytes((row,)) + rows[place + 1 :]
