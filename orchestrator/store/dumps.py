"""One schema of PostgreSQL as a file, and back, by the client programs of PostgreSQL."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from orchestrator.config import environment_with
from orchestrator.errors import RequestError, SettingsError
from orchestrator.store import schema
from orchestrator.store.dialect import reading
from orchestrator.store.tables import orders

_BLOCK_BYTES = 1 << 20


def write(engine: sa.Engine, snapshot: str, file: Path) -> None:
    """Dump the schema that the engine works in, as an exported snapshot has it. Raises: RequestError, SettingsError."""
    options = (f"--snapshot={snapshot}", "--format=custom", "--no-owner", f"--schema={_schema(engine)}", f"--file={file}")
    with tempfile.TemporaryFile() as said:
        with _on_database(engine, "pg_dump", *options, stderr=said) as pg_dump:
            pg_dump.wait()
        _see("pg_dump", pg_dump.returncode, said)


def restore(engine: sa.Engine, file: Path) -> None:
    """Put a dump in place of what is there, in one transaction. Raises: RequestError, SettingsError; nothing was changed then."""
    name, taken_of = _schema(engine), _schema_of(file)
    if name is None or name != taken_of:
        raise RequestError(
            f"The backup was taken of the schema {taken_of}, and current_schema() of the database is {name}: nothing would be restored. "
            f"Fix: make the schema, and let the search_path begin with it (in the URL: ?options=-csearch_path%3D{taken_of})."
        )
    schema.refuse_newer(engine)
    # A dump of an older release names but a part of what is there.
    before = f"BEGIN;\n{schema.drop_sql(engine.dialect, name)}"
    options = ("--no-owner", "--clean", "--if-exists", f"--schema={name}", "--file=-", str(file))
    plain = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    with tempfile.TemporaryFile() as refused, tempfile.TemporaryFile() as unread:
        with (
            _on_database(engine, "psql", *plain, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=refused) as psql,
            _started("pg_restore", *options, stdout=subprocess.PIPE, stderr=unread) as pg_restore,
        ):
            _feed(psql, before, pg_restore)
        _see("psql", psql.returncode, refused)
        _see("pg_restore", pg_restore.returncode, unread)


def _feed(psql: subprocess.Popen[bytes], before: str, pg_restore: subprocess.Popen[bytes]) -> None:
    """Give psql everything. It commits when it is told to, not when its input ends: whoever is killed here, nothing was changed."""
    assert psql.stdin is not None
    assert pg_restore.stdout is not None
    # It ends at the first statement that is refused.
    with suppress(BrokenPipeError):
        try:
            psql.stdin.write(before.encode())
            shutil.copyfileobj(pg_restore.stdout, psql.stdin, _BLOCK_BYTES)
            if pg_restore.wait() == 0:
                psql.stdin.write(b"COMMIT;\n")
        finally:
            psql.stdin.close()


def _schema(engine: sa.Engine) -> str | None:
    """None: no schema is there of those that the search path names."""
    with reading(engine) as connection:
        name: str | None = connection.scalar(sa.text("SELECT current_schema()"))
    return name


def _schema_of(file: Path) -> str | None:
    """The schema that a dump was taken of; None: no table of ours is in it."""
    with tempfile.TemporaryFile() as said:
        with _started("pg_restore", "--list", str(file), stdout=subprocess.PIPE, stderr=said) as pg_restore:
            listed, _ = pg_restore.communicate()
        _see("pg_restore", pg_restore.returncode, said)
    found = re.search(rf" TABLE (.+) {orders.name} ", listed.decode())
    return None if found is None else found[1]


def _on_database(engine: sa.Engine, tool: str, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a tool on this database; the password goes by the environment, which other users do not see."""
    _, parameters = engine.dialect.create_connect_args(engine.url)
    password = parameters.pop("password", None)
    parameters.pop("context", None)  # of the driver, not of the server
    # Of several servers the one that the snapshot is of, and that takes what is restored.
    address = make_conninfo(**{"target_session_attrs": "read-write", **parameters})
    environment = {"PGPASSWORD": str(password)} if password is not None else {}
    return _started(tool, f"--dbname={address}", *options, environment=environment, **streams)


def _started(tool: str, *options: str, environment: Mapping[str, str] | None = None, **streams: Any) -> subprocess.Popen[bytes]:
    found = shutil.which(tool)
    if found is None:
        raise SettingsError(f"{tool} is not installed. Fix: install the client programs of PostgreSQL (postgresql-client).")
    return subprocess.Popen([found, *options], env=environment_with() | dict(environment or {}), **streams)  # noqa: S603  # our arguments


def _see(tool: str, code: int, stream: IO[bytes]) -> None:
    """See that a tool did its work. Raises: RequestError with what it said."""
    if code == 0:
        return
    stream.seek(0)
    said = stream.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    # Hints may follow it.
    error = next((line for line in said if "ERROR:" in line), said[-1])
    raise RequestError(f"{tool} failed: {error}")
