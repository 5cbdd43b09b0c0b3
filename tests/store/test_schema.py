"""Migrations and engines, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from alembic import command
from orchestrator.app.ports import Changes
from orchestrator.errors import SettingsError, StoreUnavailable
from orchestrator.store import orders, schema, verify
from orchestrator.store.dialect import writing
from orchestrator.store.engine import make_engine
from orchestrator.store.queries import Queries
from orchestrator.store.tables import metadata
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World, utc_now
from tests.support.services import fresh_postgres


def test_the_migrations_make_the_tables_that_the_code_uses(engine: sa.Engine) -> None:
    """If this failed, the code would meet a table or column that is not there."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_is_accepted_and_migrating_again_changes_nothing(engine: sa.Engine, url: str) -> None:
    """If this failed, every start would need care about the one before."""
    schema.upgrade(url)
    schema.check(engine)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/escrow.db"
        return
    with fresh_postgres() as url:
        yield url


def test_the_counters_by_version_are_counted_from_the_orders(empty_url: str) -> None:
    """If this failed, an upgrade would lose what every list of versions says, or the rights that were given on the table."""
    engine = make_engine(empty_url, clock=utc_now)
    run(engine, command.upgrade, "0001")
    world = World(utc_now())
    made = [replace(world.order(f"o{number}"), version=1 + number % 2) for number in range(5)]
    made.append(replace(world.order("done", state="completed"), direction="ended"))
    kept = [("order", "reserving", "running", 3, 7), ("order", "reserving", "running", 4, -2), ("order", "completed", "completed", 4, 1)]
    insert = "INSERT INTO counters (definition, state, status, shard, n) VALUES "
    with engine.begin() as connection:
        orders.insert(connection, made)
        connection.exec_driver_sql(insert + ", ".join(map(str, kept)))
    table = identity(engine)
    schema.upgrade(empty_url)
    by_version = {("order@1", "reserving", "running"): 3, ("order@2", "reserving", "running"): 2, ("order@1", "completed", "completed"): 1}
    assert verify.counter_sums(engine) == (by_version, by_version)
    assert identity(engine) == table
    with SqlStore(engine, shard=7).transaction() as transaction:
        transaction.write(Changes(opened=[world.order("new")]))
    run(engine, command.downgrade, "0001")
    with engine.connect() as connection:
        assert sorted(connection.exec_driver_sql("SELECT state, status, n FROM counters").all()) == [
            ("completed", "completed", 1),
            ("reserving", "running", 6),
        ]
        connection.rollback()
    schema.upgrade(empty_url)
    schema.check(engine)
    engine.dispose()


def run(engine: sa.Engine, migrate: Callable[[Config, str], None], revision: str) -> None:
    """Bring a database to a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "alembic"))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        migrate(config, revision)


def identity(engine: sa.Engine) -> object:
    """What tells the table of the counters from one made anew, where rights can be given on it."""
    if engine.dialect.name == "sqlite":
        return None
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT 'counters'::regclass::oid").scalar_one()


def test_a_newer_database_is_refused(engine: sa.Engine, url: str) -> None:
    """If this failed, an old release would write into tables that it does not understand."""
    with engine.begin() as connection:
        revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'zz99'"))
    try:
        with pytest.raises(SettingsError, match=r"newer \(revision zz99\).*install"):
            schema.check(engine)
        with pytest.raises(SettingsError, match="newer"):
            schema.upgrade(url)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


@pytest.mark.real
def test_what_the_migrations_made_is_dropped_and_nothing_else() -> None:
    """If this failed, an older backup could not replace what a later migration made, or would take with it what is not ours."""
    with fresh_postgres() as url:
        schema.upgrade(url)
        engine = make_engine(url, clock=None)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE theirs ()")
            connection.exec_driver_sql(schema.drop_sql(engine.dialect, "public"))
            left = connection.exec_driver_sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace").scalars().all()
            functions = connection.exec_driver_sql("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace").scalar()
        assert (left, functions) == (["theirs"], 0)
        engine.dispose()


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    """If this failed, the first order would fail with an error of the database."""
    engine = make_engine(f"sqlite:///{tmp_path}/empty.db", clock=utc_now)
    with pytest.raises(SettingsError, match="run `escrow db upgrade`"):
        schema.check(engine)
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite:///escrow.db", "postgresql+psycopg://host/escrow"])
def test_the_sql_can_be_read_without_a_database(url: str) -> None:
    """If this failed, nobody could review a migration before it runs."""
    assert "CREATE TABLE journal" in schema.sql(url)


@pytest.mark.parametrize("url", ["postgresql://h/d", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", "sqlite://host/x"])
def test_other_databases_are_refused_with_the_fix(url: str) -> None:
    """If this failed, a typing error in a URL would show as a traceback of a driver."""
    with pytest.raises(SettingsError, match=r"Use postgresql\+psycopg://"):
        make_engine(url, clock=utc_now)


def test_a_database_that_does_not_answer_is_the_worlds_fault() -> None:
    """If this failed, a restart of the database would stop Escrow instead of making it wait."""
    engine = make_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", clock=None)
    with pytest.raises(StoreUnavailable):
        Queries(engine).now()
    engine.dispose()
