"""Backups: one state of the whole database in a directory of its own, with a manifest that says what is in it.

`NAME/manifest.json` and `NAME/escrow.dump` (PostgreSQL, `pg_dump --format=custom`) or `NAME/escrow.sqlite3`. A backup is written beside
its place and moved there whole, so what has a name is complete. What the manifest says was read in the very snapshot that is dumped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from orchestrator.contract import canonical
from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.errors import NotFound, RequestError
from orchestrator.store import dumps, schema, workers
from orchestrator.store.dialect import of, reading
from orchestrator.store.recovery import MARK
from orchestrator.store.tables import checkpoints, journal, orders
from orchestrator.store.tables import workers as workers_table

MANIFEST, POSTGRES_DUMP, SQLITE_COPY = "manifest.json", "escrow.dump", "escrow.sqlite3"
#: Of the manifest. One that is higher was written by a later release.
FORMAT = 1
#: Directories of backups that are being written, or deleted; what is left of one that was killed has this ending, too.
_PARTIAL = ".partial"
#: A directory of those that nobody has touched for so long is left from one that was killed, in seconds.
_ABANDONED_AFTER_S = 86_400
_BLOCK_BYTES = 1 << 20
#: Rows fetched at once while the heads of the journals are read.
_ROWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself. Times are RFC 3339, UTC."""

    format: int
    #: Of its directory.
    name: str
    #: `postgresql` or `sqlite`.
    kind: str
    #: The database's clock in the snapshot: nothing that was committed later is in it.
    taken_at: str
    schema_revision: str
    orders: int
    entries: int
    #: The last instant that any journal entry has; None: there is none.
    last_entry_at: str | None
    #: sha256 over (order id, seq, hash) of the last journal entry of every order, in order of id; hexadecimal.
    heads: str
    #: A place in the recorder from which everything comes that is not in the backup; None: there was none.
    recorder_offset: int | None
    file: str
    bytes: int
    #: sha256 of the file, hexadecimal.
    sha256: str


