"""The metronome: it ticks, it is woken, and it survives a wall clock that is set back."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.timers import STALLED_AFTER_S, Metronome
from orchestrator.wiring import monotonic, now

LIMIT_S = 5.0


class Clock:
    """Both clocks, which a test can move."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return monotonic() + self.ahead_s

    def now(self) -> datetime:
        return now()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ticks() -> queue.SimpleQueue[float]:
    return queue.SimpleQueue()


@pytest.fixture
def metronome(clock: Clock, ticks: queue.SimpleQueue[float]) -> Iterator[Metronome]:
    """One that ticks by itself only once an hour, after its first tick."""
    metronome = Metronome(lambda: ticks.put(clock.monotonic()), interval_s=3600, monotonic=clock.monotonic, now=clock.now)
    metronome.start()
    ticks.get(timeout=LIMIT_S)
    yield metronome
    metronome.stop()


def test_a_wake_up_ticks_at_its_time(clock: Clock, metronome: Metronome, ticks: queue.SimpleQueue[float]) -> None:
    """If it failed, deadlines would be late by up to a tick, or early."""
    due_s = clock.monotonic() + 0.2
    metronome.wake_at(due_s)
    assert ticks.get(timeout=LIMIT_S) >= due_s - 0.01


def test_an_earlier_wake_up_replaces_a_later_one_and_a_later_one_changes_nothing(
    clock: Clock, metronome: Metronome, ticks: queue.SimpleQueue[float]
) -> None:
    """If it failed, a far deadline could hide a near one."""
    metronome.wake_at(clock.monotonic() + 3000)
    metronome.wake_at(clock.monotonic() + 0.1)
    metronome.wake_at(clock.monotonic() + 2000)
    ticks.get(timeout=LIMIT_S)


def test_jobs_that_stalled_are_armed_again(clock: Clock, metronome: Metronome, ticks: queue.SimpleQueue[float]) -> None:
    """If it failed, setting the wall clock back by an hour would stop all deadlines for an hour."""
    metronome.watch()
    assert ticks.empty()
    clock.ahead_s = STALLED_AFTER_S + 1
    metronome.watch()
    ticks.get(timeout=LIMIT_S)


def test_an_instant_is_aware() -> None:
    """If it failed, run dates would be read in the machine's zone."""
    assert now().utcoffset() == timedelta(0)
    assert now() > datetime(2026, 1, 1, tzinfo=UTC)
