"""The acts of an operator on one order (R21): each a verb of `escrow order`, and a resource of POST /v1/admin/orders/{order_id}/….

Every act carries a reason and the seq that the operator saw; when the order has moved on since, nothing happens. `--dry-run`
does every check and shows the plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from orchestrator.saga.language import parse_duration

OrderId = Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why: it stands in the order's history.")]
IfMatch = Annotated[
    int | None,
    typer.Option("--if-match", metavar="SEQ", min=0, help="The seq you saw; default: the one it has when the command runs."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and do nothing.")]
State = Annotated[str, typer.Argument(metavar="STATE", help="A step's state, or completed.")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="The step's name in the definition.")]
DeadlineName = Annotated[str, typer.Argument(metavar="NAME", help="The deadline's name, such as patience.")]
DueAt = Annotated[str, typer.Argument(metavar="TIME|+DURATION", help="2026-11-21T18:00:00Z, or +2h.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME|+DURATION", help="2026-11-21T18:00:00Z, or +2h; default: +24h.")]

Version = Annotated[int, typer.Argument(metavar="VERSION", help="A registered version of the order's definition.", min=1)]
Renamed = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="A step that is called otherwise in the new version; repeatable."),
]

#: Options: None when they are not given.
_OPTIONS = (Until, Renamed)
#: Arguments that are instants.
_TIMES = frozenset({"until", "due_at"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One act: its name here, its resource in the API, and what it takes beyond what every act takes."""

    name: str
    resource: str
    doc: str
    #: By field of the body, as Typer reads it: arguments are required, options may be left out.
    takes: Mapping[str, Any] = field(default_factory=dict)


VERBS = (
    Verb(
        name="force",
        resource="transitions",
        doc="Move an order to a state, in place (REST: transitions). What it passes back over is undone.",
        takes={"to": State},
    ),
    Verb(
        name="retry",
        resource="retries",
        doc="Send the open command or undo again now (REST: retries). A refused step is asked in a new round.",
    ),
    Verb(
        name="abort",
        resource="aborts",
        doc="Call an order off and undo it (REST: aborts). Refused once its pivot was asked.",
    ),
    Verb(
        name="hold",
        resource="holds",
        doc="Stop an order's clocks until a time (REST: holds). Events are still applied.",
        takes={"until": Until},
    ),
    Verb(
        name="release",
        resource="releases",
        doc="Let a held order's clocks run again (REST: releases).",
    ),
    Verb(
        name="skip",
        resource="skips",
        doc="Go on without a step, or leave its effect standing while undoing (REST: skips).",
        takes={"step": Step},
    ),
    Verb(
        name="confirm",
        resource="confirmations",
        doc="Say that a step's undo was done by hand (REST: confirmations).",
        takes={"step": Step},
    ),
    Verb(
        name="deadline",
        resource="deadlines",
        doc="Move a deadline of an order (REST: deadlines).",
        takes={"name": DeadlineName, "due_at": DueAt},
    ),
    Verb(
        name="abandon",
        resource="abandonments",
        doc="Give an order up (REST: abandonments; admin). Nothing more is undone; what stays standing is recorded.",
    ),
    Verb(
        name="migrate",
        resource="migrations",
        doc="Go on under another version of the definition (REST: migrations; admin). For many orders: escrow definition migrate.",
        takes={"version": Version, "steps": Renamed},
    ),
)


def register(app: typer.Typer) -> None:
    """Add the verbs to the commands of `escrow order`."""
    for verb in VERBS:
        app.command(verb.name, help=verb.doc, rich_help_panel="Acts of an operator")(_command(verb))


def _command(verb: Verb) -> Callable[..., None]:
    """The command of an act: Typer reads its signature, in which what the act takes follows the order's id."""

    def command(
        *,
        ctx: typer.Context,
        order_id: OrderId,
        reason: Reason,
        if_match: IfMatch = None,
        dry_run: DryRun = False,
        output: OutputOption = Format.TABLE,
        **given: Any,
    ) -> None:
        session = session_of(ctx)
        arguments = {name: _argument(name, value, session.now()) for name, value in given.items() if value is not None}
        body = {**arguments, "reason": reason, "dry_run": dry_run}
        plan = _act(session, order_id, verb.resource, body, if_match)
        if output is Format.JSON:
            print_json(plan)
        else:
            _print_plan(order_id, plan, session)

    ctx, order_id, *others, _given = inspect.signature(command, eval_str=True).parameters.values()
    own = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None if kind in _OPTIONS else inspect.Parameter.empty
        )
        for name, kind in verb.takes.items()
    ]
    vars(command)["__signature__"] = inspect.Signature([ctx, order_id, *own, *others])
    return command


def new_names(pairs: list[str]) -> dict[str, str]:
    """The new name of each old one, from `OLD=NEW`. Raises: RequestError."""
    names = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise RequestError(f"--map {pair} is no pair: write OLD=NEW, a step's name in the old and in the new version.")
        names[old] = new
    return names


def _argument(name: str, value: Any, now: datetime) -> Any:
    """As the API takes it."""
    if name in _TIMES:
        return instant(value, now)
    return new_names(value) if name == "steps" else value


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


def _act(session: Session, order_id: str, resource: str, body: Mapping[str, Any], if_match: int | None) -> Mapping[str, Any]:
    """Do an act, or run it dry; its plan. `if_match` None: on the order as it is now."""
    if not body["reason"].strip():
        raise RequestError("--reason must say why.")
    with Client(session) as client:
        seq = if_match if if_match is not None else client.seq(order_path(order_id))
        return client.post(order_path(order_id, admin=resource), body, if_match=seq).body


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
