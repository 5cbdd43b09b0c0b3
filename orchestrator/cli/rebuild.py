"""`escrow rebuild`: rows of orders, ledgers, deadlines, snapshots and counters, made anew from the journal alone (R25)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.bar import progress_bar
from orchestrator.cli.client import order_path
from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table
from orchestrator.cli.session import session_of
from orchestrator.cli.verify import Parallel
from orchestrator.errors import NotFound

#: Orders named in the summary.
_NAMED_MAX = 10


def command(
    ctx: typer.Context,
    order_id: Annotated[str | None, typer.Option("--order", metavar="ORDER_ID", help="This one alone, while everything runs.")] = None,
    parallel: Parallel = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Make what differs from the journal what the journal says; what agrees is not touched.

    With --order one order, under its lock, while everything runs. Without it all of them, while nothing runs: it refuses while processes
    do. It can be stopped at any time and is then run again; until it has come to its end, no process starts.

    The outbox is not rebuilt: what an order still waits for is sent again by its deadline. An order whose journal is damaged is left as it
    is, and named; then the exit status is 1.
    """
    session = session_of(ctx)
    database_url(session)  # says what to set, when it is not
    if order_id is not None:
        order_path(order_id)  # refuses what is no order id
    with progress_bar("Rebuilding") as progress:
        result = session.rebuild(session.settings(), order_id=order_id, processes=parallel, progress=progress)
    if order_id is not None and not (result.orders or result.findings):
        raise NotFound(f"No table knows the order {order_id}. Fix: `escrow verify` names the orders that something is wrong with.")
    if output is Format.JSON:
        print_json(asdict(result))
    else:
        if result.findings:
            rows = [(finding.order_id, finding.what, finding.mend) for finding in result.findings]
            print_table(("order", "what", "mend"), rows, empty="")
        print_line(f"Orders: {result.orders}, journal entries: {result.entries}. Made anew: {result.mended}.")
        if result.mended_orders:
            more = f" and {result.mended - _NAMED_MAX} more" if result.mended > _NAMED_MAX else ""
            print_line(f"{', '.join(result.mended_orders[:_NAMED_MAX])}{more}")
        if result.unparked:
            print_line(f"Messages that had waited for an order, and were in its journal: {result.unparked} removed.")
        if result.recounted:
            print_line("The counters were counted anew.")
    if result.found:
        note(f"escrow: Left as they are: {result.found}.")
        raise typer.Exit(ExitCode.FINDINGS)
