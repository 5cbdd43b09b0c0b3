"""Doing the same round again and again, through whatever trouble there is."""

from __future__ import annotations

import logging
import random
import threading

from participants.kit.database import is_temporary

#: Bounds of the wait after trouble, in seconds; it doubles, with full jitter.
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 5.0


class Loop:
    """A round, run until it is done or told to stop, in the thread that calls `run`."""

    def __init__(self, participant: str) -> None:
        self._log = logging.getLogger(f"participants.{participant}")
        #: What is wrong at the moment, or None.
        self._trouble: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to do."""
        return False

    @property
    def trouble(self) -> str | None:
        """What is wrong at the moment, in one line; None when it works."""
        return self._trouble

    def turn(self) -> None:
        """One round. Raises: whatever went wrong; call again."""
        raise NotImplementedError

    def finish(self) -> None:
        """What is to be done at the end. Raises nothing."""

    def run(self, stop: threading.Event) -> None:
        """Work until it is done or `stop` is set; then finish. Trouble is logged and waited out."""
        troubles = 0
        try:
            while not stop.is_set() and not self.is_done:
                try:
                    self.turn()
                    troubles, self._trouble = 0, None
                except Exception as error:  # noqa: BLE001 - a service that dies of a hiccup helps nobody; /healthz shows it
                    self.note(error)
                    wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(troubles, 10))
                    troubles += 1
                    stop.wait(random.uniform(0, wait_s))  # noqa: S311 - spreads retries, guards nothing
        finally:
            self.finish()

    def note(self, error: Exception) -> None:
        """Log trouble, and keep it in mind."""
        self._trouble = f"{type(error).__name__}: {error}".splitlines()[0]
        expected = is_temporary(error) or isinstance(error, OSError)
        extra = {"action": "trouble"}
        self._log.warning("Trouble, trying again: %s", self._trouble, exc_info=None if expected else error, extra=extra)
