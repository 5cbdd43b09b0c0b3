"""The backoff's formula and its bounds (R5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.retry import RetryRule, backoff_max_ms, backoff_ms, worst_case_ms

RULES = st.builds(
    RetryRule,
    attempts=st.none() | st.integers(1, 1000),
    first_ms=st.integers(1, 10**11),
    factor=st.floats(1, 10),
    max_ms=st.integers(1, 10**11),
    stuck_after=st.none(),
)
RULE = RetryRule(attempts=4, first_ms=5_000, factor=2, max_ms=60_000, stuck_after=None)


def test_the_first_values_are_those_of_the_formula() -> None:
    """Else definitions mean other times than the design says."""
    assert [backoff_max_ms(RULE, attempt) for attempt in range(1, 7)] == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]


@given(rule=RULES, attempt=st.integers(1, 100_000), command_id=st.uuids().map(str))
def test_jitter_takes_at_most_half(rule: RetryRule, attempt: int, command_id: str) -> None:
    """Else a backoff is longer than the worst case counts with, or a hammer."""
    whole = backoff_max_ms(rule, attempt)
    assert max(1, whole // 2) <= backoff_ms(rule, attempt, command_id) <= max(1, whole)


@given(command_id=st.uuids().map(str))
def test_the_same_command_waits_the_same(command_id: str) -> None:
    """Else deciding again gives another journal (R2)."""
    assert backoff_ms(RULE, 2, command_id) == backoff_ms(RULE, 2, command_id)


def test_commands_do_not_wait_in_step() -> None:
    """Else a participant that comes back is asked by everyone at once."""
    assert len({backoff_ms(RULE, 3, f"command-{number}") for number in range(100)}) > 90


@given(rule=RULES, deadline_ms=st.integers(1, 10**9))
def test_the_worst_case_holds_every_wait(rule: RetryRule, deadline_ms: int) -> None:
    """Else attempts outlive the patience that the check compared them with (R7)."""
    attempts = rule.attempts or 1
    waits = sum(backoff_ms(rule, attempt, "c") for attempt in range(1, attempts))
    assert worst_case_ms(rule, deadline_ms) >= attempts * deadline_ms + waits - attempts