def create(engine: sa.Engine, directory: Path, name: str) -> Manifest:
    """Back the database up as `name`. Orders move on meanwhile. Raises: RequestError for a name that is taken, or tools that fail."""
    if not _is_name(name):
        raise RequestError(f"{name} cannot be the name of a backup. Fix: name it without a / and without a dot in front.")
    place = directory / name
    if place.exists():
        raise RequestError(f"There is a backup {name} already in {directory}. Fix: name another one.")
    partial = _partial(directory, name)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with _snapshot(engine) as (connection, snapshot):
            facts = _facts(connection)
            file = _dump(engine, snapshot, partial)
        manifest = Manifest(
            format=FORMAT,
            name=name,
            kind=engine.dialect.name,
            file=file.name,
            bytes=file.stat().st_size,
            sha256=_digest(file),
            **facts,
        )
        _write(partial / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
        _sync(file)
        partial.rename(place)
        _sync(directory)
    except (OSError, sqlite3.Error) as error:
        raise RequestError(f"The backup cannot be written to {directory}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def name_at(at: datetime) -> str:
    """The name of a backup that is taken at this time: names sort as times do."""
    return at.strftime("escrow-%Y%m%dT%H%M%SZ")


def read_all(directory: Path) -> list[Manifest]:
    """Every whole backup in a directory, oldest first. What is none, or cannot be read (see `unreadable`), is left out."""
    found, _ = _read_all(directory)
    return sorted((replace(manifest, name=name) for name, manifest in found.items()), key=_age)


def unreadable(directory: Path) -> list[str]:
    """What is wrong with each backup whose manifest cannot be read."""
    _, complaints = _read_all(directory)
    return complaints


def read(directory: Path, name: str) -> Manifest:
    """The manifest of a backup, with its directory's name. Raises: NotFound; RequestError when it cannot be read, or by this release."""
    return replace(_read(directory, name), name=name)


def damage(directory: Path, manifest: Manifest) -> str | None:
    """What is wrong with a backup's file; None: it is as it was written."""
    file = directory / manifest.name / manifest.file
    if not file.is_file():
        return f"{manifest.file} is missing"
    if file.stat().st_size != manifest.bytes:
        return f"{manifest.file} has {file.stat().st_size} bytes, and {manifest.bytes} were written"
    return None if _digest(file) == manifest.sha256 else f"{manifest.file} was altered after it was written"


def prune(directory: Path, keep: int, now: datetime) -> list[str]:
    """Delete all but the `keep` youngest backups, the oldest first, and what killed ones left; the names of those deleted.

    What somebody renamed or copied is theirs: it is not counted, and stays. So does what cannot be read. Raises: RequestError.
    """
    if keep < 1:
        raise RequestError("At least one backup is kept.")
    found, _ = _read_all(directory)
    ours = sorted((manifest for name, manifest in found.items() if manifest.name == name), key=_age)
    old = [manifest.name for manifest in ours[:-keep]]
    try:
        for name in old:
            # Under this name it is none, whenever this is killed.
            shutil.rmtree(_partial(directory, name), ignore_errors=True)
            shutil.rmtree((directory / name).rename(_partial(directory, name)))
    except OSError as error:
        raise RequestError(f"The backups in {directory} cannot be pruned: {error}.") from error
    for partial in directory.glob(f".*{_PARTIAL}"):
        if _is_abandoned(partial, now):
            shutil.rmtree(partial, ignore_errors=True)
    return old


def restore(engine: sa.Engine, directory: Path, manifest: Manifest, *, replace: bool) -> None:
    """Bring a backup into the database of `engine`, all or nothing on PostgreSQL; on SQLite the file is replaced whole.

    Raises: RequestError when it is damaged, of the other kind or of a later release, Escrow runs, or the database holds orders and
    `replace` is False; SettingsError when a later release migrated the database.
    """
    if wrong := damage(directory, manifest):
        raise RequestError(f"The backup {manifest.name} is damaged: {wrong}. Fix: take another one.")
    if manifest.kind != engine.dialect.name:
        raise RequestError(f"The backup {manifest.name} is of {manifest.kind}, and the database is {engine.dialect.name}.")
    if manifest.schema_revision and not schema.knows(manifest.schema_revision):
        raise RequestError(f"The backup {manifest.name} was written by a later release of Escrow. Fix: use that release.")
    if running := _running(engine):
        raise RequestError(f"Escrow runs on this database: {', '.join(running)}. Fix: stop every worker and the API first.")
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


def _read_all(directory: Path) -> tuple[dict[str, Manifest], list[str]]:
    """Manifests as they were written, by the names of their directories, and what is wrong with those that cannot be read."""
    found: dict[str, Manifest] = {}
    complaints = []
    for name in sorted(file.parent.name for file in directory.glob(f"*/{MANIFEST}")):
        try:
            found[name] = _read(directory, name)
        except NotFound:
            continue  # of one that is being written, or was deleted at this moment
        except RequestError as error:
            complaints.append(str(error))
    return found, complaints


def _read(directory: Path, name: str) -> Manifest:
    file = directory / name / MANIFEST
    try:
        if not _is_name(name) or not file.is_file():
            raise NotFound(f"There is no backup {name} in {directory}.")
        said = json.loads(file.read_text(encoding="utf-8"))
        if said["format"] > FORMAT:
            raise RequestError(f"The backup {name} was written by a later release of Escrow. Fix: use that release.")
        return Manifest(**{field.name: said[field.name] for field in fields(Manifest)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} cannot be read as the manifest of a backup: {error}.") from error


def _age(manifest: Manifest) -> tuple[str, str]:
    return manifest.taken_at, manifest.name


def _is_name(name: str) -> bool:
    """Whether a backup can have it. What begins with a dot is none yet, or no longer."""
    return bool(name) and Path(name).name == name and not name.startswith(".")


def _partial(directory: Path, name: str) -> Path:
    return directory / f".{name}{_PARTIAL}"


def _is_abandoned(partial: Path, now: datetime) -> bool:
    """Whether nobody has written to it for so long that nobody does."""
    try:
        touched_at = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
    except OSError:
        return False  # it got its name, or was deleted, at this moment
    return now.timestamp() - touched_at > _ABANDONED_AFTER_S


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
    digest, number = _heads(connection)
    mark = connection.scalar(sa.select(checkpoints.c.position).where(checkpoints.c.name == MARK))
    return {
        "taken_at": format_time(of(connection).now(connection)),
        "schema_revision": MigrationContext.configure(connection).get_current_revision() or "",
        "orders": number,
        "entries": entries,
        "last_entry_at": None if last_at is None else format_time(last_at),
        "heads": digest,
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


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


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
