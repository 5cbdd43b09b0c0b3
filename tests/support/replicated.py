"""A PostgreSQL primary and its synchronous standby, made and turned by the scripts of `deploy/postgres`, on private ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgres import PostgresUnavailable, binaries, readable_by_anyone, unprivileged_user
from tests.support.processes import ROOT, eventually, free_port

#: Longest run of a script, in seconds.
SCRIPT_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Node:
    """One of the two servers."""

    name: str
    data: Path
    port: int

    @property
    def conninfo(self) -> str:
        """Where it is, as libpq takes it."""
        return f"host=127.0.0.1 port={self.port} user=postgres"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its database `postgres`, of this server alone."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, statement: str) -> None:
        """Run a statement that returns nothing, on this server alone."""
        with psycopg.connect(f"{self.conninfo} dbname=postgres", connect_timeout=5, autocommit=True) as connection:
            connection.execute(statement)

    def ask(self, statement: str) -> Any:
        """The first value that a statement returns, on this server alone."""
        with psycopg.connect(f"{self.conninfo} dbname=postgres", connect_timeout=5, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
            assert row is not None
            return row[0]

    def rows(self, statement: str) -> set[tuple[Any, ...]]:
        """The rows that a statement returns, on this server alone."""
        with psycopg.connect(f"{self.conninfo} dbname=postgres", connect_timeout=5, autocommit=True) as connection:
            return set(connection.execute(statement))


class PostgresPair:
    """`primary` and `standby` change places at each failover."""

    def __init__(self) -> None:
        self._user = unprivileged_user("postgres")
        self._home = Path(tempfile.mkdtemp(prefix="escrow-pair-"))
        self._home.chmod(0o755)
        self._bin = readable_by_anyone(binaries(), self._home) if self._user else binaries()
        self._scripts = self._home / "scripts"
        shutil.copytree(ROOT / "deploy" / "postgres", self._scripts)
        data = self._home / "servers"
        data.mkdir()
        if self._user:
            os.chown(data, self._user.pw_uid, self._user.pw_gid)
        self._nodes = [Node(name, data / name, free_port()) for name in ("left", "right")]
        self.primary, self.standby = self._nodes

    @property
    def url(self) -> str:
        """SQLAlchemy URL that names both servers, always in the same order."""
        hosts = "&".join(f"host=127.0.0.1:{node.port}" for node in self._nodes)
        return f"postgresql+psycopg://postgres@/postgres?{hosts}"

    def start(self) -> None:
        """Make both."""
        self._run("primary.sh", self.primary.data, self.primary.port)
        self._run("standby.sh", self.standby.data, self.standby.port, self.standby.name, self.primary.conninfo)

    def kill_primary(self) -> None:
        """SIGKILL to the primary's postmaster; returns when its children are gone too."""
        data = self.primary.data
        lock = data / "postmaster.pid"
        os.kill(int(lock.read_text(encoding="utf-8").split()[0]), signal.SIGKILL)
        eventually(lambda: not _processes_in(data), 20, what="the children of the killed postmaster end")
        # Where nobody collects the dead, the number in it would be taken for a server that runs.
        lock.unlink()

    def promote(self) -> None:
        """Make the standby the primary; the names change places."""
        self.run_promote(self.standby)
        self.primary, self.standby = self.standby, self.primary

    def promote_beside(self) -> None:
        """`promote()` while the primary lives, no longer waits for a standby, and goes on taking writes."""
        self._configure(self.primary, "synchronous_standby_names = ''")
        self._command(self._bin / "pg_ctl", "-D", self.primary.data, "reload")
        self.promote()

    def start_old(self) -> None:
        """Start the old primary as it is, no longer waiting for a standby: it takes writes, as if it had not been told."""
        self.start_old_read_only()
        self.let_old_write()

    def start_old_read_only(self) -> None:
        """Start the old primary so that it can be looked at before any process of Escrow takes it for one to write to."""
        self._configure(self.standby, "synchronous_standby_names = ''\ndefault_transaction_read_only = on")
        self.start_standby()

    def let_old_write(self) -> None:
        """The old primary takes writes."""
        self._configure(self.standby, "default_transaction_read_only = off")
        self._command(self._bin / "pg_ctl", "-D", self.standby.data, "reload")
        eventually(lambda: self.standby.ask("SHOW default_transaction_read_only") == "off", what="the old primary takes writes")

    def rejoin(self) -> None:
        """Make the old primary a standby again."""
        self.run_rejoin(self.standby, self.primary.conninfo)

    def run_promote(self, node: Node) -> None:
        """Run promote.sh as somebody would who takes `node` for the standby. Raises: PostgresUnavailable with what it says."""
        self._run("promote.sh", node.data)

    def run_rejoin(self, old: Node, primary: str) -> None:
        """Run rejoin.sh as somebody would who takes `old` for the old primary. Raises: PostgresUnavailable with what it says."""
        self._run("rejoin.sh", old.data, old.port, old.name, primary)

    def stop_standby(self) -> None:
        """Stop the standby; the primary waits for it."""
        self._command(self._bin / "pg_ctl", "-D", self.standby.data, "-w", "stop")

    def start_standby(self) -> None:
        """Start the standby again."""
        self._command(self._bin / "pg_ctl", "-D", self.standby.data, "-l", f"{self.standby.data}.log", "-w", "start")

    def remove(self) -> None:
        """Stop both and delete everything."""
        for node in self._nodes:
            if (node.data / "postmaster.pid").exists():
                with suppress(PostgresUnavailable):
                    self._command(self._bin / "pg_ctl", "-D", node.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._home, ignore_errors=True)

    def _configure(self, node: Node, settings: str) -> None:
        with (node.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(f"{settings}\n")

    def _run(self, script: str, *args: str | int | Path) -> None:
        self._command("sh", self._scripts / script, *map(str, args))

    def _command(self, *command: str | Path) -> None:
        # To a file: the servers that a script starts keep what it was given open.
        with (self._home / "out").open("a+b") as out:
            begun = out.seek(0, os.SEEK_END)
            done = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env={"PATH": os.environ["PATH"], "PGBIN": str(self._bin), "DEPLOY_PG_AUTH": "trust", "LANG": "C.UTF-8"},
                timeout=SCRIPT_WITHIN_S,
                start_new_session=True,
                **self._identity(),
            )
            out.seek(begun)
            if done.returncode:
                raise PostgresUnavailable(f"{' '.join(map(str, command))}: {out.read().decode(errors='replace')[-2_000:]}")

    def _identity(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}


@contextmanager
def postgres_pair() -> Iterator[PostgresPair]:
    """A pair for this test alone; its database `postgres` is empty."""
    pair = PostgresPair()
    try:
        pair.start()
        yield pair
    finally:
        pair.remove()


def _processes_in(directory: Path) -> list[int]:
    """The processes that work in a directory; a server's children do in its data."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve() == directory:
                found.append(int(process.name))
    return found
