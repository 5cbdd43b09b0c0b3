"""`escrow order at`: an order as it stood."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from orchestrator.cli.acts import OrderId
from orchestrator.cli.client import Client, order_path
from orchestrator.cli.output import Format, OutputOption, format_instant, parse_instant, print_json, print_line, print_table, when
from orchestrator.cli.session import session_of
from orchestrator.errors import RequestError

Moment = Annotated[str, typer.Argument(metavar="SEQ|TIME", help="An entry of its history (17), or 2026-11-21T18:00:00Z.")]


def command(ctx: typer.Context, order_id: OrderId, moment: Moment, output: OutputOption = Format.TABLE) -> None:
    """Show an order as it stood after an entry of its history, or at a time: state, ledger, deadlines, what was outstanding."""
    from orchestrator.cli.order import print_order

    session = session_of(ctx)
    with Client(session) as client:
        then = client.get(f"{order_path(order_id)}/at/{_segment(moment)}")
    if output is Format.JSON:
        print_json(then)
        return
    now = session.now()
    print_line(f"After entry {then.get('seq')}, {when(then.get('at'), now)}:")
    print_order(_object(then.get("order")), session, output)
    print_line("")
    print_table(
        ("ask", "participant", "forward", "undo", "attempts", "undo attempts", "command id"),
        [_cells(ask, "ask participant forward undo attempts undo_attempts command_id") for ask in _objects(then.get("ledger"))],
        empty="It had asked nobody.",
    )
    print_line("")
    print_table(
        ("deadline", "due", "left when held"), [_deadline(one, now) for one in _objects(then.get("deadlines"))], empty="It had no deadline."
    )
    print_line("")
    print_table(
        ("outstanding", "participant", "ask", "attempts", "since"),
        [(*_cells(one, "command participant ask attempts"), when(one.get("since"), now)) for one in _objects(then.get("outstanding"))],
        empty="Nothing was outstanding.",
    )


def _segment(moment: str) -> str:
    """What the address takes. Raises: RequestError."""
    if moment.isascii() and moment.isdigit():
        return moment
    instant = parse_instant(moment)
    if instant is None:
        raise RequestError(f"{moment!r} is neither an entry of its history, as 17, nor a time with a zone, as 2026-11-21T18:00:00Z.")
    return format_instant(instant)


def _deadline(deadline: Mapping[str, Any], now: datetime) -> tuple[object, ...]:
    left_ms = deadline.get("remaining_ms")
    return (deadline.get("name"), when(deadline.get("due_at"), now), None if left_ms is None else f"{left_ms / 1000:g} s")


def _cells(row: Mapping[str, Any], names: str) -> tuple[object, ...]:
    return tuple(row.get(name) for name in names.split())


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
