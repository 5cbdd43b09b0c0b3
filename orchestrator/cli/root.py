"""How the command line is composed: the root, its options, and a module per noun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from orchestrator.cli import backup, db, definition, doctor, order, participant, quarantine, rebuild, recover, replay, token, verify
from orchestrator.cli.exits import Commands
from orchestrator.cli.output import print_line
from orchestrator.cli.session import session_of

_RUN = "Run Escrow"
_LOOK = "Look and act, over the API of ESCROW_URL with ESCROW_TOKEN"
_KEEP = "Keep it in order"

_HELP = "Keeps every order moving: one durable state machine per order, deadlines that always fire, undo that is never skipped."

_NOUNS = (
    ("order", order.app, _LOOK),
    ("participant", participant.app, _LOOK),
    ("quarantine", quarantine.app, _LOOK),
    ("definition", definition.app, _KEEP),
    ("db", db.app, _KEEP),
    ("backup", backup.app, _KEEP),
    ("token", token.app, _KEEP),
)
_VERBS: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("doctor", doctor.command, _KEEP),
    ("verify", verify.command, _KEEP),
    ("restore", backup.restore, _KEEP),
    ("recover", recover.command, _KEEP),
    ("rebuild", rebuild.command, _KEEP),
    ("replay", replay.command, _KEEP),
)


def compose(runs: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """The whole command line; `runs` are the commands that run processes, by name."""
    app = typer.Typer(
        name="escrow",
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help=_HELP,
    )
    app.callback()(_root)
    for name, command in runs.items():
        app.command(name, rich_help_panel=_RUN)(command)
    for name, noun, panel in _NOUNS:
        app.add_typer(noun, name=name, rich_help_panel=panel)
    for name, command, panel in _VERBS:
        app.command(name, rich_help_panel=panel)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"escrow {_installed_version()}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and end.")]


def _root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _version: VersionOption = False,
) -> None:
    session_of(ctx).debug = debug


def _installed_version() -> str:
    try:
        return version("escrow-orchestrator")
    except PackageNotFoundError:
        return "(not installed)"
