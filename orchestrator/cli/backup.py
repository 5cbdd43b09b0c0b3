"""`escrow backup` and `escrow restore`: the database's state in a directory, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import recover
from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_fields, print_json, print_line, print_table, when
from orchestrator.cli.session import Session, session_of
from orchestrator.contract.canonical import format_time
from orchestrator.errors import Conflict, SettingsError, StoreUnavailable

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.store.backups import Manifest
    from orchestrator.store.engine import Engine

#: What a server says that has no such database.
_NO_DATABASE = re.compile(r'database "([^"]+)" does not exist')

app = typer.Typer(no_args_is_help=True, help="Back the database up, look at backups, and keep only some.")

DirOption = Annotated[Path | None, typer.Option("--dir", help="Directory of the backups; default: ESCROW_BACKUP_DIR.", file_okay=False)]
NameArgument = Annotated[str, typer.Argument(help="Name of the backup.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Its name; default: the time.")] = None,
    directory: DirOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Back the database up while orders move on: one state of it, with a manifest."""
    from orchestrator.store import backup, backups

    session = session_of(ctx)
    with _engine(session) as engine:
        named = name or backups.name_at(session.now())
        manifest = backup.create(engine, _directory(session, directory), named)
    _show(manifest, session, output)


@app.command("list")
def list_backups(ctx: typer.Context, directory: DirOption = None, output: OutputOption = Format.TABLE) -> None:
    """List the backups, oldest first."""
    from orchestrator.store import backups

    session = session_of(ctx)
    place = _directory(session, directory)
    if not place.is_dir():
        raise SettingsError(f"There is no directory {place}. Fix: correct ESCROW_BACKUP_DIR, or --dir; `escrow backup create` makes it.")
    found = backups.read_all(place)
    _note_unreadable(place)
    if output is Format.JSON:
        print_json({"items": [asdict(manifest) for manifest in found]})
        return
    now = session.now()
    rows = [(each.name, each.kind, when(each.taken_at, now), each.orders, each.entries, each.bytes, each.schema_revision) for each in found]
    columns = ("name", "kind", "taken", "orders", "entries", "bytes", "schema")
    print_table(columns, rows, empty=f"There is no backup in {place}: `escrow backup create` writes one.")


@app.command()
def verify(
    ctx: typer.Context,
    name: NameArgument,
    directory: DirOption = None,
    into: Annotated[
        str | None,
        typer.Option(help="A database (a URL) that is empty each time: restore it there, and verify every journal."),
    ] = None,
) -> None:
    """See that a backup is as it was written; with `--into` that it can be restored and its journals agree. Ends with 1 when not."""
    from orchestrator.store import backups

    session = session_of(ctx)
    place = _directory(session, directory)
    manifest = backups.read(place, name)
    if wrong := backups.damage(place, manifest):
        note(f"escrow: The backup {name} is damaged: {wrong}.")
        raise typer.Exit(ExitCode.FINDINGS)
    if into is not None:
        _refuse_filled(session, into)
        _restore(session, place, manifest, into, replace=False)
    print_line(f"The backup {name} is as it was written{'' if into is None else ', and what it restores agrees with its journals'}.")


@app.command()
def prune(
    ctx: typer.Context,
    keep: Annotated[int | None, typer.Option(min=1, help="How many of the youngest are kept; default: ESCROW_BACKUP_KEEP.")] = None,
    directory: DirOption = None,
) -> None:
    """Delete all but the youngest backups. What was renamed or copied is not counted, and stays."""
    from orchestrator.store import backups

    session = session_of(ctx)
    place = _directory(session, directory)
    for name in backups.prune(place, keep or session.settings().backup_keep, session.now()):
        print_line(f"deleted {name}")
    _note_unreadable(place)


