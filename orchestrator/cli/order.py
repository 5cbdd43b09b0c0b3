"""`escrow order`: look at orders, place one, wait for one. The acts are in `acts`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import typer

from orchestrator.cli import acts, order_at, order_graph
from orchestrator.cli.client import Client, order_path
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.files import read_text
from orchestrator.cli.output import Format, OutputOption, note, print_fields, print_json, print_line, print_table, when
from orchestrator.cli.session import Session, session_of
from orchestrator.contract import canonical
from orchestrator.errors import RequestError, TemporaryError, Unprocessable
from orchestrator.saga.order import ENDS

app = typer.Typer(no_args_is_help=True, help="Look at orders, place them, and act on them.")
acts.register(app)
app.command("graph")(order_graph.command)
app.command("at")(order_at.command)

OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's id.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Rows a page.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before ended: its next_cursor.")]
Everything = Annotated[bool, typer.Option("--all", help="Every page, not only one.")]

#: Ends that leave nothing to put right.
_RIGHT_ENDS = frozenset({"completed", "compensated"})
#: Every status an order can have.
_STATUSES = ENDS | {"running", "undoing", "stuck", "held"}


@app.command("list")
def list_orders(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only orders in this state.")] = None,
    status: Annotated[str | None, typer.Option(help="Only orders with this status: running, undoing, stuck, held, completed, …")] = None,
    waiting_on: Annotated[str | None, typer.Option(help="Only orders that wait for this participant.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only orders whose deadline has passed.")] = False,
    definition: Annotated[str | None, typer.Option(help="Only orders of this definition.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Only orders of this version of --definition.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only orders with this label; may be repeated.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
    everything: Everything = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List orders, the newest first."""
    if version is not None and definition is None:
        raise RequestError("--version is one of a definition: add --definition.")
    session = session_of(ctx)
    filters = {
        "state": state,
        "status": status,
        "waiting_on": waiting_on,
        "overdue": overdue or None,
        "definition": definition,
        "version": version,
        "label": [_label(text) for text in label or ()],
    }
    with Client(session) as client:
        page = client.pages("/v1/orders", everything=everything, cursor=cursor, limit=limit, **filters)
    if output is Format.JSON:
        print_json(page)
        return
    columns = ("order", "state", "status", "waiting on", "attempts", "deadline", "cause", "updated")
    print_table(columns, [_row(order, session) for order in page["items"]], empty="No orders match.")
    note_more(page)


@app.command()
def show(ctx: typer.Context, order_id: OrderId, output: OutputOption = Format.TABLE) -> None:
    """Show where an order stands, whom it waits for, and what can be done now."""
    session = session_of(ctx)
    with Client(session) as client:
        order = client.get(order_path(order_id))
    print_order(order, session, output)


