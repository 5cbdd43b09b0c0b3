"""Migrations and engines, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from orchestrator.errors import SettingsError, StoreUnavailable
from orchestrator.store import schema
from orchestrator.store.engine import make_engine
from orchestrator.store.queries import Queries
from orchestrator.store.tables import metadata
from tests.store.conftest import utc_now


def test_the_migrations_make_the_tables_that_the_code_uses(engine: sa.Engine) -> None:
    """If this failed, the code would meet a table or column that is not there."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_is_accepted_and_migrating_again_changes_nothing(engine: sa.Engine, url: str) -> None:
    """If this failed, every start would need care about the one before."""
    schema.upgrade(url)
    schema.check(engine)


def test_a_newer_database_is_refused(engine: sa.Engine, url: str) -> None:
    """If this failed, an old release would write into tables that it does not understand."""
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'zz99'"))
    try:
        with pytest.raises(SettingsError, match=r"newer \(revision zz99\).*install"):
            schema.check(engine)
        with pytest.raises(SettingsError, match="newer"):
            schema.upgrade(url)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))


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
