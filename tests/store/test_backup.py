"""Backups and restoring them, on both databases: whole or not at all, true to one state, and refused where they would destroy."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from shutil import copytree

import pytest
import sqlalchemy as sa

from orchestrator.app.ports import Changes
from orchestrator.errors import NotFound, RequestError
from orchestrator.saga.order import Order
from orchestrator.store import backup, backups, schema
from orchestrator.store import verify as kept
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import journal, order_data, orders
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World, utc_now
from tests.support.services import fresh_postgres

Put = Callable[..., Order]


@pytest.fixture
def elsewhere(url: str, tmp_path: Path) -> Iterator[sa.Engine]:
    """Another, empty database of the same kind."""
    if url.startswith("sqlite"):
        made = make_engine(f"sqlite:///{tmp_path}/elsewhere.db", clock=utc_now)
        yield made
        made.dispose()
        return
    with fresh_postgres() as other:
        made = make_engine(other, clock=utc_now)
        yield made
        made.dispose()


def contents(engine: sa.Engine) -> list[list[tuple[object, ...]]]:
    """Every row of the tables that orders are in."""
    with engine.connect() as connection:
        return [
            sorted(tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key)))
            for table in (orders, order_data, journal)
        ]


def directories(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def test_what_is_restored_is_what_was_there(world: World, put: Put, engine: sa.Engine, elsewhere: sa.Engine, tmp_path: Path) -> None:
    """If it failed, a backup would lose orders or their history."""
    for number in range(3):
        put(world.order(f"o-{number}"))
    manifest = backup.create(engine, tmp_path / "backups", "one")
    assert (manifest.orders, manifest.kind) == (3, engine.dialect.name)
    put(world.order("later"))
    backup.restore(elsewhere, tmp_path / "backups", manifest, replace=False)
    schema.check(elsewhere)
    restored, there = contents(elsewhere), contents(engine)
    assert [len(rows) for rows in restored] == [3, 3, manifest.entries]
    for some, more in zip(restored, there, strict=True):
        assert set(some) < set(more)
    again = backup.create(elsewhere, tmp_path / "backups", "two")
    assert (again.heads, again.entries) == (manifest.heads, manifest.entries)
    assert len(list(kept.journals(elsewhere))) == 3


def test_a_database_with_orders_is_replaced_only_when_told(world: World, put: Put, engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, a slip of the pen would cost every order since the backup."""
    put(world.order("o-1"))
    manifest = backup.create(engine, tmp_path, "one")
    put(world.order("newer"))
    with engine.begin() as connection:
        connection.execute(sa.update(orders).where(orders.c.order_id == "newer").values(updated_at=utc_now() + timedelta(seconds=1)))
    with pytest.raises(RequestError, match=r"holds orders, .* It is newer than the backup\. Fix: "):
        backup.restore(engine, tmp_path, manifest, replace=False)
    assert len(contents(engine)[0]) == 2
    backup.restore(engine, tmp_path, manifest, replace=True)
    assert [row[0] for row in contents(engine)[0]] == ["o-1"]


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A migrated SQLite database."""
    file = tmp_path / "escrow.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


def test_a_restore_that_is_killed_leaves_the_old_file_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, the last orders of a SQLite database would be lost with its log before another one took its place."""
    engine = make_engine(f"sqlite:///{file}", clock=utc_now)
    manifest = backup.create(engine, file.parent / "backups", "empty")
    with closing(sqlite3.connect(file)) as other:
        other.execute("SELECT * FROM orders").fetchall()
        with SqlStore(engine, shard=1).transaction() as transaction:
            transaction.write(Changes(opened=[World(utc_now()).order("in-the-log")]))
        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            backup.restore(engine, file.parent / "backups", manifest, replace=True)
        monkeypatch.undo()
    assert [row[0] for row in contents(engine)[0]] == ["in-the-log"]
    backup.restore(engine, file.parent / "backups", manifest, replace=True)
    assert contents(engine)[0] == []
    engine.dispose()


def test_a_file_that_somebody_reads_is_not_replaced(file: Path) -> None:
    """If it failed, a program that has the old file open would go on with its orders, and nobody would know."""
    engine = make_engine(f"sqlite:///{file}", clock=utc_now)
    manifest = backup.create(engine, file.parent / "backups", "empty")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM orders").fetchall()
        with SqlStore(engine, shard=1).transaction() as transaction:
            transaction.write(Changes(opened=[World(utc_now()).order("o-1")]))
        with pytest.raises(RequestError, match=r"Somebody is reading .*escrow\.db"):
            backup.restore(engine, file.parent / "backups", manifest, replace=True)
    assert [row[0] for row in contents(engine)[0]] == ["o-1"]
    engine.dispose()


def test_nothing_is_restored_under_a_running_worker(engine: sa.Engine, store: SqlStore, tmp_path: Path) -> None:
    """If it failed, a worker would write the orders of one history into another."""
    manifest = backup.create(engine, tmp_path, "one")
    store.beat("worker-1", "worker", None)
    with pytest.raises(RequestError, match="Escrow runs on this database: worker-1"):
        backup.restore(engine, tmp_path, manifest, replace=True)