@app.command()
def history(
    ctx: typer.Context,
    order_id: OrderId,
    cursor: Cursor = None,
    limit: Limit = 100,
    everything: Everything = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show everything that happened to an order, in order."""
    session = session_of(ctx)
    path = f"{order_path(order_id)}/history"
    with Client(session) as client:
        page = client.pages(path, everything=everything, cursor=cursor, limit=limit)
    if output is Format.JSON:
        print_json(page)
        return
    now = session.now()
    rows = [
        (
            item.get("seq"),
            when(item.get("at"), now),
            item.get("kind"),
            item.get("name"),
            item.get("verdict"),
            _move(item),
            item.get("actor"),
            item.get("reason"),
        )
        for item in page["items"]
    ]
    print_table(("seq", "at", "kind", "name", "verdict", "state", "actor", "reason"), rows, empty="No entries.")
    note_more(page)


@app.command()
def create(
    ctx: typer.Context,
    data: Annotated[str, typer.Option("--data", metavar="FILE|-|JSON", help="Its data: a JSON object, a file of one, or - for stdin.")],
    definition: Annotated[str, typer.Option(help="The definition it runs on.")] = "order",
    order_id: Annotated[str | None, typer.Option(help="Its id; default: the data's field that the definition names, else made.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Repeat with the same key and nothing happens twice; default: made.")] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Place an order.

    The same order placed again (same id and data, or same idempotency key) is answered with the one that exists.
    """
    session = session_of(ctx)
    body = {"definition": definition, "data": _read_data(data)}
    if order_id is not None:
        order_path(order_id)  # refuses what is no order id before anything is sent
        body["order_id"] = order_id
    key = idempotency_key or session.new_id()
    with Client(session) as client:
        try:
            answer = client.post("/v1/orders", body, idempotency_key=key)
        except TemporaryError as error:
            raise TemporaryError(f"{error} To repeat it safely, add --idempotency-key {key}") from error
    if output is Format.JSON:
        print_json(answer.body)
    else:
        verb = "placed" if answer.status == HTTPStatus.CREATED else "was there already"
        print_line(f"{answer.body.get('order_id')} {verb}: {answer.body.get('state')}")


@app.command()
def wait(
    ctx: typer.Context,
    order_id: OrderId,
    until: Annotated[list[str] | None, typer.Option("--until", metavar="STATUS", help="Wait for this status; may be repeated.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, max=86_400 * 365, help="Seconds to wait at most.")] = 60.0,
    interval: Annotated[float, typer.Option("--interval", min=0.05, max=3600, help="Seconds between two looks.")] = 0.5,
    output: OutputOption = Format.TABLE,
) -> None:
    """Wait until an order has a status; without --until: until it has ended.

    Ends with 0 when it has one of the statuses of --until, or without it when the order ended completed or compensated; with 1
    when the order ended otherwise; with 7 when the time ran out.
    """
    session = session_of(ctx)
    wanted = _wanted(until)
    with Client(session) as client:
        order, arrived = _poll(client, session, order_path(order_id), wanted, timeout_s=timeout, interval_s=interval)
    print_order(order, session, output)
    if not arrived:
        raise_timeout(order, timeout)
    if order.get("status") not in (until or _RIGHT_ENDS):
        raise typer.Exit(ExitCode.FINDINGS)


def print_order(order: Mapping[str, Any], session: Session, output: Format) -> None:
    """One order on one screen."""
    if output is Format.JSON:
        print_json(order)
        return
    now = session.now()
    waits = [wait for wait in order.get("waiting_on") or [] if isinstance(wait, dict)]
    labels = order.get("labels")
    parked = [event for event in order.get("parked") or [] if isinstance(event, dict)]
    print_fields(
        {
            "order": order.get("order_id"),
            "definition": f"{order.get('definition')} version {order.get('version')}",
            "state": order.get("state"),
            "status": order.get("status"),
            "seq": order.get("seq"),
            "epoch": order.get("epoch"),
            "cause": order.get("cause"),
            "labels": [f"{name}={value}" for name, value in labels.items()] if isinstance(labels, dict) else None,
            "kept early": [f"{event.get('event')} of {event.get('source')} (seq {event.get('seq')})" for event in parked],
            "deadline": when(order.get("deadline_at"), now),
            "opened": when(order.get("opened_at"), now),
            "updated": when(order.get("updated_at"), now),
            "you may": order.get("allowed_acts"),
        }
    )
    if waits:
        print_line("")
        rows = [_wait_row(wait, now) for wait in waits]
        print_table(("waiting on", "step", "for", "since", "attempts", "deadline"), rows, empty="")


def note_more(page: Mapping[str, Any]) -> None:
    """Say how to go on when there is another page."""
    if page.get("next_cursor"):
        note(f"There are more: --cursor {page['next_cursor']}, or --all.")


def raise_timeout(order: Mapping[str, Any], timeout_s: float) -> None:
    """End a wait whose time ran out. Raises: typer.Exit."""
    note(f"escrow: {order.get('order_id')} is still {order.get('status')} ({order.get('state')}) after {timeout_s:g} s.")
    raise typer.Exit(ExitCode.TIMED_OUT)


def _label(text: str) -> str:
    """A label as the API takes it. Raises: RequestError."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise RequestError(f"{text!r} is no label: write NAME=VALUE.")
    return f"{name}:{value}"


def _wanted(until: list[str] | None) -> frozenset[str]:
    """The statuses that end the wait: those asked for, and every end, after which none of them can come."""
    unknown = sorted(set(until or ()) - _STATUSES)
    if unknown:
        raise RequestError(f"{unknown[0]} is no status: {', '.join(sorted(_STATUSES))} are.")
    return ENDS | frozenset(until or ())


def _poll(
    client: Client, session: Session, path: str, wanted: frozenset[str], *, timeout_s: float, interval_s: float
) -> tuple[dict[str, Any], bool]:
    """The order as last seen, and whether it has a wanted status.

    Once the order was seen, an outage of the API is waited out like anything else.
    """
    ends_at = session.monotonic() + timeout_s
    order: dict[str, Any] | None = None
    while True:
        try:
            order = client.get(path)
        except TemporaryError:
            if order is None:
                raise
        if order.get("status") in wanted:
            return order, True
        left_s = ends_at - session.monotonic()
        if left_s <= 0:
            return order, False
        session.sleep(min(interval_s, left_s))


def _wait_row(wait: Mapping[str, Any], now: datetime) -> tuple[object, ...]:
    since, deadline = when(wait.get("since"), now), when(wait.get("deadline_at"), now)
    return (wait.get("participant"), wait.get("step"), wait.get("for"), since, wait.get("attempts"), deadline)


def _row(order: Mapping[str, Any], session: Session) -> tuple[object, ...]:
    now = session.now()
    waits = [wait.get("participant") for wait in order.get("waiting_on") or [] if isinstance(wait, dict)]
    return (
        order.get("order_id"),
        order.get("state"),
        order.get("status"),
        waits,
        order.get("attempts"),
        when(order.get("deadline_at"), now),
        order.get("cause"),
        when(order.get("updated_at"), now),
    )


def _move(item: Mapping[str, Any]) -> str:
    before, after = item.get("from_state"), item.get("to_state")
    return str(after or before or "") if before == after or not before or not after else f"{before} → {after}"


def _read_data(given: str) -> dict[str, Any]:
    """The JSON object given as text, as a file, or on stdin. Raises: RequestError, MalformedMessage."""
    value = canonical.decode(given if given.lstrip().startswith(("{", "[")) else read_text(given))
    if not isinstance(value, dict):
        raise Unprocessable("The data must be a JSON object: {…}.")
    return value
