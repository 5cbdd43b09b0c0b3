"""Sentences about one step, one undo, one event: what the sections of an explanation are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.saga.expression import Expression
from orchestrator.saga.messages import ALERT_EVERY_MS
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Fields, StepRule, UndoRule
from orchestrator.saga.words import counted, duration, listed, pauses, stuck_after_ms

#: What turning back comes to where nothing has an undo.
NOTHING = "there is nothing to undo: the order ends compensated"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an explanation."""

    #: How far it is set in: what belongs to the line above has one more.
    depth: int
    text: str


def asked(step: StepRule) -> str:
    """Who is asked what; of a watched step, who does it unasked, and when it is asked."""
    sent = f"{step.participant} is sent {step.command}{carrying(step.fields)}"
    if not step.watched:
        return f"{sent}."
    after = duration(step.deadline_ms)
    return f"{step.participant} does it by itself, on somebody else's event; after {after} of silence Escrow asks: {sent}."


def answered(step: StepRule, then: str = "") -> str:
    """What a success does. `then`: what follows."""
    if step.done_when is None:
        return f"{step.done_on}: it is done{then}.{changes(step.set)}"
    guard = f"{step.done_on}, when `{step.done_when.text}`: it is done{then}.{changes(step.set)}"
    return f"{guard} When that does not hold, the answer is refused, and it is waited on."


def changes(values: Mapping[str, Expression]) -> str:
    """What of the order's data changes, as a sentence to add; or nothing."""
    told = [f"{name} = `{expression.text}`" for name, expression in values.items()]
    return f" The order's data changes: {listed(told)}." if told else ""


def final(step: StepRule) -> str:
    """What the pivot means."""
    since = "From when an order comes to it" if step.watched else "From its asking on"
    return f"{since} there is no way back: patience is over, and the order cannot be called off."


def silent(step: StepRule, undone: str) -> str:
    """How it is asked again, and what its silence comes to. `undone`: what turning back comes to."""
    rule, each = step.retry, f"{duration(step.deadline_ms)} for each answer"
    if rule.attempts is None:
        return f"It is asked without limit until it answers: {each}{_paused(rule)}.{_stuck(rule, step.deadline_ms)}"
    then = f"then it counts as possibly done, and {undone}."
    longest_ms = worst_case_ms(rule, step.deadline_ms)
    notes = f" With the silence before, that is at most {duration(longest_ms + step.deadline_ms)}." if step.watched else ""
    if step.patience_ms is not None:
        notes += f" Its own patience is {duration(step.patience_ms)}: what is over first ends it."
    if rule.attempts == 1:
        return f"It is asked once, over at most {duration(step.deadline_ms)}; {then}{notes}"
    return f"It is asked up to {rule.attempts} times in all, over at most {duration(longest_ms)} ({each}{_paused(rule)}); {then}{notes}"


def refused(rulebook: Rulebook, step: StepRule, undone: str) -> Iterator[str]:
    """What a refusal comes to. `undone`: what it leads to, before the pivot is done."""
    if not step.refused_on:
        return
    names = listed(sorted(step.refused_on), "or")
    if rulebook.is_past_pivot(step):
        again = duration(ALERT_EVERY_MS)
        yield (
            f"{names}: it is refused, and there is no way back. The order is stuck until an operator retries or skips the step, or an "
            f"admin abandons the order; a human is called at once, and again every {again}."
        )
    else:
        yield f"{names}: it is refused, and {undone}."


def standing(rulebook: Rulebook, step: StepRule) -> Iterator[str]:
    """What becomes of it without an undo."""
    if step.undo is None:
        before = not step.pivot and not rulebook.is_past_pivot(step)
        yield "It has no undo: it is harmless, and is left standing." if before else "It has no undo: what it did stands."


def undo_silent(undo: UndoRule) -> str:
    """How an undo is asked again."""
    each = f"{duration(undo.deadline_ms)} for each confirmation{_paused(undo.retry)}"
    return f"It is asked without limit: {each}.{_stuck(undo.retry, undo.deadline_ms)}"


def pivots(rulebook: Rulebook) -> str:
    """The points of no return, by name."""
    return listed([pivot.name for pivot in rulebook.pivots], "or")


def carrying(fields: Fields) -> str:
    """What a command carries."""
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
