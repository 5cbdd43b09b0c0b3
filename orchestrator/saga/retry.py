"""When the next attempt is due: a pure rule, jittered by what is known anyway, so deciding stays deterministic (R5)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """The retry of a step or of an undo, with its defaults written out."""

    #: All sendings before the outcome is unknown; None: without limit.
    attempts: int | None
    first_ms: int
    factor: float
    max_ms: int
    #: Sendings after which a human is called; None where `attempts` ends it first.
    stuck_after: int | None


def backoff_max_ms(rule: RetryRule, attempt: int) -> int:
    """The longest wait between the silence of attempt `attempt` (from 1) and the next: min(max, first * factor^(attempt-1)).

    >>> rule = RetryRule(attempts=4, first_ms=5_000, factor=2, max_ms=60_000, stuck_after=None)
    >>> [backoff_max_ms(rule, attempt) for attempt in (1, 2, 3, 4, 5, 5_000)]
    [5000, 10000, 20000, 40000, 60000, 60000]
    """
    try:
        grown = rule.first_ms * rule.factor ** (attempt - 1)
    except OverflowError:
        return rule.max_ms
    return int(min(rule.max_ms, grown))


def backoff_ms(rule: RetryRule, attempt: int, command_id: str) -> int:
    """The wait before attempt `attempt + 1`: between half of `backoff_max_ms` and all of it, fixed by command id and attempt."""
    whole = backoff_max_ms(rule, attempt)
    digest = hashlib.sha256(f"{command_id}:{attempt}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 0xFFFFFFFF
    return max(1, whole - int(whole / 2 * share))


def worst_case_ms(rule: RetryRule, deadline_ms: int) -> int:
    """The longest time until a limited ask is `unknown`: every attempt's deadline, and the backoffs between them.

    >>> worst_case_ms(RetryRule(attempts=3, first_ms=1_000, factor=2, max_ms=60_000, stuck_after=None), 30_000)
    93000
    """
    attempts = rule.attempts or 1
    return attempts * deadline_ms + sum(backoff_max_ms(rule, attempt) for attempt in range(1, attempts))
