"""`escrow verify`: every journal folded and compared with what the database says (R25, R26, R27, counters)."""

from __future__ import annotations

from dataclasses import asdict

import typer

from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_table
from orchestrator.cli.session import session_of


def command(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Fold every order's journal and compare. Changes nothing; ends with 1 when something does not agree."""
    session = session_of(ctx)
    database_url(session)  # says what to set, when it is not
    report = session.verify(session.settings())
    if output is Format.JSON:
        print_json(asdict(report))
    else:
        rows = [(finding.order_id, finding.what, finding.mend) for finding in report.findings]
        print_table(("order", "what", "mend"), rows, empty=f"Orders: {report.orders}, journal entries: {report.entries}. All agree.")
    if report.findings:
        note(f"escrow: Findings: {len(report.findings)}. Orders: {report.orders}, journal entries: {report.entries}.")
        raise typer.Exit(ExitCode.FINDINGS)
