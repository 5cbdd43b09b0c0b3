"""The demo's child processes: started in a session of their own, watched by their log, killed as `kill -9` does, cleaned up always."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from orchestrator.cli.session import Session
from orchestrator.config import environment_with
from orchestrator.errors import EscrowError

T = TypeVar("T")

#: Longest start of a process, and longest orderly end, in seconds. Generous: on a busy machine imports alone take ten.
START_S, STOP_S = 45.0, 15.0
#: Between two looks, in seconds.
POLL_S = 0.02
#: Lines of a log that an error shows.
TAIL_LINES = 15


class DemoFailed(EscrowError):
    """The demo could not be played to its end."""


def wait_for(session: Session, look: Callable[[], T | None], within_s: float, complaint: str) -> T:
    """Look until there is something, and return it. Raises: DemoFailed with the complaint after `within_s` seconds."""
    limit = session.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if session.monotonic() > limit:
            raise DemoFailed(f"{complaint} within {within_s:.0f} s.")
        session.sleep(POLL_S)


class Child:
    """`python -m MODULE ARGS…`, not started yet. `settings`: its `ESCROW_…` environment, by field name; ours is not inherited."""

    def __init__(self, session: Session, directory: Path, name: str, command: Sequence[str], settings: dict[str, str]) -> None:
        self.name = name
        self._session = session
        self._log = directory / f"{name}.log"
        self._command = command
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        # Where the log of the present run begins: a restarted child must not be taken for ready by what the dead one said.
        self._begin = 0

    def start(self, *more: str) -> None:
        """Start it; returns at once."""
        self._begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603  # our own modules
                [sys.executable, "-m", *self._command, *more],
                env=environment_with(**self._settings) | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the parent alone, which then stops its children in order.
                start_new_session=True,
            )

    def line(self, part: str) -> str:
        """The first line of its log that contains `part`, once it is there. Raises: DemoFailed with the log's end."""

        def look() -> str | None:
            ended = not self.is_alive
            found = next((line for line in self._text().splitlines() if part in line), None)
            if found is None and ended:
                raise DemoFailed(f"{self.name} ended with status {self._status} instead of starting.")
            return found

        try:
            return wait_for(self._session, look, START_S, f"{self.name} did not start")
        except DemoFailed as failed:
            raise DemoFailed(f"{failed} Its log ends:\n{self.tail()}") from None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id. It must have been started."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """`kill -9`: nothing is flushed, closed or said. Idempotent."""
        if self._process is not None and self.is_alive:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait(STOP_S)

    def stop(self) -> None:
        """SIGTERM, and its orderly end; killed when that takes too long. Idempotent."""
        self.ask_to_stop()
        if self._process is not None:
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting. Idempotent."""
        if self._process is not None and self.is_alive:
            self._process.terminate()

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(f"  {line}" for line in self._text().splitlines()[-TAIL_LINES:]) or "  (it said nothing)"

    def _text(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace")

    @property
    def _status(self) -> int | None:
        return self._process.poll() if self._process is not None else None
