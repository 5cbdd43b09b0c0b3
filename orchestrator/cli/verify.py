"""`escrow verify`: every journal folded and compared with what the database says (R25, R26, R27, counters)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.bar import progress_bar
from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table
from orchestrator.cli.session import session_of

if TYPE_CHECKING:
    from orchestrator.app.restore import Report

#: Orders that a person rebuilds one by one.
_ONE_BY_ONE_MAX = 10

Parallel = Annotated[int | None, typer.Option("--parallel", min=1, max=64, metavar="N", help="Processes; default: one a core.")]


def command(
    ctx: typer.Context,
    deep: Annotated[bool, typer.Option("--deep", help="Decide every recorded input again, too: the same entry must come of it.")] = False,
    parallel: Parallel = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Fold every order's journal and compare with what is stored, while orders move. Changes nothing.

    Ends with 1 when something does not agree, naming orders and what mends them.
    """
    session = session_of(ctx)
    database_url(session)  # says what to set, when it is not
    with progress_bar("Verifying") as progress:
        report = session.verify(session.settings(), deep=deep, processes=parallel, progress=progress)
    if output is Format.JSON:
        print_json(asdict(report))
    else:
        _tell(report)
    if report.found:
        more = f" The first {len(report.findings)} are shown." if report.more else ""
        note(f"escrow: Findings: {report.found}.{more}")
        raise typer.Exit(ExitCode.FINDINGS)


def _tell(report: Report) -> None:
    from orchestrator.app import restore

    if report.findings:
        rows = [(finding.order_id, finding.what, finding.mend) for finding in report.findings]
        print_table(("order", "what", "mend"), rows, empty="")
    again = f", decided again: {report.decided}" if report.decided else ""
    print_line(f"Orders: {report.orders}, journal entries: {report.entries}{again}.{'' if report.found else ' All agree.'}")
    if report.other_form:
        some = ", ".join(report.other_form_orders[:3])
        print_line(
            f"{report.other_form} entries were written in another form than this release writes ({some}); "
            "those that it can read say the same."
        )
    if report.moving:
        print_line(f"{report.moving} orders were opened or moved meanwhile; each was compared as it stood at one moment.")
    to_rebuild = {finding.order_id for finding in report.findings if finding.order_id and finding.mend.startswith(restore.REBUILD_ORDER)}
    if len(to_rebuild) > _ONE_BY_ONE_MAX:
        print_line("So many orders are mended at once: stop every `serve` and `worker`, then `escrow rebuild`.")
