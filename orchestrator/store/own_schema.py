"""A PostgreSQL schema of one's own in a shared database: what runs in it sees no other orders, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from orchestrator.store.dialect import writing
from orchestrator.store.engine import make_engine


@contextmanager
def own_schema(url: str, name: str) -> Iterator[str]:
    """Make the schema `name` and give the URL that works in it; drop it with everything in it at the end.

    `url`: `postgresql+psycopg://…`, of a user who may create schemas. Raises: SettingsError, StoreUnavailable, as every statement does.
    """
    engine = make_engine(url, clock=None)
    try:
        with writing(engine) as connection:
            connection.execute(sa.schema.CreateSchema(name))
        try:
            yield _inside(url, name)
        finally:
            with writing(engine) as connection:
                connection.execute(sa.schema.DropSchema(name, cascade=True))
    finally:
        engine.dispose()


def _inside(url: str, name: str) -> str:
    parsed = sa.make_url(url)
    given = parsed.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} -c search_path={name}".strip()
    return parsed.update_query_dict({"options": options}).render_as_string(hide_password=False)
