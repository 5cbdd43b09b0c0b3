"""A definition told in plain sentences: what opens it, each step in order, the way back, the ends, and how long it can take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.saga.bounds import Bounds, bounds
from orchestrator.saga.graph import preceding
from orchestrator.saga.messages import ALERT_EVERY_MS
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Fields, Stage, StepRule, UndoRule
from orchestrator.saga.words import counted, duration, listed, pauses, stuck_after_ms

_NOTHING = "there is nothing to undo: the order ends compensated"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an explanation."""

    #: How far it is set in: what belongs to the line above has one more.
    depth: int
    text: str


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
    told = {
        "What opens it": _opening(rulebook),
        "The way forward": _Teller(rulebook).way(),
        "The way back": _back(rulebook),
        "The ends": _ends(rulebook),
        "How long it can take": _times(rulebook, longest),
    }
    return Explanation(sections=tuple(Section(title=title, lines=tuple(lines)) for title, lines in told.items()), bounds=longest)


def _opening(rulebook: Rulebook) -> Iterator[Line]:
    yield Line(0, f"{rulebook.opens_on} opens an order. Its id is the field {rulebook.key} of the event's data, and the event's subject.")
    until = "it is completed" if not rulebook.pivots else f"{_pivot(rulebook)}, the point of no return, is asked"
    yield Line(0, f"It has {duration(rulebook.patience_ms)} of patience until {until}. When patience ends, everything is undone.")
    if rulebook.labels:
        yield Line(0, f"Orders can be found by {listed(rulebook.labels)}, fields of its data.")
    if rulebook.abort_on:
        late = "in undo or at an end" if not rulebook.pivots else f"once {_pivot(rulebook)} is asked, in undo or at an end"
        yield Line(0, f"{listed(sorted(rulebook.abort_on), 'or')} calls it off: everything is undone. It comes too late {late}.")


