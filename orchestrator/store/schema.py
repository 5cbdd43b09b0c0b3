"""The schema: migrate it, and refuse to run on one that does not fit."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import orchestrator
from alembic import command
from orchestrator.errors import InvariantViolated, SettingsError, StoreForbidden
from orchestrator.store.dialect import RIGHTS_FIX, of, reading, writing
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import metadata

#: Held while migrating, so that two upgrades do not meet. Any fixed number.
_UPGRADE_LOCK = 6_715_201
#: Views of PostgreSQL that the migrations make.
VIEWS = ("orders_readable", "journal_readable")
#: Where Alembic keeps the revision.
_VERSION_TABLE = "alembic_version"
#: Missing rights named in an error.
_NAMED_MAX = 8


def upgrade(url: str) -> None:
    """Bring a database to this code's revision, all or nothing. Idempotent.

    Raises: SettingsError when the database is newer; StoreForbidden, StoreUnavailable.
    """
    engine = make_engine(url, clock=_no_clock)
    try:
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            if not _is_behind(connection):
                return
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def check(engine: sa.Engine) -> None:
    """Whether the database is at this code's revision. Raises: SettingsError, saying what to do; StoreUnavailable."""
    with reading(engine) as connection:
        if _is_behind(connection):
            raise SettingsError("The database is not migrated: run `escrow db upgrade`.")


def refuse_newer(engine: sa.Engine) -> None:
    """See that a later release did not migrate the database. Raises: SettingsError, saying what to do; StoreUnavailable."""
    with reading(engine) as connection:
        _is_behind(connection)


def knows(revision: str) -> bool:
    """Whether this code can bring a database of this revision up to its own."""
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError:
        return False
    return True


def drop_sql(dialect: sa.Dialect, name: str) -> str:
    """The SQL that empties a PostgreSQL schema of what any revision up to this code's has put there, and of nothing else."""
    preparer = dialect.identifier_preparer
    within = f"{preparer.quote_identifier(name)}."
    views = ", ".join(within + view for view in VIEWS)
    tables = ", ".join(within + preparer.quote(table) for table in (*metadata.tables, _VERSION_TABLE))
    return f"DROP VIEW IF EXISTS {views};\nDROP TABLE IF EXISTS {tables};\n"


def check_rights(engine: sa.Engine) -> None:
    """Whether the user of a migrated database may read and write rows. Raises: StoreForbidden, naming what it may not; StoreUnavailable."""
    with reading(engine) as connection:
        missing = of(connection).missing_rights(connection, metadata.tables.values())
    if missing:
        more = f" and {len(missing) - _NAMED_MAX} more" if len(missing) > _NAMED_MAX else ""
        raise StoreForbidden(f"The database's user lacks rights: {', '.join(missing[:_NAMED_MAX])}{more}. {RIGHTS_FIX}")


def sql(url: str) -> str:
    """The SQL that brings an empty database of this kind to this code's revision; connects to nothing."""
    text = io.StringIO()
    config = _config()
    config.output_buffer = text
    config.attributes["url"] = url
    command.upgrade(config, "head", sql=True)
    return text.getvalue()


def _is_behind(connection: sa.Connection) -> bool:
    """Whether revisions are missing. Raises: SettingsError when the database has one that this code does not know."""
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return True
    if not knows(current):
        raise SettingsError(
            f"The database is newer (revision {current}) than this code knows: install the release of Escrow that migrated it."
        )
    return current != ScriptDirectory.from_config(_config()).get_current_head()


def _no_clock() -> datetime:
    raise InvariantViolated("A migration asked for the time.")


def _config() -> Config:
    config = Config()
    # Percent signs are the configuration's own.
    config.set_main_option("script_location", str(_directory()).replace("%", "%%"))
    return config


def _directory() -> Path:
    """`alembic/` beside the package in a checkout; inside the package when installed from a wheel."""
    package = Path(orchestrator.__file__).resolve().parent
    for directory in (package.parent / "alembic", package / "_alembic"):
        if (directory / "env.py").is_file():
            return directory
    raise InvariantViolated("The migrations are missing from this installation of Escrow.")
