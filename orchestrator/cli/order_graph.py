"""`escrow order graph`: an order in the diagram of its definition."""

from __future__ import annotations

import typer

from orchestrator.cli.acts import OrderId
from orchestrator.cli.client import Client, order_path
from orchestrator.cli.output import Format, OutputOption, print_json, print_text
from orchestrator.cli.session import session_of


def command(ctx: typer.Context, order_id: OrderId, output: OutputOption = Format.TABLE) -> None:
    """Draw the states of an order's definition as Mermaid text: where it is, where it was, where it can come to next."""
    with Client(session_of(ctx)) as client:
        drawn = client.get(f"{order_path(order_id)}/graph")
    if output is Format.JSON:
        print_json(drawn)
    else:
        print_text(str(drawn.get("mermaid", "")))
