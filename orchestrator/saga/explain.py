"""A definition told in plain sentences: what opens it, each step or state, the way back, the ends, and how long it can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.saga.bounds import Bounds, bounds
from orchestrator.saga.explain_ends import ends, times
from orchestrator.saga.explain_line import LineTeller
from orchestrator.saga.explain_states import states
from orchestrator.saga.policies import CELLS
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule
from orchestrator.saga.sentences import Line, carrying, pivots, undo_silent
from orchestrator.saga.words import duration, listed

#: What a policy lets become of an event, by cell.
_POLICIES = {
    "early": {
        "park": "it is kept until its state is reached",
        "ignore": "it is journaled, and let go",
        "quarantine": "it is quarantined, for a human",
    },
    "late": {"note": "it is journaled", "quarantine": "it is journaled, and quarantined for a human"},
    "unexpected": {"ignore": "it is journaled", "quarantine": "it is journaled, and quarantined for a human"},
}
_CELLS = {"early": "before its state", "late": "after its time", "unexpected": "unexpected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of an explanation."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A definition in sentences, and the times in them as numbers."""

    sections: tuple[Section, ...]
    bounds: Bounds


def explain(rulebook: Rulebook) -> Explanation:
    """The sentences of a definition that passed its checks."""
    longest = bounds(rulebook)
    told: dict[str, Iterable[Line]] = {
        "What opens it": _opening(rulebook),
        **({"The way forward": LineTeller(rulebook).way()} if rulebook.is_line else {"The states": states(rulebook)}),
        **({"Events at another time": _policies(rulebook)} if rulebook.policies else {}),
        "The way back": _back(rulebook),
        "The ends": ends(rulebook),
        "How long it can take": times(rulebook, longest),
    }
    return Explanation(sections=tuple(Section(title=title, lines=tuple(lines)) for title, lines in told.items()), bounds=longest)


def _opening(rulebook: Rulebook) -> Iterator[Line]:
    yield Line(0, f"{rulebook.opens_on} opens an order. Its id is the field {rulebook.key} of the event's data, and the event's subject.")
    until = (
        ("it is completed" if rulebook.is_line else "it ends")
        if not rulebook.pivots
        else f"{pivots(rulebook)}, the point of no return, is asked"
    )
    yield Line(0, f"It has {duration(rulebook.patience_ms)} of patience until {until}. When patience ends, everything is undone.")
    if rulebook.labels:
        yield Line(0, f"Orders can be found by {listed(rulebook.labels)}, fields of its data.")
    if rulebook.abort_on:
        late = "in undo or at an end" if not rulebook.pivots else f"once {pivots(rulebook)} is asked, in undo or at an end"
        yield Line(0, f"{listed(sorted(rulebook.abort_on), 'or')} calls it off: everything is undone. It comes too late {late}.")


def _policies(rulebook: Rulebook) -> Iterator[Line]:
    """What the definition says of events that come too early, too late or unexpectedly."""
    for row in rulebook.document["policies"]:
        where = f" in {listed(row['in'], 'or')}" if row["in"] else ""
        said = [f"{_CELLS[cell]}, {_POLICIES[cell][row[cell]]}" for cell in CELLS if row[cell] is not None]
        yield Line(0, f"{row['event']}{where}: when it comes {'; when it comes '.join(said)}.")


def _back(rulebook: Rulebook) -> Iterator[Line]:
    """How each step is undone, and what each event stands for."""
    undos = [(step, step.undo) for step in reversed(rulebook.by_name.values()) if step.undo is not None]
    if not undos:
        yield Line(0, "No step has an undo.")
        return
    yield Line(
        0,
        "What was done and what may have been done is undone, strictly in reverse: an undo is sent when all that came after it is undone.",
    )
    for step, undo in undos:
        asked = f"{step.participant} is sent {undo.command}{carrying(undo.fields)}"
        yield Line(0, f"{step.name}: {asked}, until it confirms with {undo.done_on}.")
        yield Line(1, undo_silent(undo))
        yield from (Line(1, text) for text in _besides(rulebook, step))


def _besides(rulebook: Rulebook, step: StepRule) -> Iterator[str]:
    """When an undo is sent at other times than on the way back."""
    if step.name in rulebook.events:
        yield "It names the event's id. It is sent at once for an event that is not taken: a refused, a late or an older one."
    elif step.pivot or rulebook.is_past_pivot(step):
        before = "the order turns back before it came to the step, which may be done nevertheless; when " if step.watched else ""
        yield f"It is sent only when {before}an operator forces the order, or when a success comes after a refusal of the step."
    elif step.watched:
        yield "It is sent, too, when the order turns back before it came to the step, which may be done nevertheless."
