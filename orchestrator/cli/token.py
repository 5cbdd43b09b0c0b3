"""`escrow token`: who may use the API. Works on the database, so that the first token can be made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.db import database_url
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table, when
from orchestrator.cli.session import Session, session_of
from orchestrator.contract import is_name
from orchestrator.errors import NotFound, RequestError

if TYPE_CHECKING:
    from orchestrator.store.tokens import Tokens

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens of the API.")


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    CLIENT = "client"
    OPERATOR = "operator"
    ADMIN = "admin"


Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: it stands in the history of what its owner does.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Option("--role", help="viewer looks, client places orders, operator acts on them, admin does all.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a token and print it: this once, for the database keeps only its hash."""
    if not is_name(name):
        raise RequestError(f"{name!r} is no name: a letter, then up to 63 letters, digits, _ or -.")
    session = session_of(ctx)
    token = session.new_token()
    with _tokens(session) as tokens:
        tokens.create(name, role.value, token)
    if output is Format.JSON:
        print_json({"name": name, "role": role.value, "token": token})
    else:
        note(f"Token of {name}, {role.value}. It is shown this once: put it in ESCROW_TOKEN.")
        print_line(token)


@app.command("list")
def list_tokens(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List the tokens, revoked ones too. Their text is not kept."""
    session = session_of(ctx)
    with _tokens(session) as tokens:
        rows = tokens.list()
    if output is Format.JSON:
        items = [{"name": row.name, "role": row.role, "created_at": row.created_at, "revoked_at": row.revoked_at} for row in rows]
        print_json({"items": items})
        return
    now = session.now()
    cells = [(row.name, row.role, when(row.created_at, now), when(row.revoked_at, now)) for row in rows]
    print_table(("name", "role", "created", "revoked"), cells, empty="There are no tokens: 'escrow token create' makes one.")


@app.command()
def revoke(ctx: typer.Context, name: Name, output: OutputOption = Format.TABLE) -> None:
    """End a token at once."""
    with _tokens(session_of(ctx)) as tokens:
        if not tokens.revoke(name):
            raise NotFound(f"There is no token named {name!r} that could still be used.")
    if output is Format.JSON:
        print_json({"name": name, "revoked": True})
    else:
        print_line(f"{name} revoked")


@contextmanager
def _tokens(session: Session) -> Iterator[Tokens]:
    from orchestrator.store import schema
    from orchestrator.store.engine import make_engine
    from orchestrator.store.tokens import Tokens

    engine = make_engine(database_url(session), clock=session.now)
    try:
        schema.check(engine)
        yield Tokens(engine)
    finally:
        engine.dispose()
