"""How rules are told: durations, lists and retries in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.saga.retry import RetryRule, backoff_max_ms, worst_case_ms

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
#: Pauses that are named one by one; of more, the first three and the longest are.
_PAUSES_NAMED = 4


def duration(ms: int) -> str:
    """A duration in words.

    >>> duration(155_000), duration(86_700_000), duration(1_500), duration(0)
    ('2 min 35 s', '1 d 5 min', '1 s 500 ms', '0 s')
    """
    parts: list[str] = []
    for unit, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b"], "or")
    ('a', 'a, b and c', 'a or b')
    """
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "attempt"), counted(3, "attempt")
    ('1 attempt', '3 attempts')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def pauses(rule: RetryRule) -> str:
    """The longest pauses between an attempt's silence and the next; empty when there is no next.

    >>> pauses(RetryRule(attempts=4, first_ms=5_000, factor=2, max_ms=60_000, stuck_after=None))
    '5 s, 10 s and 20 s'
    >>> pauses(RetryRule(attempts=None, first_ms=5_000, factor=2, max_ms=300_000, stuck_after=5))
    '5 s, 10 s, 20 s and so on up to 5 min'
    """
    number = rule.attempts - 1 if rule.attempts is not None else _PAUSES_NAMED + 1
    first = [backoff_max_ms(rule, attempt) for attempt in range(1, min(number, 3) + 1)]
    longest = rule.max_ms if rule.attempts is None and rule.factor > 1 else backoff_max_ms(rule, max(number, 1))
    if not first:
        return ""
    if first[0] == longest:
        return duration(longest)
    if number <= _PAUSES_NAMED:
        return listed([duration(backoff_max_ms(rule, attempt)) for attempt in range(1, number + 1)])
    return f"{', '.join(duration(ms) for ms in dict.fromkeys(first))} and so on up to {duration(longest)}"


def stuck_after_ms(rule: RetryRule, deadline_ms: int) -> int:
    """The longest time from the first sending until a human is called; 0 where no number of sendings calls one."""
    return worst_case_ms(replace(rule, attempts=rule.stuck_after), deadline_ms) if rule.stuck_after else 0
