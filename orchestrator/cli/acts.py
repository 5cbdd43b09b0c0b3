"""The acts of an operator on one order (R21), each a verb of `escrow order`.

=========== ============================================== =============================
verb        REST: POST /v1/admin/orders/{order_id}/…       arguments in the body
=========== ============================================== =============================
force       transitions                                    to
retry       retries
abort       aborts
hold        holds                                          until (default: 24 h)
release     releases
skip        skips                                          step
confirm     confirmations                                  step
deadline    deadlines                                      name, due_at
abandon     abandonments (admin)
=========== ============================================== =============================

Every act carries a reason and the seq that the operator saw; when the order has moved on since, nothing happens. `--dry-run`
does every check and shows the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Client, order_path
from orchestrator.cli.output import (
    Format,
    OutputOption,
    format_instant,
    parse_instant,
    print_fields,
    print_json,
    print_line,
    when,
)
from orchestrator.cli.session import Session, session_of
from orchestrator.errors import RequestError
from orchestrator.saga.definition import parse_duration

#: The resource of each verb.
RESOURCES: dict[str, str] = {
    "force": "transitions",
    "retry": "retries",
    "abort": "aborts",
    "hold": "holds",
    "release": "releases",
    "skip": "skips",
    "confirm": "confirmations",
    "deadline": "deadlines",
    "abandon": "abandonments",
}

OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it stands in the order's history.")]
IfMatch = Annotated[
    int | None,
    typer.Option("--if-match", metavar="SEQ", min=0, help="The seq you saw; default: the one it has when the command runs."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and do nothing.")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="The step's name in the definition.")]


def force(
    ctx: typer.Context,
    order_id: OrderId,
    to: Annotated[str, typer.Argument(metavar="STATE", help="A step's state, or completed.")],
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Move an order to a state, in place (REST: transitions). What it passes back over is undone."""
    _act(ctx, "force", order_id, {"to": to}, reason, if_match, dry_run=dry_run, output=output)


def retry(
    ctx: typer.Context,
    order_id: OrderId,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Send the open command or undo again now (REST: retries). A refused step is asked in a new round."""
    _act(ctx, "retry", order_id, {}, reason, if_match, dry_run=dry_run, output=output)


def abort(
    ctx: typer.Context,
    order_id: OrderId,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Call an order off and undo it (REST: aborts). Refused once its pivot was asked."""
    _act(ctx, "abort", order_id, {}, reason, if_match, dry_run=dry_run, output=output)


def hold(
    ctx: typer.Context,
    order_id: OrderId,
    reason: Reason,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME|+DURATION", help="2026-11-21T18:00:00Z, or +2h; default: +24h.")
    ] = None,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Stop an order's clocks until a time (REST: holds). Events are still applied."""
    arguments = {} if until is None else {"until": instant(until, session_of(ctx).now())}
    _act(ctx, "hold", order_id, arguments, reason, if_match, dry_run=dry_run, output=output)


def release(
    ctx: typer.Context,
    order_id: OrderId,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Let a held order's clocks run again (REST: releases)."""
    _act(ctx, "release", order_id, {}, reason, if_match, dry_run=dry_run, output=output)


def skip(
    ctx: typer.Context,
    order_id: OrderId,
    step: Step,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Go on without a step, or leave its effect standing while undoing (REST: skips)."""
    _act(ctx, "skip", order_id, {"step": step}, reason, if_match, dry_run=dry_run, output=output)


def confirm(
    ctx: typer.Context,
    order_id: OrderId,
    step: Step,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say that a step's undo was done by hand (REST: confirmations)."""
    _act(ctx, "confirm", order_id, {"step": step}, reason, if_match, dry_run=dry_run, output=output)


def deadline(
    ctx: typer.Context,
    order_id: OrderId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The deadline's name, such as patience.")],
    due_at: Annotated[str, typer.Argument(metavar="TIME|+DURATION", help="2026-11-21T18:00:00Z, or +2h.")],
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Move a deadline of an order (REST: deadlines)."""
    arguments = {"name": name, "due_at": instant(due_at, session_of(ctx).now())}
    _act(ctx, "deadline", order_id, arguments, reason, if_match, dry_run=dry_run, output=output)


def abandon(
    ctx: typer.Context,
    order_id: OrderId,
    reason: Reason,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Give an order up (REST: abandonments; admin). Nothing more is undone; what stays standing is recorded."""
    _act(ctx, "abandon", order_id, {}, reason, if_match, dry_run=dry_run, output=output)


VERBS: tuple[Callable[..., None], ...] = (force, retry, abort, hold, release, skip, confirm, deadline, abandon)


def register(app: typer.Typer) -> None:
    """Add the verbs to the commands of `escrow order`."""
    for verb in VERBS:
        app.command(verb.__name__, rich_help_panel="Acts of an operator")(verb)


def instant(text: str, now: datetime) -> str:
    """RFC 3339 UTC for an instant with its offset, or for `+DURATION` from now. Raises: RequestError.

    >>> from datetime import UTC
    >>> instant("+1h30m", datetime(2026, 1, 1, tzinfo=UTC))
    '2026-01-01T01:30:00Z'
    """
    try:
        at = now + timedelta(milliseconds=parse_duration(text[1:])) if text.startswith("+") else parse_instant(text)
    except (ValueError, OverflowError):
        at = None
    if at is None:
        raise RequestError(f"{text} is no time: write 2026-11-21T18:00:00Z (with Z or an offset), or +2h for two hours from now.")
    return format_instant(at)


def _act(
    ctx: typer.Context,
    verb: str,
    order_id: str,
    arguments: Mapping[str, str],
    reason: str,
    if_match: int | None,
    *,
    dry_run: bool,
    output: Format,
) -> None:
    session = session_of(ctx)
    if not reason.strip():
        raise RequestError("--reason must say why.")
    path = order_path(order_id, admin=RESOURCES[verb])
    with Client(session) as client:
        seq = if_match if if_match is not None else client.seq(order_path(order_id))
        plan = client.post(path, {**arguments, "reason": reason, "dry_run": dry_run}, if_match=seq).body
    if output is Format.JSON:
        print_json(plan)
    else:
        _print_plan(order_id, plan, session)


def _print_plan(order_id: str, plan: Mapping[str, Any], session: Session) -> None:
    """What was done, or with a dry run would be: one line, then the effects."""
    tense = "would be" if plan.get("dry_run") else "is"
    print_line(f"{order_id} {tense} {plan.get('status')}: {plan.get('from_state')} → {plan.get('to_state')}, seq {plan.get('seq')}")
    print_fields(
        {
            "deadlines disarmed": plan.get("deadlines_disarmed"),
            "undos skipped": plan.get("undos_skipped"),
            "left standing": plan.get("left_standing"),
        }
    )
    now = session.now()
    for title, items in (("command", plan.get("commands")), ("deadline armed", plan.get("deadlines_armed"))):
        for item in items or []:
            values = {key: when(value, now) if key.endswith("_at") else value for key, value in _scalars(item).items()}
            print_line(f"{title}: " + ", ".join(f"{key} {value}" for key, value in values.items()))


def _scalars(item: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a document: bodies stay in the JSON output."""
    return {key: value for key, value in item.items() if value is not None and not isinstance(value, dict | list)}
