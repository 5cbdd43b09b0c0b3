"""What a restore puts in place of what is there, on PostgreSQL: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config

from alembic import command
from orchestrator.app.ports import Changes
from orchestrator.errors import RequestError, SettingsError
from orchestrator.store import backup, dumps, schema
from orchestrator.store.dialect import writing
from orchestrator.store.engine import make_engine
from orchestrator.store.own_schema import own_schema
from orchestrator.store.tables import orders
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World, utc_now
from tests.support.services import fresh_postgres

pytestmark = pytest.mark.real


@pytest.fixture
def empty() -> Iterator[sa.Engine]:
    """A database of its own, without any table."""
    with fresh_postgres() as url:
        engine = make_engine(url, clock=utc_now)
        yield engine
        engine.dispose()


@pytest.fixture
def full(empty: sa.Engine) -> sa.Engine:
    """The same, migrated, with one order."""
    schema.upgrade(url_of(empty))
    put(empty, "o-1")
    return empty


def url_of(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def put(engine: sa.Engine, order_id: str) -> None:
    with SqlStore(engine, shard=1).transaction() as transaction:
        transaction.write(Changes(opened=[World(utc_now()).order(order_id)]))


def order_ids(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(orders.c.order_id).order_by(orders.c.order_id)))


@pytest.mark.parametrize("revision", ["0001", "0003", "0005"])
def test_a_backup_of_an_older_release_replaces_a_newer_schema(empty: sa.Engine, tmp_path: Path, revision: str) -> None:
    """If it failed, restoring the backup from before an upgrade would destroy the database and put nothing in its place."""
    with writing(empty) as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parents[2] / "alembic"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    manifest = backup.create(empty, tmp_path, "old")
    schema.upgrade(url_of(empty))
    put(empty, "newer")
    backup.restore(empty, tmp_path, manifest, replace=True)
    schema.upgrade(url_of(empty))
    schema.check(empty)
    assert order_ids(empty) == []


def test_a_dump_that_ends_early_changes_nothing(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, half of the orders would be committed in place of all of them."""
    manifest = backup.create(full, tmp_path, "one")
    put(full, "newer")
    file = tmp_path / "one" / manifest.file
    part = file.read_bytes()[: manifest.bytes * 3 // 4]
    file.write_bytes(part)
    cut = replace(manifest, bytes=len(part), sha256=sha256(part).hexdigest())
    with pytest.raises(RequestError, match="pg_restore failed: "):
        backup.restore(full, tmp_path, cut, replace=True)
    assert order_ids(full) == ["newer", "o-1"]


def test_what_others_built_on_our_tables_is_not_dropped(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, a restore would silently take somebody's view away, or leave the database half restored."""
    manifest = backup.create(full, tmp_path, "one")
    put(full, "newer")
    with full.begin() as connection:
        connection.exec_driver_sql("CREATE VIEW theirs AS SELECT order_id FROM orders")
    with pytest.raises(RequestError, match=r"psql failed: .*cannot drop"):
        backup.restore(full, tmp_path, manifest, replace=True)
    assert order_ids(full) == ["newer", "o-1"]


def test_a_backup_of_another_schema_is_refused_with_the_search_path(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, nothing would be restored, and a good backup be called a bad one."""
    manifest = backup.create(full, tmp_path, "one")
    with own_schema(url_of(full), "elsewhere") as url:
        other = make_engine(url, clock=utc_now)
        with pytest.raises(
            RequestError, match=r"of the schema public, and current_schema\(\) of the database is elsewhere.*Fix: .*search_path"
        ):
            backup.restore(other, tmp_path, manifest, replace=True)
        other.dispose()


def test_a_schema_of_ones_own_is_restored_into_its_like(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, who keeps Escrow in a schema beside other tables would have backups that cannot be restored."""
    with own_schema(url_of(full), "own") as url:
        schema.upgrade(url)
        own = make_engine(url, clock=utc_now)
        put(own, "o-2")
        manifest = backup.create(own, tmp_path, "one")
        put(own, "newer")
        backup.restore(own, tmp_path, manifest, replace=True)
        assert order_ids(own) == ["o-2"]
        own.dispose()
    assert order_ids(full) == ["o-1"]


def test_of_several_servers_the_one_that_takes_writes_is_dumped_and_restored(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, an installation with a standby would have no backups."""
    host = f"{full.url.host}:{full.url.port}"
    of_two = full.url.set(host=None, port=None, query={"host": (host, host)}).render_as_string(hide_password=False)
    engine = make_engine(of_two, clock=utc_now)
    backup.restore(engine, tmp_path, backup.create(engine, tmp_path, "one"), replace=True)
    assert order_ids(engine) == ["o-1"]
    engine.dispose()


def test_what_a_later_release_made_is_not_replaced(full: sa.Engine, tmp_path: Path) -> None:
    """If it failed, tables that nobody here knows would stay, and the next upgrade would meet them."""
    manifest = backup.create(full, tmp_path, "one")
    with full.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'zz99'")
    with pytest.raises(SettingsError, match="newer"):
        backup.restore(full, tmp_path, manifest, replace=True)
    with pytest.raises(RequestError, match="a later release"):
        backup.restore(full, tmp_path, replace(manifest, schema_revision="zz99"), replace=True)
    assert order_ids(full) == ["o-1"]


def test_a_missing_program_is_named_with_its_package(full: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an operator would read a traceback of Python's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"pg_restore is not installed\. Fix: .*postgresql-client"):
        dumps.restore(full, tmp_path / "none")
