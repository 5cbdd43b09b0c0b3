"""What is explored: an order without its history, what its participants may have done, and what is left of the bound.

**Orders.** Two orders are one when they differ only in what deciding copies and never asks (seq, hash, ids, times, generations, the
cause, how often a notice was sent, when what is parked came), in what guards and bodies alone are made of, and in how far the retry of what
they wait for is: how often it was sent, whether a reply or the next attempt is due, whether the alarm was given. What is left out is named;
every field that is not named counts, so a new one does. That the retry makes no other difference is not believed but tried, for each order
(`Moves`); where it does, the order counts as one of its own.

**Messages under way are not kept, for they follow from the rest.** A copy of any message may come at any later time (duplicates without
number, delays without end), so what was published once can always come: a command and an undo when their bit is set here; the stored
reply when the participant's row holds one; `CommandTooLate` when an undo came first; the confirmation of an undo when the row is undone
(each sending of an undo is confirmed under its own message id, so one that is new to Escrow can be had; of the others R15 lets copies do
nothing). What may come need not: a message that is never delivered is a lost one. So this world does everything that one with a bounded
number of duplicates does, and more.

**A crash between commit and publish is a delay**, so it has no states of its own. Escrow comes back and publishes what it had committed; a
command that is out so late does nothing that one which the broker delivered late does not, and until it is out less can happen, not
more: nothing can come of it, and its deadline does not run (R5). What is left of a crash is the input that says so, `SentLate`. It
may come for any command that is awaited, and takes one crash of the bound where it leads to another order.

**Rows are what participants may have done** (`orchestrator.explore.rows`): their moves are no moves of the exploration. The participant of
a watched step may act by itself from the opening on, before Escrow has an ask of it in the ledger, so its row is there from the start.

**Events from outside come at any time, in any order, and again.** Each is a fact from when it comes. One that can be undone gets a place in
the ledger, and its row is done from then on; the bound says how many of one type come. What is kept of others is which of a join have come
and what is parked, and the bound says how many of one type are parked at a time; but for that, how many come makes no difference.

**One world may cover another**, which then need not be gone into: all that breaks a promise from there breaks one from here. The orders
are alike but for what is known of asks whose undo was begun, or that were left standing: one knows no answer to them (`unknown`) where
the other knows one. For the undo is on its way, or closed, whatever the answer: it is decided by the participant's row and not by what is
known of it, its body is fixed by the first sending (R6), and the order goes on by the confirmation alone. What the answer decides is only
what the next one to the same ask does; the world that has not heard any can still hear them all. An asking of the pivot counts as it is:
whether it was refused decides if there is a way back (R12). Their replies count no more than they do: what they fill are bodies. And of
an order on the way back the state says only which undo was sent last: every such state can go where each of them can.

In an order that was forced and has not come to its end, undos of earlier epochs go on beside it, and there a world in which such an undo
is open covers the one in which it was confirmed. For neither the way forward nor the way back of the epoch looks at it, but where the order
comes to its end, or has nothing else left to undo: there the one waits, and the confirmation that can come at any time brings it to
where the other is. What an operator confirmed is not covered by what no operator did: no participant needs to agree to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.explore.shape import Names, keys_of, knowledge, plain_shape, whole_shape
from orchestrator.saga.order import Ask, Order

#: One command of an order: (place of its ask, whether it is the undo). Places are those of `keys_of`.
Sending = tuple[int, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far a run is explored. Duplicates, delays and losses of messages are not bounded."""

    #: Sendings of a command before silence is final, and of an undo before the alarm; a definition with fewer keeps its own.
    attempts: int = 2
    #: Operator acts a run.
    acts: int = 1
    #: Crashes between commit and publish a run.
    crashes: int = 1
    #: Events from outside of one type: in a run, where they can be undone; else that are parked at a time.
    events: int = 2
    #: States after which the exploration is given up as too large.
    states: int = 2_000_000


class World(NamedTuple):
    """One state of the exploration."""

    #: Number of the order in the `Orders`.
    order: int
    #: A belief for each ask, by its place (`keys_of`).
    rows: bytes
    #: What is left of the bound.
    acts: int
    crashes: int


class Orders:
    """Every order met so far, one for all that are the same; by number."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._families: dict[tuple[Any, ...], int] = {}
        #: The first of each.
        self.met: list[Order] = []
        #: Of each: the keys of its asks by place, and the asks; None for a watched one that is not in the ledger.
        self.keys: list[tuple[str, ...]] = []
        self.asks: list[tuple[Ask | None, ...]] = []
        #: The family of each: the number of all that differ only in what is known of asks whose undo was begun.
        self.family: list[int] = []
        #: What is known of those asks, for each order (`knowledge`).
        self.known: list[bytes] = []

    def number(self, order: Order, phase: tuple[Any, ...] = ()) -> int:
        """The number of an order; one that is new gets the next. `phase`: it differs by how far its retry is."""
        plain, known = plain_shape(order, self.names), knowledge(order, self.names)
        number = self._numbers.setdefault((whole_shape(order, self.names, plain, known), phase), len(self.met))
        if number == len(self.met):
            keys = keys_of(order, self.names)
            self.met.append(order)
            self.keys.append(keys)
            self.asks.append(tuple(map(order.asks.get, keys)))
            self.family.append(self._families.setdefault((plain, phase), len(self._families)))
            self.known.append(known)
        return number