def test_a_damaged_backup_is_told_and_not_restored(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, somebody would find out when the database is gone."""
    manifest = backup.create(engine, tmp_path, "one")
    assert backups.damage(tmp_path, manifest) is None
    file = tmp_path / "one" / manifest.file
    whole = file.read_bytes()
    for wrong, what in ((whole[:-1], "bytes"), (whole[:-1] + bytes([whole[-1] ^ 1]), "altered"), (None, "missing")):
        file.unlink() if wrong is None else file.write_bytes(wrong)
        assert what in (backups.damage(tmp_path, manifest) or "")
        with pytest.raises(RequestError, match="is damaged"):
            backup.restore(engine, tmp_path, manifest, replace=True)


def test_a_name_stands_for_a_whole_backup_only(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, what a killed process left would be listed, or written over."""
    (tmp_path / ".two.partial").mkdir()
    (tmp_path / "two").mkdir()
    assert backups.read_all(tmp_path) == []
    with pytest.raises(NotFound):
        backups.read(tmp_path, "two")
    with pytest.raises(RequestError, match="already"):
        backup.create(engine, tmp_path, "two")
    backup.create(engine, tmp_path, "one")
    assert [manifest.name for manifest in backups.read_all(tmp_path)] == ["one"]
    assert not list(tmp_path.glob(".one*"))


@pytest.mark.parametrize("name", [".hidden", "a/b", "..", ""])
def test_a_name_that_could_not_be_listed_is_refused(engine: sa.Engine, tmp_path: Path, name: str) -> None:
    """If it failed, a backup would be written where nobody finds it."""
    with pytest.raises(RequestError, match="cannot be the name of a backup"):
        backup.create(engine, tmp_path, name)


def test_a_backup_is_its_owners_alone_to_read(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, every user of the machine could read what customers gave, and the hashes of the tokens."""
    backup.create(engine, tmp_path / "new" / "backups", "one")
    place = tmp_path / "new" / "backups" / "one"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place, *place.iterdir())}
    assert backups.MANIFEST in modes
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


def test_one_that_was_killed_before_it_got_its_name_is_none(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, a backup would be listed that cannot be restored."""
    backup.create(engine, tmp_path, "one")
    (tmp_path / "one").rename(tmp_path / ".one.partial")
    assert backups.read_all(tmp_path) == []
    with pytest.raises(NotFound):
        backups.read(tmp_path, ".one.partial")


def test_the_youngest_are_kept(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, the disk would fill, or the wrong backup would go."""
    for name in ("c", "a", "b"):
        backup.create(engine, tmp_path, name)
    assert backups.prune(tmp_path, 2, utc_now()) == ["c"]
    assert [manifest.name for manifest in backups.read_all(tmp_path)] == ["a", "b"]
    assert directories(tmp_path) == ["a", "b"]
    with pytest.raises(RequestError, match="At least one"):
        backups.prune(tmp_path, 0, utc_now())


def test_what_a_killed_one_left_is_deleted_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    """If it failed, the disk would fill, or one run would delete what another is writing."""
    partial = tmp_path / ".d.partial"
    partial.mkdir()
    (partial / "escrow.dump").write_bytes(b"half")
    backups.prune(tmp_path, 1, utc_now() + timedelta(hours=23))
    assert partial.exists()
    backups.prune(tmp_path, 1, utc_now() + timedelta(hours=25))
    assert not partial.exists()


def test_what_was_renamed_or_copied_goes_by_its_new_name_and_is_kept(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, a backup that somebody set aside would be deleted, or its original in its place, or nothing be pruned any more."""
    for name in ("a", "b", "c"):
        backup.create(engine, tmp_path, name)
    (tmp_path / "a").rename(tmp_path / "keep-me")
    copytree(tmp_path / "c", tmp_path / "c.copy")
    assert sorted(manifest.name for manifest in backups.read_all(tmp_path)) == ["b", "c", "c.copy", "keep-me"]
    assert backups.damage(tmp_path, backups.read(tmp_path, "keep-me")) is None
    assert backups.prune(tmp_path, 1, utc_now()) == ["b"]
    assert directories(tmp_path) == ["c", "c.copy", "keep-me"]


def test_one_that_cannot_be_read_is_named_and_does_not_stop_the_others(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, one damaged file would end every scheduled pruning, and the disk fill."""
    for name in ("a", "b", "later", "torn"):
        backup.create(engine, tmp_path, name)
    manifest = tmp_path / "later" / backups.MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    (tmp_path / "torn" / backups.MANIFEST).write_text("{")
    assert [manifest.name for manifest in backups.read_all(tmp_path)] == ["a", "b"]
    later, torn = backups.unreadable(tmp_path)
    assert ("later" in later, "torn" in torn) == (True, True)
    assert backups.prune(tmp_path, 1, utc_now()) == ["a"]
    assert directories(tmp_path) == ["b", "later", "torn"]


def test_what_the_disk_refuses_to_delete_is_told(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an operator would read a traceback, and a schedule end without an alert."""
    for name in ("a", "b"):
        backup.create(engine, tmp_path, name)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RequestError, match=r"cannot be pruned: .*Permission denied"):
        backups.prune(tmp_path, 1, utc_now())


def test_a_backup_of_another_kind_or_release_is_refused(engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, somebody would read a traceback at the worst of times."""
    manifest = backup.create(engine, tmp_path, "one")
    file = tmp_path / "one" / backups.MANIFEST
    text = file.read_text()
    file.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(RequestError, match="a later release"):
        backups.read(tmp_path, "one")
    file.write_text(text.replace('"orders"', '"ordres"'))
    with pytest.raises(RequestError, match="cannot be read as the manifest"):
        backups.read(tmp_path, "one")
    file.write_text(text.replace(f'"kind": "{manifest.kind}"', '"kind": "other"'))
    with pytest.raises(RequestError, match="is of other"):
        backup.restore(engine, tmp_path, backups.read(tmp_path, "one"), replace=True)