def restore(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--backup", help="Name of the backup.")],
    directory: DirOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also when the database holds orders: they are gone then.")] = False,
    recovers: Annotated[bool, typer.Option("--recover", help="Then go on as `escrow recover` does.")] = False,
    ledger: recover.LedgerOption = None,
) -> None:
    """Bring a backup into the database of ESCROW_DATABASE_URL, and verify it. No worker may run meanwhile.

    Where there is a recorder, no process starts after it until `escrow recover` has come to its end.
    """
    from orchestrator.store import backups

    session = session_of(ctx)
    place = _directory(session, directory)
    manifest = backups.read(place, name)
    to_recover = _is_to_be_recovered(session.settings(), manifest)
    _restore(session, place, manifest, database_url(session), replace=replace, to_recover=to_recover)
    print_line(f"Restored {name}: {manifest.orders} orders, {manifest.entries} journal entries; all agree.")
    if recovers:
        recover.run(session, ledger or [], Format.TABLE)
        return
    print_line(f"What was committed after {manifest.taken_at} is not in it.")
    if to_recover:
        print_line(
            "`escrow recover` folds it in; no process starts before that. Without the recorder: ESCROW_RECORDER=false escrow recover."
        )
    else:
        print_line("There is no recorder to fold it in from: the processes may start. `escrow recover` tells what may be lost.")


def _is_to_be_recovered(settings: Settings, manifest: Manifest) -> bool:
    """Whether a recorder has what the backup lacks: by the settings, or by the backup where they do not name the broker."""
    return settings.recorder and (settings.amqp_url is not None or manifest.recorder_offset is not None)


def _restore(session: Session, place: Path, manifest: Manifest, url: str, *, replace: bool, to_recover: bool = False) -> None:
    """Restore, bring the schema up to this release, and verify. Ends the command with `FINDINGS` when something does not agree."""
    from orchestrator.store import backup, recovery, schema
    from orchestrator.store.engine import make_engine

    with _reachable(session, url):
        pass
    engine = make_engine(url, clock=session.now)
    try:
        backup.restore(engine, place, manifest, replace=replace)
        if to_recover:
            # First of all: a process that somebody starts again by itself would move the mark past what is missing.
            recovery.begin(engine)
        schema.upgrade(url)
        ends_alike = backup.heads(engine) == manifest.heads
    finally:
        engine.dispose()
    report = session.verify(session.settings().model_copy(update={"database_url": url}))
    if report.findings or (report.orders, report.entries, ends_alike) != (manifest.orders, manifest.entries, True):
        otherwise = "" if ends_alike else " Its journals end otherwise than those that were backed up."
        note(
            f"escrow: What was restored does not agree: {report.orders} of {manifest.orders} orders, {report.entries} of "
            f"{manifest.entries} entries, {report.found} findings.{otherwise} Fix: restore another backup."
        )
        raise typer.Exit(ExitCode.FINDINGS)


def _refuse_filled(session: Session, url: str) -> None:
    """What a scheduled verification restores into must not be the real database by mistake."""
    from orchestrator.store import backup

    with _reachable(session, url) as engine:
        if (changed := backup.last_change(engine)) is not None:
            raise Conflict(
                f"The database of --into holds orders, the last changed at {format_time(changed)}. Fix: name an empty one; "
                "of one that is for this alone, empty it each time: dropdb NAME; createdb NAME."
            )


@contextmanager
def _reachable(session: Session, url: str) -> Iterator[Engine]:
    """The database, which may be empty. Raises: SettingsError when the server has none of the name; StoreUnavailable."""
    from orchestrator.store.dialect import reading
    from orchestrator.store.engine import make_engine

    engine = make_engine(url, clock=session.now)
    try:
        with reading(engine):
            pass
        yield engine
    except StoreUnavailable as error:
        if missing := _NO_DATABASE.search(str(error)):
            name = missing[1]
            raise SettingsError(f"There is no database {name} on the server. Fix: make it: createdb --owner=USER {name}.") from error
        raise
    finally:
        engine.dispose()


@contextmanager
def _engine(session: Session) -> Iterator[Engine]:
    from orchestrator.store import schema
    from orchestrator.store.engine import make_engine

    engine = make_engine(database_url(session), clock=session.now)
    try:
        schema.check(engine)
        yield engine
    finally:
        engine.dispose()


def _directory(session: Session, given: Path | None) -> Path:
    directory = given or session.settings().backup_dir
    if directory is None:
        raise SettingsError("No directory of backups is named. Fix: set ESCROW_BACKUP_DIR, or name one with --dir.")
    return directory


def _note_unreadable(place: Path) -> None:
    from orchestrator.store import backups

    for complaint in backups.unreadable(place):
        note(f"escrow: A backup was left out. {complaint}")


def _show(manifest: Manifest, session: Session, output: Format) -> None:
    if output is Format.JSON:
        print_json(asdict(manifest))
        return
    print_fields({**asdict(manifest), "taken_at": when(manifest.taken_at, session.now())})
