"""`escrow db`: the schema of the database."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, print_json, print_line, print_text
from orchestrator.cli.session import Session, session_of

app = typer.Typer(no_args_is_help=True, help="Migrate the database, or look whether it is migrated.")


@app.command()
def upgrade(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Bring the database to this release's schema. Repeating it changes nothing."""
    from orchestrator.store import schema

    schema.upgrade(database_url(session_of(ctx)))
    _say(output, "The database is migrated.")


@app.command()
def check(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Look whether the database has this release's schema. Ends with 2 when it has not, saying what to do."""
    from orchestrator.store import schema
    from orchestrator.store.engine import make_engine

    session = session_of(ctx)
    engine = make_engine(database_url(session), clock=session.now)
    try:
        schema.check(engine)
    finally:
        engine.dispose()
    _say(output, "The database has the schema of this release.")


@app.command()
def sql(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="A database URL, only its kind counts; default: ESCROW_DATABASE_URL.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print the SQL of the migrations, for somebody else to run. Connects to nothing."""
    from orchestrator.store import schema

    text = schema.sql(url or database_url(session_of(ctx)))
    if output is Format.JSON:
        print_json({"sql": text})
    else:
        print_text(text)


def database_url(session: Session) -> str:
    """The URL of the database. Raises: SettingsError when none is set."""
    settings = session.settings()
    settings.require("database_url")
    assert settings.database_url is not None
    return settings.database_url


def _say(output: Format, text: str) -> None:
    if output is Format.JSON:
        print_json({"ok": True, "detail": text})
    else:
        print_line(text)
