"""`escrow participant`: who is well, who is silent, and sending one again what it lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Client, participant_path
from orchestrator.cli.output import (
    Format,
    OutputOption,
    format_instant,
    parse_instant,
    print_fields,
    print_json,
    print_line,
    print_table,
    when,
)
from orchestrator.cli.session import session_of
from orchestrator.errors import RequestError

app = typer.Typer(no_args_is_help=True, help="Look at the participants, and send one again what it lost.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name that 'escrow participant list' shows.")]
Why = Annotated[str, typer.Option("--reason", help="Why: it is kept in the audit.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only what was last sent since then (RFC 3339, with a zone).")]


@app.command("list")
def list_participants(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """List everyone whom a registered definition asks, and how they are."""
    session = session_of(ctx)
    with Client(session) as client:
        page = client.get("/v1/participants")
    if output is Format.JSON:
        print_json(page)
        return
    now = session.now()
    rows = [
        (row["name"], row["state"], when(row["since"], now), when(row["heard_at"], now), row["held"], row["overdue"])
        for row in page["items"]
    ]
    print_table(("name", "state", "since", "heard", "held", "overdue"), rows, empty="No registered definition asks anybody.")


@app.command()
def show(ctx: typer.Context, name: Name, output: OutputOption = Format.TABLE) -> None:
    """Show one participant."""
    session = session_of(ctx)
    with Client(session) as client:
        row = client.get(participant_path(name))
    if output is Format.JSON:
        print_json(row)
        return
    now = session.now()
    times = {"since", "heard_at", "recovered_at"}
    print_fields({key.replace("_", " "): when(value, now) if key in times else value for key, value in row.items()})


@app.command()
def resync(ctx: typer.Context, name: Name, reason: Why, since: Since = None, output: OutputOption = Format.TABLE) -> None:
    """Send a participant again what is outstanding for it: the same commands, at the pace of a recovery. Repeating it does no harm."""
    if not reason.strip():
        raise RequestError("--reason must say why.")
    body: dict[str, Any] = {"reason": reason}
    if since is not None:
        instant = parse_instant(since)
        if instant is None:
            raise RequestError(f"--since {since!r} is no time such as 2026-11-21T12:00:00Z.")
        body["since"] = format_instant(instant)
    with Client(session_of(ctx)) as client:
        row: Mapping[str, Any] = client.post(participant_path(name, admin="resyncs"), body).body
    if output is Format.JSON:
        print_json(row)
    elif row.get("state") == "silent":
        print_line(f"{name} is silent: it is sent what is outstanding once it is back")
    else:
        print_line(f"{name} is sent again what is outstanding")
