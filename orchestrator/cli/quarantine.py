"""`escrow quarantine`: messages that could not be understood or applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Client, quarantine_path
from orchestrator.cli.order import Cursor, Everything, Limit, note_more
from orchestrator.cli.output import Format, OutputOption, print_fields, print_json, print_line, print_table, when
from orchestrator.cli.session import session_of
from orchestrator.errors import RequestError

app = typer.Typer(no_args_is_help=True, help="Look at quarantined messages, replay or discard them.")

QuarantineId = Annotated[str, typer.Argument(metavar="QUARANTINE_ID", help="The id that 'escrow quarantine list' shows.")]
Why = Annotated[str, typer.Option("--reason", help="Why: it is kept with the message.")]


@app.command("list")
def list_quarantine(
    ctx: typer.Context,
    reason: Annotated[str | None, typer.Option("--reason", help="Only messages quarantined for this reason.")] = None,
    message_type: Annotated[str | None, typer.Option("--type", help="Only messages of this type.")] = None,
    order: Annotated[str | None, typer.Option("--order", help="Only messages for this order.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
    everything: Everything = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List quarantined messages, the newest first. Equal ones are one row with a count."""
    session = session_of(ctx)
    filters = {"reason": reason, "type": message_type, "order": order}
    with Client(session) as client:
        page = client.pages("/v1/quarantine", everything=everything, cursor=cursor, limit=limit, **filters)
    if output is Format.JSON:
        print_json(page)
        return
    now = session.now()
    rows = [
        (
            row.get("quarantine_id"),
            row.get("reason"),
            row.get("message_type", row.get("type")),
            row.get("source"),
            row.get("order_id"),
            row.get("count"),
            when(row.get("last_at"), now),
            row.get("resolution"),
        )
        for row in page["items"]
    ]
    print_table(("id", "reason", "type", "source", "order", "count", "last", "resolution"), rows, empty="Nothing is quarantined.")
    note_more(page)


@app.command()
def show(ctx: typer.Context, quarantine_id: QuarantineId, output: OutputOption = Format.TABLE) -> None:
    """Show one quarantined message with its reason and body."""
    session = session_of(ctx)
    with Client(session) as client:
        row = client.get(quarantine_path(quarantine_id))
    if output is Format.JSON:
        print_json(row)
        return
    now = session.now()
    print_fields({name.replace("_", " "): when(value, now) if name.endswith("_at") else value for name, value in row.items()})


@app.command()
def replay(ctx: typer.Context, quarantine_id: QuarantineId, reason: Why, output: OutputOption = Format.TABLE) -> None:
    """Handle a message again, under its original id: it cannot be applied twice."""
    result = _resolve(ctx, quarantine_id, "replays", reason)
    if output is Format.JSON:
        print_json(result)
    else:
        why = f" ({result['reason']})" if result.get("reason") else ""
        print_line(f"{quarantine_id} replayed: {result.get('verdict')}{why}")


@app.command()
def discard(ctx: typer.Context, quarantine_id: QuarantineId, reason: Why, output: OutputOption = Format.TABLE) -> None:
    """Mark a message as not to be replayed. It is kept."""
    result = _resolve(ctx, quarantine_id, "discards", reason)
    if output is Format.JSON:
        print_json(result)
    else:
        print_line(f"{quarantine_id} discarded")


def _resolve(ctx: typer.Context, quarantine_id: str, resource: str, reason: str) -> Mapping[str, Any]:
    if not reason.strip():
        raise RequestError("--reason must say why.")
    with Client(session_of(ctx)) as client:
        answer = client.post(quarantine_path(quarantine_id, admin=resource), {"reason": reason})
    # An answer without a body is told as a document all the same: `-o json` always prints one.
    return {"quarantine_id": quarantine_id, **answer.body}
