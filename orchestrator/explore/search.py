"""The exploration: every state once, what breaks a promise first, and from every state a way to an end.

**Breadth first, in layers.** Runs with the fewest acts and crashes come first, and among them the shortest; so what is found is the
plainest story of its kind. A state is not gone into again when one was met that covers it (`orchestrator.explore.world`) with no less of
the bound left: every run from here is one from there.

**An end is reachable**, looked for from every state after the loss of all that is under way there, and whatever its participants have done
so far: by deadlines, by what is sent anew, by what participants answer to that, and by what an operator does who is called; without luck,
so with more under way, too. Late answers to what is being undone are such luck: no end may need them. So a state that is covered, in
which some of them were heard, has the ends of the one that covers it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from orchestrator.explore.inputs import Move
from orchestrator.explore.moves import Moves
from orchestrator.explore.promises import Ending, broken_by_ending, ending, is_over
from orchestrator.explore.rows import VOUCHED
from orchestrator.explore.story import told_whole
from orchestrator.explore.world import Bound, World, is_confirmed_in_between, knowledge_covers
from orchestrator.saga.definition import Definition


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
        self._seen: set[World] = set()
        #: Family of an order → what is known in each of its worlds, with what is left of the bound.
        self._met: defaultdict[int, list[tuple[int, int, tuple[int, ...]]]] = defaultdict(list)
        #: What is known of an ask, and its belief, by number; and which cover which.
        self._tokens: dict[tuple[int, int], int] = {}
        self._covers: list[list[bool]] = []
        self._before: dict[World, tuple[World, Move]] = {}
        self._openings: dict[World, Move] = {}
        #: Layer (acts and crashes used) → depth → states to go into.
        self._open: defaultdict[int, defaultdict[int, list[World]]] = defaultdict(lambda: defaultdict(list))
        self._endings: dict[int, Ending | None] = {}
        #: States from which an end is known to be reachable.
        self._ending_ahead: set[World] = set()
        self._states = self._transitions = self._ends = 0

    def run(self) -> Exploration:
        """Explore until something is found, all is seen, or there are too many states."""
        found = next(self.findings(), None)
        return Exploration(
            bound=self._bound,
            states=self._states,
            transitions=self._transitions,
            orders=len(self._moves.orders.met),
            ends=self._ends,
            complete=found is None and self._states <= self._bound.states,
            counterexample=found,
        )

    def findings(self) -> Iterator[Counterexample]:
        """Everything that breaks a promise, the plainest first; what broke one is not gone into."""
        for move, world, broken in self._moves.first(self._bound):
            if broken:
                yield Counterexample(broken, (move,))
            elif self._meet(world, 0):
                self._openings[world] = move
        for world, depth in self._in_turn():
            if self._states > self._bound.states:
                return
            yield from self._go_into(world, depth)

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

    def _go_into(self, world: World, depth: int) -> Iterator[Counterexample]:
        if broken := self._broken_by_ending(world):
            promise, rows = broken
            yield self._found(promise, [world], [], rows)
            return
        for move, following, broken_by_move in self._moves.after(world):
            self._transitions += 1
            if broken_by_move:
                yield self._found(broken_by_move, [world, following], [move], {})
            elif self._meet(following, depth + 1):
                self._before[following] = (world, move)
        for lost in self._lost(world):
            if not self._an_end_is_ahead(World(world.order, lost, 0, 0)):
                left = {place: row for place, belief in enumerate(lost) for row in self._moves.beliefs.rows(belief)}
                yield self._found("No end can be reached from here, whoever answers.", [world], [], left)

    def _meet(self, world: World, depth: int) -> bool:
        """Note a state to be gone into, unless one that can do as much was met."""
        if world in self._seen:
            return False
        self._seen.add(world)
        orders, tokens = self._moves.orders, self._tokens
        known = zip(orders.known[world.order], world.rows, strict=True)
        state = tuple([tokens[token] if token in tokens else self._number(*token) for token in known])
        family, covers = self._met[orders.family[world.order]], self._covers
        lines = [covers[token] for token in state]
        for acts, crashes, other in family:
            if acts >= world.acts and crashes >= world.crashes:
                for line, token in zip(lines, other, strict=True):
                    if not line[token]:
                        break
                else:
                    return False
        family.append((world.acts, world.crashes, state))
        used = self._bound.acts - world.acts + self._bound.crashes - world.crashes
        self._open[used][depth].append(world)
        self._states += 1
        return True

    def _number(self, known: int, belief: int) -> int:
        """Number what is known of an ask and its belief; it is covered by those of which `_covers` says so in its line."""
        number = self._tokens[known, belief] = len(self._covers)
        self._covers.append([])
        for token, at in self._tokens.items():
            self._covers[at] = [self._is_covered(token, by) for by in self._tokens]
        return number

    def _is_covered(self, token: tuple[int, int], by: tuple[int, int]) -> bool:
        if not knowledge_covers(by[0], token[0]) or not self._moves.beliefs.covers(by[1], token[1]):
            return False
        # Where an operator confirmed, no confirmation can come to the same: that would say that the participant did it.
        return not (is_confirmed_in_between(by[0], token[0]) and self._moves.beliefs.seen(token[1]) & VOUCHED)

    def _broken_by_ending(self, world: World) -> tuple[str, dict[int, int]] | None:
        if world.order not in self._endings:
            self._endings[world.order] = ending(self._moves.rulebook, self._moves.orders.met[world.order])
        end = self._endings[world.order]
        if end is None:
            return None
        self._ends += 1
        return broken_by_ending(end, [self._moves.beliefs.rows(belief) for belief in world.rows])

    def _lost(self, world: World) -> Iterator[bytes]:
        """The rows after all that is under way is lost, for everything that participants may have done.

        What was done by those of whom no answer is needed any more matters to no end.
        """
        beliefs = self._moves.beliefs
        asks = self._moves.orders.met[world.order].asks.values()
        is_needed = [ask.forward == "asked" and ask.undo == "none" for ask in asks]
        rows = [beliefs.lost(row) if needed else beliefs.blank[:1] for row, needed in zip(world.rows, is_needed, strict=True)]
        return map(bytes, product(*rows))

    def _an_end_is_ahead(self, lost: World) -> bool:
        """Depth first, from a state in which all that was under way is lost; whatever leads to an end is remembered."""
        way: list[tuple[World, Iterator[World]]] = []
        tried: set[World] = set()
        at: World | None = lost
        while at is not None or way:
            if at is not None:
                if at in self._ending_ahead or is_over(self._moves.orders.met[at.order]):
                    self._ending_ahead.update([at, *(passed for passed, _ in way)])
                    return True
                tried.add(at)
                way.append((at, self._moves.towards_an_end(at)))
            _, left = way[-1]
            at = next((following for following in left if following not in tried), None)
            if at is None:
                way.pop()
        return False

    def _found(self, promise: str, worlds: list[World], moves: list[Move], rows: dict[int, int]) -> Counterexample:
        """What was found at the end of a way. `worlds`: the last of them, `moves`: those between them."""
        while worlds[0] in self._before:
            world, move = self._before[worlds[0]]
            worlds, moves = [world, *worlds], [move, *moves]
        moves = [self._openings[worlds[0]], *moves]
        keys = [list(self._moves.orders.met[world.order].asks) for world in worlds]
        return Counterexample(promise, tuple(told_whole(self._moves.beliefs, moves, [world.rows for world in worlds], keys[-1], rows)))