class _Teller:
    """Tells the way forward, item by item, each with its number."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._come_from = preceding(rulebook)
        self._chosen: set[int] = set()
        self._repeated: set[int] = set()
        self._note(rulebook.document["way"], chosen=False, repeated=False)

    def way(self) -> Iterator[Line]:
        """The lines of all items."""
        yield from self._items(self._rulebook.document["way"], "", 0)
        yield Line(0, "When the last is done the order is completed.")
        if self._chosen or self._repeated:
            yield Line(0, "An answer after which a condition cannot be evaluated is refused and quarantined; the order stays as it was.")

    def _note(self, way: Sequence[Mapping[str, Any]], *, chosen: bool, repeated: bool) -> None:
        """Which stages not every order comes to, and which some come to again."""
        for item in way:
            if "choose" in item:
                for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
                    self._note(inner, chosen=True, repeated=repeated)
            elif "repeat" in item:
                self._note(item["way"], chosen=chosen, repeated=True)
            else:
                self._chosen |= {item["stage"]} if chosen else set()
                self._repeated |= {item["stage"]} if repeated else set()

    def _items(self, way: Sequence[Mapping[str, Any]], prefix: str, depth: int) -> Iterator[Line]:
        for number, item in enumerate(way, 1):
            place = f"{prefix}{number}."
            if "choose" in item:
                yield from self._choice(item, place, depth)
            elif "repeat" in item:
                yield from self._loop(item, place, depth)
            else:
                yield from self._stage(self._rulebook.stages[item["stage"]], place, depth)

    def _choice(self, item: Mapping[str, Any], place: str, depth: int) -> Iterator[Line]:
        yield Line(depth, f"{place} {item['choose']}: one of several ways, the first whose condition holds.")
        for number, case in enumerate(item["cases"], 1):
            yield Line(depth + 1, f"{'When' if number == 1 else 'Else when'} `{case['when']}`:")
            yield from self._items(case["way"], f"{place}{number}.", depth + 2)
        yield Line(depth + 1, "Otherwise:" if item["otherwise"] else "Otherwise nothing is asked here.")
        yield from self._items(item["otherwise"], f"{place}{len(item['cases']) + 1}.", depth + 2)

    def _loop(self, item: Mapping[str, Any], place: str, depth: int) -> Iterator[Line]:
        turns = counted(item["at_most"], "turn")
        yield Line(depth, f"{place} {item['repeat']}: at most {turns}, until `{item['until']}` holds after a turn.")
        yield from self._items(item["way"], place, depth + 1)
        vain = "the order goes on" if item["then"] == "go_on" else "everything is undone, each turn for itself"
        yield Line(depth + 1, f"When it does not hold after the last turn, {vain}.")

    def _stage(self, stage: Stage, place: str, depth: int) -> Iterator[Line]:
        if len(stage.steps) == 1:
            yield from self._step(stage, stage.steps[0], place, depth, state=f" (state {stage.state})")
            return
        yield Line(
            depth, f"{place} {stage.name} (state {stage.state}): {counted(len(stage.steps), 'step')} side by side, until all are done."
        )
        for number, step in enumerate(stage.steps, 1):
            yield from self._step(stage, step, f"{place}{number}.", depth + 1, state="")

    def _step(self, stage: Stage, step: StepRule, place: str, depth: int, *, state: str) -> Iterator[Line]:
        mark = ", the point of no return" if step.pivot else ""
        yield Line(depth, f"{place} {step.name}{state}{mark}: {step.participant} is sent {step.command}{_with(step.fields)}.")
        inner = depth + 1
        yield Line(inner, f"{step.done_on}: it is done.")
        if step.pivot:
            yield Line(inner, "From its asking on there is no way back: patience is over, and the order cannot be called off.")
        yield Line(inner, self._silence(stage, step))
        yield from (Line(inner, text) for text in self._refusal(stage, step))
        if step.undo is None:
            before = not step.pivot and not self._rulebook.is_past_pivot(step)
            yield Line(inner, "It has no undo: it is harmless, and is left standing." if before else "It has no undo: what it did stands.")

    def _silence(self, stage: Stage, step: StepRule) -> str:
        rule, each = step.retry, f"{duration(step.deadline_ms)} for each answer"
        if rule.attempts is None:
            return f"It is asked without limit until it answers: {each}{_paused(rule)}.{_stuck(rule, step.deadline_ms)}"
        then = f"then it counts as possibly done, and {self._undone(stage, step, itself=True)}"
        if rule.attempts == 1:
            return f"It is asked once, over at most {duration(step.deadline_ms)}; {then}."
        longest = duration(worst_case_ms(rule, step.deadline_ms))
        return f"It is asked up to {rule.attempts} times in all, over at most {longest} ({each}{_paused(rule)}); {then}."

    def _refusal(self, stage: Stage, step: StepRule) -> Iterator[str]:
        if not step.refused_on:
            return
        names = listed(sorted(step.refused_on), "or")
        if self._rulebook.is_past_pivot(step):
            again = duration(ALERT_EVERY_MS)
            yield (
                f"{names}: it is refused, and there is no way back. The order is stuck until an operator retries or skips the step, or an "
                f"admin abandons the order; a human is called at once, and again every {again}."
            )
        else:
            yield f"{names}: it is refused, and {self._undone(stage, step, itself=False)}."

    def _undone(self, stage: Stage, step: StepRule, *, itself: bool) -> str:
        """What is undone when this step is silent, or (without itself) refused; what stands beside it in any case."""
        here = [one.name for one in stage.steps if one.undo is not None and (itself or one is not step or stage.index in self._repeated)]
        before = self._before(stage)
        pieces = [here] if here else []
        pieces += [[one.name for one in other.steps if one.undo is not None] for other in reversed(before) if other.can_be_undone]
        if not pieces:
            return _NOTHING
        named = [f"{listed(piece)} side by side" if len(piece) > 1 else piece[0] for piece in pieces]
        among = {stage.index, *(other.index for other in before if other.can_be_undone)}
        notes = ["as far as they were asked"] if self._chosen & among else []
        notes += ["each turn for itself"] if self._repeated & among else []
        note = f" ({', '.join(notes)})" if notes else ""
        return f"everything is undone, last first: {', '.join(named)}{note}"

    def _before(self, stage: Stage) -> list[Stage]:
        """The stages that an order in this one may have come through, but for itself."""
        found, todo = {stage.index}, [stage]
        while todo:
            for other in self._come_from[todo.pop().index]:
                if other is not None and other.index not in found:
                    found.add(other.index)
                    todo.append(other)
        return [other for other in self._rulebook.stages if other.index in found and other is not stage]


def _back(rulebook: Rulebook) -> Iterator[Line]:
    """How each step is undone."""
    undos = [(step, step.undo) for step in reversed(rulebook.steps) if step.undo is not None]
    if not undos:
        yield Line(0, "No step has an undo.")
        return
    yield Line(
        0,
        "What was done and what may have been done is undone, strictly in reverse: an undo is sent when all that came after it is undone.",
    )
    for step, undo in undos:
        yield Line(0, f"{step.name}: {step.participant} is sent {undo.command}{_with(undo.fields)}, until it confirms with {undo.done_on}.")
        yield Line(1, _undo_silence(undo))
        if step.pivot or rulebook.is_past_pivot(step):
            yield Line(1, "It is sent only when an operator forces the order, or when a success comes after a refusal of the step.")


def _undo_silence(undo: UndoRule) -> str:
    each = f"{duration(undo.deadline_ms)} for each confirmation{_paused(undo.retry)}"
    return f"It is asked without limit: {each}.{_stuck(undo.retry, undo.deadline_ms)}"


def _ends(rulebook: Rulebook) -> Iterator[Line]:
    reached = {
        "completed": "every step on its way is done, or was skipped by an operator",
        "compensated": "every undo is confirmed, by its participant or an operator by name, or skipped by one",
        "abandoned": "an admin gave the order up; what is left standing is listed in its history",
    }
    for end, when in reached.items():
        announced = f"{rulebook.announce[end]} is announced" if end in rulebook.announce else "Nothing is announced"
        yield Line(0, f"{end}: {when}. {announced}.")


def _times(rulebook: Rulebook, longest: Bounds) -> Iterator[Line]:
    yield Line(
        0,
        "Counted from the opening, every answer and every pause at its longest. An outage of Escrow or of its broker, and the acts of "
        "operators, are not counted; patience runs on through an outage.",
    )
    decided, at_once = duration(longest.decided_ms), duration(longest.completed_at_once_ms)
    if longest.completed_ms is not None:
        yield Line(0, f"completed: after at most {decided}.")
    else:
        yield Line(0, f"{_pivot(rulebook)}, the point of no return: it is asked after at most {decided}.")
        yield Line(
            0,
            f"completed: no bound, for it is then asked without limit. When each step answers its first sending: at most {at_once}.",
        )
    patience = duration(rulebook.patience_ms)
    if longest.last_undo_sent_ms is None or longest.compensated_at_once_ms is None:
        yield Line(0, f"compensated: after at most {decided}; when patience ends it, after {patience}. There is nothing to undo.")
    else:
        sent, confirmed = duration(longest.last_undo_sent_ms), duration(longest.compensated_at_once_ms)
        yield Line(0, f"compensated: undoing begins after at most {decided}; when patience ends the order, after {patience}.")
        yield Line(1, "Its end has no bound, for undos are asked without limit, and each waits for those before it.")
        yield Line(
            1, f"When each is confirmed at its first sending, the last is first sent after at most {sent} and confirmed after {confirmed}."
        )
    if refused := sorted({name for pivot in rulebook.pivots for name in pivot.steps[0].refused_on}):
        yield Line(1, f"{listed(refused, 'or')} can come at any time after {_pivot(rulebook)} is asked; undoing begins then.")
    yield Line(0, "abandoned: when an admin does it; never by itself.")


def _pivot(rulebook: Rulebook) -> str:
    return listed([pivot.name for pivot in rulebook.pivots], "or")


def _with(fields: Fields) -> str:
    if fields is None:
        return " with all of the order's data"
    if isinstance(fields, Mapping):
        return f" with {listed([f'{name} = `{expression.text}`' for name, expression in fields.items()])}"
    return f" with {listed(fields)}" if fields else " without data"


def _paused(rule: RetryRule) -> str:
    """The pauses are shorter by jitter, by half at most."""
    named = pauses(rule)
    return f", then a pause of at most {named}" if named else ""


def _stuck(rule: RetryRule, deadline_ms: int) -> str:
    if not rule.stuck_after:
        return ""
    after = f"{counted(rule.stuck_after, 'sending')} in vain, at most {duration(stuck_after_ms(rule, deadline_ms))} after the first"
    return f" After {after}, the order is stuck: a human is called, and it is asked on."
