"""What must hold of every end, by what the participants did and not by what the order thinks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from orchestrator.explore.rows import VOUCHED, in_place
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.waiting import waits


def is_over(order: Order) -> bool:
    """Whether the order has ended and waits for nobody."""
    return order.direction == "ended" and not waits(order)


@dataclass(frozen=True, slots=True)
class Ending:
    """What an order that is over says of the effects of its asks, by their places; a watched one may have an effect and no entry."""

    state: str
    keys: tuple[str, ...]
    #: Effects that nothing explains.
    forbidden: tuple[int, ...]
    #: Undone, says the order: an effect that is there must be vouched for by an operator.
    undone: tuple[int, ...]
    #: Kept, in two epochs, of one step: not both may be there.
    twice: tuple[tuple[int, int], ...]


def ending(rulebook: Rulebook, order: Order, keys: Sequence[str]) -> Ending | None:
    """What an order that is over promises; None for one that is not. `keys`: of its asks, by place."""
    if not is_over(order):
        return None
    asks = [order.asks.get(key) for key in keys]
    kept = [place for place, ask in enumerate(asks) if ask is not None and _is_kept(rulebook, order, ask)]
    explained = {*kept, *(place for place, ask in enumerate(asks) if ask is not None and ask.undo == "skipped")}
    explained |= {place for place, key in enumerate(keys) if _is_harmless(rulebook, key, asks[place])}
    undone = [place for place, ask in enumerate(asks) if ask is not None and ask.undo == "undone"]
    return Ending(
        state=order.state,
        keys=tuple(keys),
        forbidden=tuple(place for place in range(len(asks)) if place not in explained and place not in undone),
        undone=tuple(undone),
        twice=tuple(
            (one, other)
            for one, other in combinations(kept, 2)
            if (first := asks[one]) and (second := asks[other]) and first.step == second.step and first.epoch != second.epoch
        ),
    )


def _is_kept(rulebook: Rulebook, order: Order, ask: Ask) -> bool:
    """Whether the end leaves the effect in place: a whole one all of them, a failed one those that it does not undo."""
    if ask.undo != "none" or not ask.possibly_done:
        return False
    end = rulebook.endings.get(order.state)
    return order.state == "completed" or (end is not None and (end.outcome == "completed" or ask.step not in end.undone))


def broken_by_ending(end: Ending, rows: Sequence[Iterable[int]]) -> tuple[str, dict[int, int]] | None:
    """The first promise that an end breaks, by the participants' ledgers, or None (R10, R13, R22).

    `rows`: for each ask, by its place, every row that its participant may have; with the promise come the rows that break it, by place.
    """
    over = f"The order is over ({end.state})"
    for place in end.forbidden:
        for row in filter(in_place, rows[place]):
            return f"{over}, and the effect of {end.keys[place]} is there: neither kept, undone nor listed.", {place: row}
    for place in end.undone:
        for row in filter(in_place, rows[place]):
            if not row & VOUCHED:
                return f"{over}, and the effect of {end.keys[place]}, undone by its word, is there.", {place: row}
    for pair in end.twice:
        there = {place: row for place in pair for row in filter(in_place, rows[place])}
        if len(there) > 1:
            keys = " and ".join(end.keys[place] for place in pair)
            return f"{over}, and one step was done twice: {keys}.", there
    return None


def _is_harmless(rulebook: Rulebook, key: str, ask: Ask | None) -> bool:
    """Declared so by the author: its effect may stand whatever the end."""
    return (ask is None or ask.undo == "none") and rulebook.by_name[key.rsplit(".", 2)[0]].harmless
