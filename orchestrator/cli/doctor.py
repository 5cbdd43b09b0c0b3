"""`escrow doctor`: is everything there that Escrow needs, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_table
from orchestrator.cli.session import Session, session_of
from orchestrator.contract import Topology
from orchestrator.errors import EscrowError, SettingsError, StoreForbidden

if TYPE_CHECKING:
    from orchestrator.bus.doctor import Check
    from orchestrator.config import Settings


def command(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Examine the settings, the database and the broker. Changes nothing; ends with 1 when something is to be fixed."""
    session = session_of(ctx)
    settings = session.settings()
    checks = [*_database(session, settings), *_broker(session, settings)]
    if output is Format.JSON:
        print_json([asdict(check) for check in checks])
    else:
        rows = [("ok" if check.ok else "FIX", check.name, check.detail, check.fix) for check in checks]
        print_table(("", "what", "found", "fix"), rows, empty="")
    wrong = sum(not check.ok for check in checks)
    if wrong:
        note(f"escrow: {wrong} of {len(checks)} checks failed.")
        raise typer.Exit(ExitCode.FINDINGS)


def _database(session: Session, settings: Settings) -> list[Check]:
    """Whether the database answers, is migrated, and lets its user read and write."""
    from orchestrator.bus.doctor import Check
    from orchestrator.config import masked
    from orchestrator.store import schema
    from orchestrator.store.engine import make_engine

    url = settings.database_url
    if url is None:
        return [Check("database", False, "ESCROW_DATABASE_URL is not set", "set it; `escrow up` and `escrow demo` need none.")]
    try:
        engine = make_engine(url, clock=session.now)
        try:
            schema.check(engine)
            schema.check_rights(engine)
        finally:
            engine.dispose()
    except SettingsError as error:
        problem, _, fix = str(error).partition(": ")
        return [Check("database", False, problem, fix or "correct ESCROW_DATABASE_URL.")]
    except StoreForbidden as error:
        problem, _, fix = str(error).partition(" Fix: ")
        return [Check("database", False, problem, fix)]
    except EscrowError as error:
        fix = "see that it runs, and that ESCROW_DATABASE_URL is right."
        return [Check("database", False, " ".join(str(error).split()), fix)]
    return [Check("database", True, f"{masked(url)}, migrated")]


def _broker(session: Session, settings: Settings) -> list[Check]:
    """Whether the broker answers, lets us in, and has the topology."""
    from orchestrator import wiring
    from orchestrator.bus.doctor import Check, examine

    if settings.amqp_url is None:
        return [Check("broker", False, "ESCROW_AMQP_URL is not set", "set it; `escrow up` and `escrow demo` need none.")]
    try:
        participants = session.participants(settings)
    except EscrowError as error:
        return [Check("definitions", False, str(error), "correct the files of ESCROW_DEFINITIONS.")]
    return examine(settings.amqp_url, Topology(settings.namespace), participants, wiring.retention(settings))
