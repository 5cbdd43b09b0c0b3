"""The metronome: APScheduler runs the recurring jobs of a process, and holds no business deadline.

A job only puts a tick into the line's queue. `misfire_grace_time=None`, `coalesce` and `max_instances=1`: after any pause it runs once,
never twice, never not at all. APScheduler follows the wall clock and stops ticking when it is set back, so `watch` re-arms the jobs by the
monotonic clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from orchestrator import logs

#: A tick older than this on the monotonic clock means that the wall clock was moved, in seconds.
STALLED_AFTER_S = 2.0

_log = logs.get(__name__)


class Metronome:
    """Ticks at an interval, and once more at the next instant that `wake_at` names."""

    def __init__(self, tick: Callable[[], None], *, interval_s: float, monotonic: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._tick = tick
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._now = now
        self._ticked_s = monotonic()
        self._wake_s: float | None = None
        self._lock = threading.Lock()
        self._scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )

    def start(self) -> None:
        """Tick at once, then at the interval."""
        self._scheduler.add_job(self._beat, "interval", seconds=self._interval_s, id="tick", next_run_time=self._now())
        self._scheduler.start()

    def also(self, job: Callable[[], None], *, interval_s: float) -> None:
        """Run a job of its own beside the ticks, in a thread of the scheduler: at most one at a time. Call it before `start`."""
        self._scheduler.add_job(job, "interval", seconds=interval_s, next_run_time=self._now())

    def stop(self) -> None:
        """Tick no more. Idempotent."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def wake_at(self, at_s: float) -> None:
        """Tick once more at this monotonic instant, unless an earlier one is set already."""
        with self._lock:
            now_s = self._monotonic()
            if self._wake_s is not None and now_s < self._wake_s <= at_s:
                return
            self._wake_s = at_s
        run_at = self._now() + timedelta(seconds=max(0.0, at_s - now_s))
        self._scheduler.add_job(self._wake, "date", run_date=run_at, id="wake", replace_existing=True)

    def watch(self) -> None:
        """Re-arm the jobs when they have stalled. Call it about twice a second."""
        if not self._scheduler.running or self._monotonic() - self._ticked_s < STALLED_AFTER_S:
            return
        _log.warning("the clock was moved: the jobs are armed again", action="clock_moved")
        self._ticked_s = self._monotonic()
        self._scheduler.reschedule_job("tick", trigger="interval", seconds=self._interval_s)
        self._scheduler.modify_job("tick", next_run_time=self._now())
        with suppress(JobLookupError):
            self._scheduler.remove_job("wake")
        with self._lock:
            self._wake_s = None

    def _beat(self) -> None:
        self._ticked_s = self._monotonic()
        self._tick()

    def _wake(self) -> None:
        with self._lock:
            self._wake_s = None
        self._tick()
