"""`escrow replay`: tell a participant that lost its state what it was sent, and what it heard (R29)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.bar import progress_bar
from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, parse_instant, print_json, print_line, print_table
from orchestrator.cli.recover import offset_of
from orchestrator.cli.session import session_of
from orchestrator.contract import is_name
from orchestrator.errors import RequestError

if TYPE_CHECKING:
    from orchestrator.bus.recorder import Start
    from orchestrator.replaying import Replayed


def command(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="The participant, which was started with --new and waits.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="first|TIME|OFFSET",
            help="From where: a time (RFC 3339, with a zone), or of events an offset of the recorder.",
        ),
    ],
    event: Annotated[
        list[str] | None, typer.Option("--event", metavar="TYPE", help="An event of others to replay, repeated; default: what it hears.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replay to a participant that waits for it: the events of others that it hears, as far as the recorder has them; then every command
    and undo that it was sent, each with the answer that is recorded, and what it told by itself, from the journals; then it goes live.

    While everything runs; it can be stopped, and run again. Ends with 1 when something is known to be missing.
    """
    from orchestrator import replaying

    session = session_of(ctx)
    database_url(session)
    begin = _start(start)
    for name in event or ():
        if not is_name(name):
            raise RequestError(f"--event {name!r} is no event type.")
    with progress_bar("Replaying") as progress:
        replayed = replaying.run(session.settings(), to, begin, event or (), progress)
    if output is Format.JSON:
        print_json(replayed.document())
    else:
        _tell(replayed)
    if not replayed.is_whole:
        raise typer.Exit(ExitCode.FINDINGS)


def _start(text: str) -> Start:
    if text == "first":
        return "first"
    if (offset := offset_of(text)) is not None:
        return offset
    instant = parse_instant(text)
    if instant is None:
        raise RequestError(f"--from {text!r} is neither 'first', nor a time such as 2026-11-21T12:00:00Z, nor an offset of the recorder.")
    return instant


def _tell(replayed: Replayed) -> None:
    told = replayed.told
    heard = f"; of the recorder {replayed.recorded} messages were read" if replayed.recorded else ""
    print_line(f"Events of others ({', '.join(replayed.hears) or 'it hears none'}): {replayed.events}{heard}.")
    print_line(f"Commands: {told.commands}; undos: {told.undos}; of both without an answer, and asked again: {told.unanswered}.")
    print_line(f"What it told by itself: {told.facts}. Orders gone through: {told.orders}.")
    if told.damaged:
        print_table(("order", "left out, as its journal is damaged"), told.damaged, empty="")
        if told.more:
            print_line(f"and {told.more} more.")
    if told.causes_unknown:
        note(f"escrow: {told.causes_unknown} times it acted on an event that is in no journal: these are not replayed.")
    if replayed.gap:
        note(f"escrow: {replayed.gap}")
    print_line(f"{replayed.participant} goes live when it has taken all of it; its /healthz tells.")
