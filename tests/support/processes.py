"""Real processes for tests: started with their own environment, watched by their output, really killed. And polling with a limit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

#: Linux gives outgoing connections ports from 32768, other systems from 49152.
SERVER_PORTS = range(20_000, 32_000)

#: Interval between two looks, in seconds.
POLL_S = 0.02

#: The end of a process's output that an error shows, in characters.
TAIL_CHARS = 4_000


def eventually(look: Callable[[], T], timeout_s: float = 10.0, *, what: str = "") -> T:
    """Call `look` until it returns something true, and return that. An AssertionError raised by it means "not yet".

    Raises: AssertionError after `timeout_s`, with what was seen last.
    """
    limit = time.monotonic() + timeout_s
    while True:
        try:
            seen: object = look()
            if seen:
                return seen  # type: ignore[return-value]
        except AssertionError as error:
            seen = error
        if time.monotonic() > limit:
            raise AssertionError(f"not within {timeout_s} s: {what or look}; last seen: {seen!r}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago, and stays free while its server restarts.

    Below the range that the kernel gives to outgoing connections: one of those would take the port of a stopped server.
    """
    for port in random.sample(SERVER_PORTS, len(SERVER_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Process:
    """`python -m MODULE ARGS…` as a child in a session of its own; its output goes to a file. A context manager: the end kills it.

    The environment is ours without its `ESCROW_…` variables, plus `env`.
    """

    def __init__(self, module: str, *args: str, output: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.output = output
        self._command: Sequence[str] = (sys.executable, "-m", module, *args)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ESCROW_")}
        with output.open("ab") as sink:
            self._child = subprocess.Popen(
                self._command,
                cwd=cwd,
                env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, also that of its process group."""
        return self._child.pid

    @property
    def status(self) -> int | None:
        """Its exit status (negative: the signal that ended it); None while it runs."""
        return self._child.poll()

    def text(self) -> str:
        """All it has printed."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, part: str, timeout_s: float = 30.0) -> str:
        """The first line that contains `part`, once it is printed. Raises: AssertionError with the output's end."""

        def look() -> str | None:
            found = next((line for line in self.text().splitlines() if part in line), None)
            if found is None and self.status is not None:
                self._fail(f"ended with status {self.status} before it printed {part!r}")
            return found

        return self._within(look, timeout_s, f"it printed no {part!r}")

    def wait_for_http(self, url: str, timeout_s: float = 30.0) -> None:
        """Wait until a GET of `url` is answered with a 2xx. Raises: AssertionError with the output's end."""

        def look() -> bool:
            if self.status is not None:
                self._fail(f"ended with status {self.status} before {url} answered")
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return True
            except (urllib.error.URLError, OSError):
                return False

        self._within(look, timeout_s, f"{url} did not answer")

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; returns the exit status. Raises: AssertionError with the output's end."""
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._fail(f"still running after {timeout_s} s")

    def terminate(self, timeout_s: float = 30.0) -> int:
        """SIGTERM to the process, and wait; returns the exit status."""
        self._child.terminate()
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL to it and all its children. Idempotent."""
        with contextlib.suppress(ProcessLookupError):  # it and its children are gone
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def _within(self, look: Callable[[], T | None], timeout_s: float, complaint: str) -> T:
        limit = time.monotonic() + timeout_s
        while True:
            seen = look()
            if seen:
                return seen
            if time.monotonic() > limit:
                self._fail(f"{complaint} within {timeout_s} s")
            time.sleep(POLL_S)

    def _fail(self, complaint: str) -> NoReturn:
        raise AssertionError(f"{' '.join(self._command)}: {complaint}. Its output ends:\n{self.text()[-TAIL_CHARS:]}")
