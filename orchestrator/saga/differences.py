"""What differs between two rules of a kind: pairs of texts, by what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.saga.expression import Expression
from orchestrator.saga.rules import Fields, StepRule, UndoRule
from orchestrator.saga.words import duration, listed

#: By what is compared: how it is in the one, and in the other.
Pairs = dict[str, tuple[str, str]]
NONE = "none"


def told(pairs: Pairs) -> list[str]:
    """A sentence for each pair that differs."""
    return [f"{what}: {before} → {after}." for what, (before, after) in pairs.items() if before != after]


def step(old: StepRule, new: StepRule) -> Pairs:
    """Of two steps."""
    pairs = {
        "participant": (old.participant, new.participant),
        "command": (old.command, new.command),
        "with": (fields(old.fields), fields(new.fields)),
        "sent": (_sent(old), _sent(new)),
        "done on": (old.done_on, new.done_on),
        "done when": (expression(old.done_when), expression(new.done_when)),
        "changes of the data": (computed(old.set), computed(new.set)),
        "refused on": (names(old.refused_on), names(new.refused_on)),
        "deadline": (duration(old.deadline_ms), duration(new.deadline_ms)),
        **_retry("", old, new),
        "own patience": (maybe(old.patience_ms), maybe(new.patience_ms)),
        "state": (old.state, new.state),
        "point of no return": (yes(old.pivot), yes(new.pivot)),
        "harmless": (yes(old.harmless), yes(new.harmless)),
    }
    return {**pairs, **undoing(old.undo, new.undo)}


def undoing(old: UndoRule | None, new: UndoRule | None) -> Pairs:
    """Of how something is undone."""
    if old is None or new is None:
        return {"undo": (_undo(old), _undo(new))}
    return {
        "undo's command": (old.command, new.command),
        "undo's with": (fields(old.fields), fields(new.fields)),
        "undo done on": (old.done_on, new.done_on),
        "undo's deadline": (duration(old.deadline_ms), duration(new.deadline_ms)),
        **_retry("undo's ", old, new),
    }


def _retry(of: str, old: StepRule | UndoRule, new: StepRule | UndoRule) -> Pairs:
    before, after = old.retry, new.retry
    return {
        f"{of}attempts": (str(before.attempts or "without limit"), str(after.attempts or "without limit")),
        f"{of}first backoff": (duration(before.first_ms), duration(after.first_ms)),
        f"{of}factor of the backoff": (f"{before.factor:g}", f"{after.factor:g}"),
        f"{of}longest backoff": (duration(before.max_ms), duration(after.max_ms)),
        f"{of}sendings until it is stuck": (str(before.stuck_after or NONE), str(after.stuck_after or NONE)),
    }


def _undo(undo: UndoRule | None) -> str:
    return NONE if undo is None else f"{undo.command} until {undo.done_on}"


def fields(carried: Fields) -> str:
    """What a command carries."""
    if carried is None:
        return "all of the order's data"
    return computed(carried) if isinstance(carried, Mapping) else listed(sorted(carried)) or "nothing"


def computed(values: Mapping[str, Expression]) -> str:
    """Fields, each with its expression."""
    return listed([f"{name} = `{value.text}`" for name, value in sorted(values.items())]) or NONE


def expression(found: Expression | None) -> str:
    """An expression, or none."""
    return NONE if found is None else f"`{found.text}`"


def maybe(ms: int | None, without: str = NONE) -> str:
    """A duration, or what stands for none."""
    return without if ms is None else duration(ms)


def names(found: Iterable[str]) -> str:
    """Names in order of the alphabet."""
    return ", ".join(sorted(found)) or NONE


def yes(flag: bool) -> str:  # noqa: FBT001
    """A flag in words."""
    return "yes" if flag else "no"


def _sent(asked: StepRule) -> str:
    return "on silence" if asked.watched else "at once"
