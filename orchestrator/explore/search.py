"""The exploration: every state once, what breaks a promise first, and from every state a way to an end.

**Breadth first, in layers.** Runs with the fewest acts and crashes come first, and among them the shortest; so what is found is the
plainest story of its kind. A state that was met with no less of the bound left is not gone into again: every run from here is one from
there.

**An end is reachable**, looked for from every state after the loss of all that is under way there: by deadlines, by what is sent anew, by
what participants answer to that, and by what an operator does who is called; without luck, so with more under way, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.explore.inputs import Move
from orchestrator.explore.moves import Moves
from orchestrator.explore.promises import Ending, broken_by_ending, ending, is_over
from orchestrator.explore.world import SENT, UNDO_SENT, Bound, World
from orchestrator.saga.definition import Definition

#: What was published stays published; after a loss it can come no more until it is sent anew.
_LOST = bytes(row & ~(SENT | UNDO_SENT) for row in range(256))


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A broken promise, and the moves that lead to it; the first is the opening."""

    promise: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What was explored, and what was found."""

    bound: Bound
    #: States, and moves between them, that were visited.
    states: int
    transitions: int
    #: Orders that differ, and states in which one is over.
    orders: int
    ends: int
    #: False: there are more states than the bound allows, and only so many were seen.
    complete: bool
    counterexample: Counterexample | None


def explore(definition: Definition, bound: Bound) -> Exploration:
    """Explore a definition up to a bound. Same definition and bound: same result."""
    return _Search(Moves(definition.expanded, bound), bound).run()


class _Search:
    def __init__(self, moves: Moves, bound: Bound) -> None:
        self._moves = moves
        self._bound = bound
        #: State without budget → the budgets it was met with.
        self._met: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        self._before: dict[World, tuple[World, Move]] = {}
        self._openings: dict[World, Move] = {}
        #: Layer (acts and crashes used) → depth → states to go into.
        self._open: defaultdict[int, defaultdict[int, list[World]]] = defaultdict(lambda: defaultdict(list))
        self._endings: dict[int, Ending | None] = {}
        #: States from which an end is known to be reachable.
        self._ending_ahead: set[World] = set()
        self._states = self._transitions = self._ends = 0

    def run(self) -> Exploration:
        found = self._open_orders()
        for world, depth in self._in_turn() if found is None else ():
            found = self._go_into(world, depth)
            if found is not None or self._states > self._bound.states:
                break
        return Exploration(
            bound=self._bound,
            states=self._states,
            transitions=self._transitions,
            orders=len(self._moves.orders.met),
            ends=self._ends,
            complete=found is None and self._states <= self._bound.states,
            counterexample=found,
        )

    def _open_orders(self) -> Counterexample | None:
        for move, world, sent, broken in self._moves.first(self._bound):
            if broken:
                return Counterexample(broken, (move,))
            if self._meet(world, 0):
                self._openings[world] = move
            if world.crashes:
                crashed = World(world.order, bytes(len(world.rows)), sent, world.acts, world.crashes - 1)
                if self._meet(crashed, 0):
                    self._openings[crashed] = move._replace(crash=True)
        return None

    def _in_turn(self) -> Iterator[tuple[World, int]]:
        """States to go into: layer by layer, and within one by depth."""
        layer = 0
        while layer <= self._bound.acts + self._bound.crashes:
            depths = self._open[layer]
            while depths:
                depth = min(depths)
                for world in depths.pop(depth):
                    yield world, depth
            layer += 1

    def _go_into(self, world: World, depth: int) -> Counterexample | None:
        if broken := self._broken_by_ending(world):
            return Counterexample(broken, self._way_to(world))
        for move, following, broken in self._moves.after(world):
            self._transitions += 1
            if broken:
                return Counterexample(broken, (*self._way_to(world), move))
            if self._meet(following, depth + 1):
                self._before[following] = (world, move)
        if not self._an_end_is_ahead(world):
            return Counterexample("No end can be reached from here, whoever answers.", self._way_to(world))
        return None

    def _meet(self, world: World, depth: int) -> bool:
        """Note a state to be gone into, unless one that can do as much was met."""
        budgets = self._met.setdefault(world[:3], [])
        if any(acts >= world.acts and crashes >= world.crashes for acts, crashes in budgets):
            return False
        budgets.append((world.acts, world.crashes))
        used = self._bound.acts - world.acts + self._bound.crashes - world.crashes
        self._open[used][depth].append(world)
        self._states += 1
        return True

    def _broken_by_ending(self, world: World) -> str | None:
        if world.order not in self._endings:
            self._endings[world.order] = ending(self._moves.rulebook, self._moves.orders.met[world.order])
        end = self._endings[world.order]
        if end is None:
            return None
        self._ends += 1
        return broken_by_ending(end, world.rows)

    def _an_end_is_ahead(self, world: World) -> bool:
        """Depth first, from the state in which all that is under way is lost; whatever leads to an end is remembered."""
        lost = World(world.order, world.rows.translate(_LOST), world.unsent, 0, 0)
        way: list[tuple[World, Iterator[tuple[Move, World, str | None]]]] = []
        tried: set[World] = set()
        at: World | None = lost
        while at is not None or way:
            if at is not None:
                if at in self._ending_ahead or is_over(self._moves.orders.met[at.order]):
                    self._ending_ahead.update([at, *(passed for passed, _ in way)])
                    return True
                tried.add(at)
                way.append((at, self._moves.after(at, called=True)))
            _, left = way[-1]
            at = next((following for _, following, _ in left if following not in tried), None)
            if at is None:
                way.pop()
        return False

    def _way_to(self, world: World) -> tuple[Move, ...]:
        moves: list[Move] = []
        while world in self._before:
            world, move = self._before[world]
            moves.append(move)
        return (self._openings[world], *reversed(moves))
