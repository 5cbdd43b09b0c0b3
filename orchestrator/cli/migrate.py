"""`escrow definition migrate`: orders in flight go on under another version of their definition, one act each (R30).

It asks the API for the orders of the old version that have not ended, a page at a time, and migrates each of a page before it asks for
the next. What was moved is of the new version, so it can be stopped and run again at any time: it goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any

import typer

from orchestrator.cli.acts import Renamed, new_names
from orchestrator.cli.client import ApiProblem, Client, order_path
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, print_json, print_line, print_table
from orchestrator.cli.session import session_of
from orchestrator.errors import RequestError

#: The statuses of orders that have not ended.
_LIVING = ("running", "undoing", "stuck", "held")


def command(
    ctx: typer.Context,
    definition: Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.")],
    old: Annotated[int, typer.Option("--from", metavar="VERSION", min=1, help="The version whose orders are moved.")],
    new: Annotated[int, typer.Option("--to", metavar="VERSION", min=1, help="The version they go to: registered by a start.")],
    reason: Annotated[str, typer.Option(help="Why: it stands in each order's history.")],
    renamed: Renamed = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which would be moved, which not, and why; do nothing.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Move orders in flight to another version of their definition.

    What the new version could not go on with is left as it is, with the reason; then the exit status is 1. Run it again at any time.
    """
    if not reason.strip():
        raise RequestError("--reason must say why.")
    body = {"version": new, "steps": new_names(renamed or []), "reason": reason, "dry_run": dry_run}
    with Client(session_of(ctx)) as client:
        # By id: one that changes its status meanwhile can be listed twice, and how it went the last time is what counts.
        by_id = {order_id: _migrate(client, order_id, seq, body) for order_id, seq in _orders(client, definition, old)}
    results = list(by_id.values())
    _print(results, new, dry_run=dry_run, output=output)
    if any(result["refused"] for result in results):
        raise typer.Exit(ExitCode.FINDINGS)


def _orders(client: Client, definition: str, version: int) -> Iterator[tuple[str, int]]:
    """Ids and seqs of the orders in flight of a version. A page goes on by when orders were opened, so none is lost as others leave."""
    for status in _LIVING:
        for page in client.every_page("/v1/orders", definition=definition, version=version, status=status):
            yield from ((order["order_id"], order["seq"]) for order in page)


def _migrate(client: Client, order_id: str, seq: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Move one order; one that has moved on meanwhile is tried once more, as it is now."""
    path = order_path(order_id, admin="migrations")
    result: dict[str, Any] = {"order_id": order_id, "from_state": None, "to_state": None, "refused": None}
    try:
        try:
            plan = client.post(path, body, if_match=seq).body
        except ApiProblem as problem:
            if problem.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            plan = client.post(path, body, if_match=client.seq(order_path(order_id))).body
    except ApiProblem as problem:
        if problem.status not in {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}:
            raise
        return result | {"refused": problem.problem.get("detail") or str(problem)}
    return result | {"from_state": plan.get("from_state"), "to_state": plan.get("to_state")}


def _print(results: list[dict[str, Any]], version: int, *, dry_run: bool, output: Format) -> None:
    refused = [result for result in results if result["refused"]]
    moved = len(results) - len(refused)
    if output is Format.JSON:
        print_json({"dry_run": dry_run, "moved": moved, "refused": len(refused), "items": results})
        return
    rows = [(result["order_id"], result["from_state"], result["to_state"], result["refused"]) for result in results]
    print_table(("order", "from", "to", "refused"), rows, empty="No orders in flight of that version.")
    print_line(f"{moved} {'would be' if dry_run else 'are'} of version {version}; {len(refused)} cannot be moved.")
