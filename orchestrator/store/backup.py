"""One state of the whole database, to a directory of its own and back.

`NAME/manifest.json` and `NAME/escrow.dump` (PostgreSQL, `pg_dump --format=custom`) or `NAME/escrow.sqlite3`. A backup is written beside
its place and moved there whole. What the manifest says was read in the very snapshot that is dumped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from orchestrator.contract import canonical
from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.errors import Conflict, RequestError
from orchestrator.store import dumps, schema, workers
from orchestrator.store.backups import FORMAT, MANIFEST, Manifest, damage, digest, is_name, unnamed
from orchestrator.store.dialect import of, reading
from orchestrator.store.recovery import MARK
from orchestrator.store.tables import checkpoints, journal, orders
from orchestrator.store.tables import workers as workers_table

POSTGRES_DUMP, SQLITE_COPY = "escrow.dump", "escrow.sqlite3"
#: Rows fetched at once while the heads of the journals are read.
_ROWS = 5_000


def create(engine: sa.Engine, directory: Path, name: str) -> Manifest:
    """Back the database up as `name`. Orders move on meanwhile. Raises: RequestError for a name that is taken, or tools that fail."""
    if not is_name(name):
        raise RequestError(f"{name} cannot be the name of a backup. Fix: name it without a / and without a dot in front.")
    place = directory / name
    if place.exists():
        raise RequestError(f"There is a backup {name} already in {directory}. Fix: name another one.")
    partial = unnamed(directory, name)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # It holds what customers gave, and what tokens are checked by: nobody else's to read.
        partial.mkdir(mode=0o700)
        with _snapshot(engine) as (connection, snapshot):
            facts = _facts(connection)
            file = _dump(engine, snapshot, partial)
        manifest = Manifest(
            format=FORMAT,
            name=name,
            kind=engine.dialect.name,
            file=file.name,
            bytes=file.stat().st_size,
            sha256=digest(file),
            **facts,
        )
        _write(partial / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
        for written in partial.iterdir():
            written.chmod(0o600)
        _sync(file)
        partial.rename(place)
        _sync(directory)
    except (OSError, sqlite3.Error) as error:
        fix = "Fix: see that the directory can be written to and has room, or name another (ESCROW_BACKUP_DIR, or --dir)."
        raise RequestError(f"The backup cannot be written to {directory}: {error}. {fix}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def restore(engine: sa.Engine, directory: Path, manifest: Manifest, *, replace: bool) -> None:
    """Bring a backup into the database of `engine`, all or nothing on PostgreSQL; on SQLite the file is replaced whole.

    Raises: RequestError when it is damaged, of the other kind or of a later release, or the database holds orders and
    `replace` is False; Conflict while Escrow runs; SettingsError when a later release migrated the database.
    """
    if wrong := damage(directory, manifest):
        raise RequestError(f"The backup {manifest.name} is damaged: {wrong}. Fix: take another one.")
    if manifest.kind != engine.dialect.name:
        raise RequestError(f"The backup {manifest.name} is of {manifest.kind}, and the database is {engine.dialect.name}.")
    if manifest.schema_revision and not schema.knows(manifest.schema_revision):
        raise RequestError(f"The backup {manifest.name} was written by a later release of Escrow. Fix: use that release.")
    if running := _running(engine):
        raise Conflict(f"Escrow runs on this database: {', '.join(running)}. Fix: stop every worker and the API first.")
    if not replace and (there := last_change(engine)) is not None:
        newer = " It is newer than the backup." if there > parse_time(manifest.taken_at) else ""
        raise RequestError(
            f"The database holds orders, the last changed at {format_time(there)}.{newer} Fix: restore into an empty one, or say --replace."
        )
    file = directory / manifest.name / manifest.file
    engine.dispose()
    if manifest.kind == "sqlite":
        _restore_sqlite(engine, file)
    else:
        dumps.restore(engine, file)


def heads(engine: sa.Engine) -> str:
    """What the manifest of a backup of this database would say of the ends of its journals."""
    with reading(engine, is_snapshot=True) as connection:
        return _heads(connection)[0]


def _running(engine: sa.Engine) -> list[str]:
    """The processes that beat."""
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table(workers_table.name):
            return []
        return workers.living(connection)


def last_change(engine: sa.Engine) -> datetime | None:
    """When an order of the database was last changed; None: it holds none, or is not migrated."""
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table(orders.name):
            return None
        changed: datetime | None = connection.scalar(sa.select(sa.func.max(orders.c.updated_at, type_=orders.c.updated_at.type)))
        return changed


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[tuple[sa.Connection, str | None]]:
    """One state of the database, held until the end; on PostgreSQL with the name under which others may share it."""
    with reading(engine, is_snapshot=True) as connection:
        if engine.dialect.name != "postgresql":
            yield connection, None
            return
        # It is idle while the dump runs.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection, connection.scalar(sa.text("SELECT pg_export_snapshot()"))


def _facts(connection: sa.Connection) -> dict[str, Any]:
    entries, last_at = connection.execute(sa.select(sa.func.count(), sa.func.max(journal.c.at, type_=journal.c.at.type))).one()
    ends, number = _heads(connection)
    mark = connection.scalar(sa.select(checkpoints.c.position).where(checkpoints.c.name == MARK))
    return {
        "taken_at": format_time(of(connection).now(connection)),
        "schema_revision": MigrationContext.configure(connection).get_current_revision() or "",
        "orders": number,
        "entries": entries,
        "last_entry_at": None if last_at is None else format_time(last_at),
        "heads": ends,
        "recorder_offset": None if mark is None else canonical.load(mark)["offset"],
    }


def _heads(connection: sa.Connection) -> tuple[str, int]:
    """See `Manifest.heads`; and the number of journals."""
    found = hashlib.sha256()
    number = 0
    last = sa.select(journal.c.order_id, sa.func.max(journal.c.seq).label("seq")).group_by(journal.c.order_id).subquery()
    statement = (
        sa.select(journal.c.order_id, journal.c.seq, journal.c.hash)
        .join(last, sa.and_(last.c.order_id == journal.c.order_id, last.c.seq == journal.c.seq))
        .order_by(journal.c.order_id)
        .execution_options(yield_per=_ROWS)
    )
    for order_id, seq, head in connection.execute(statement):
        found.update(f"{order_id} {seq} {head}\n".encode())
        number += 1
    return found.hexdigest(), number


def _dump(engine: sa.Engine, snapshot: str | None, directory: Path) -> Path:
    if snapshot is None:
        file = directory / SQLITE_COPY
        with closing(sqlite3.connect(_sqlite_file(engine))) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)
        return file
    file = directory / POSTGRES_DUMP
    dumps.write(engine, snapshot, file)
    return file


def _restore_sqlite(engine: sa.Engine, file: Path) -> None:
    """In place of the file that is there: killed at any point, the one or the other is there whole."""
    target = Path(_sqlite_file(engine))
    new = target.with_name(f"{target.name}.restored")
    try:
        shutil.copyfile(file, new)
        _sync(new)
        _fold_in_log(target)
        new.replace(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise RequestError(f"The backup cannot be brought to {target}: {error}.") from error


def _fold_in_log(target: Path) -> None:
    """A log beside a database is taken for its own. It goes into the one that is there before another one gets that place."""
    with closing(sqlite3.connect(target, timeout=0)) as connection:
        is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise RequestError(f"Somebody is reading {target}. Fix: close every program that has it open.")
    for left in (f"{target}-wal", f"{target}-shm"):
        Path(left).unlink(missing_ok=True)


def _sqlite_file(engine: sa.Engine) -> str:
    if not engine.url.database:
        raise RequestError("A database in memory has no backups.")
    return engine.url.database


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    _sync(file)


def _sync(path: Path) -> None:
    """See to it that the disk has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
