"""The ends of a definition in plain sentences, and how long it can take to each."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.bounds import Bounds, EndBound
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.sentences import Line, pivots
from orchestrator.saga.words import duration, listed

_OTHERS = {
    "compensated": "every undo is confirmed, by its participant or an operator by name, or skipped by one",
    "abandoned": "an admin gave the order up; what is left standing is listed in its history",
}


def ends(rulebook: Rulebook) -> Iterator[Line]:
    """When each end is taken, and what is announced then."""
    own = {
        state: "its state is reached" if ending.outcome == "completed" else "it is reached, and every undo that it needs is confirmed"
        for state, ending in rulebook.endings.items()
    }
    whole = own or {"completed": "every step on its way is done, or was skipped by an operator"}
    for end, when in {**whole, **_OTHERS}.items():
        announced = f"{rulebook.announce[end]} is announced" if end in rulebook.announce else "Nothing is announced"
        yield Line(0, f"{end}: {when}. {announced}.")


def times(rulebook: Rulebook, longest: Bounds) -> Iterator[Line]:
    """The longest time to the pivot, and to each end."""
    yield Line(
        0,
        "Counted from the opening, every answer and every pause at its longest. An outage of Escrow or of its broker, and the acts of "
        "operators, are not counted; patience runs on through an outage.",
    )
    if not rulebook.is_line:
        yield Line(0, "Where nothing else ends a wait before the point of no return, patience does. Each event is taken to come once.")
    if rulebook.pivots:
        yield Line(0, f"{pivots(rulebook)}, the point of no return: it is asked after at most {duration(longest.decided_ms)}.")
    for bound in longest.ends:
        yield from _compensated(rulebook, longest) if bound.end == "compensated" else _own(rulebook, bound)
    yield Line(0, "abandoned: when an admin does it; never by itself.")


def _own(rulebook: Rulebook, bound: EndBound) -> Iterator[Line]:
    if bound.longest_ms is not None:
        yield Line(0, f"{bound.end}: after at most {duration(bound.longest_ms)}.")
        return
    if rulebook.is_line:
        why, when = "it is then asked without limit", "each step answers its first sending"
    elif bound.outcome == "completed":
        why, when = "the pivot, and what follows it, is asked without limit", "each answers its first sending"
    else:
        why, when = "undos, or a pivot before it, are asked without limit", "each answers its first sending"
    at_once = f" When {when}: at most {duration(bound.at_once_ms)}." if bound.at_once_ms is not None else ""
    yield Line(0, f"{bound.end}: no bound, for {why}.{at_once}")


def _compensated(rulebook: Rulebook, longest: Bounds) -> Iterator[Line]:
    decided, patience = duration(longest.decided_ms), duration(rulebook.patience_ms)
    by_patience = f"when patience ends the order, after {patience}"
    if longest.last_undo_sent_ms is None or longest.compensated_at_once_ms is None:
        yield Line(0, f"compensated: after at most {decided}; when patience ends it, after {patience}. There is nothing to undo.")
    else:
        sent, confirmed = duration(longest.last_undo_sent_ms), duration(longest.compensated_at_once_ms)
        yield Line(0, f"compensated: undoing begins after at most {decided}; {by_patience}.")
        yield Line(1, "Its end has no bound, for undos are asked without limit, and each waits for those before it.")
        yield Line(
            1, f"When each is confirmed at its first sending, the last is first sent after at most {sent} and confirmed after {confirmed}."
        )
    if refused := sorted({name for pivot in rulebook.pivots for name in pivot.steps[0].refused_on if pivot.on_refused is None}):
        yield Line(1, f"{listed(refused, 'or')} can come at any time after {pivots(rulebook)} is asked; undoing begins then.")
