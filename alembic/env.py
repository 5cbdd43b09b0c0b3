"""How alembic reaches the database: on the connection that `store.schema` hands over, offline, or by `-x url=…` for developers."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from alembic import context
from orchestrator.store.dialect import writing
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import metadata


def migrate(connection: Connection) -> None:
    """Run the revisions in the transaction of the connection: whoever opened it commits."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
    context.run_migrations()


def write_sql(url: str) -> None:
    """Write the revisions as SQL."""
    context.configure(url=url, target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


given_connection = context.config.attributes.get("connection")
given_url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")

if given_connection is not None:
    migrate(given_connection)
elif given_url is None:
    raise SystemExit("Say which database: alembic -x url=postgresql+psycopg://… COMMAND")
elif context.is_offline_mode():
    write_sql(given_url)
else:
    engine = make_engine(given_url, clock=lambda: datetime.now(UTC))  # noqa: TID251  # run by developers, outside the composition root
    with writing(engine) as opened:
        migrate(opened)
