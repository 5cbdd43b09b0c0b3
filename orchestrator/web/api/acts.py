"""What operators do with one order: ten acts, one shape. Each names the seq that was seen, and why; each can be run dry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from orchestrator.app import operate
from orchestrator.contract import canonical
from orchestrator.errors import Forbidden
from orchestrator.saga.inputs import ActName, OperatorAct
from orchestrator.web import params
from orchestrator.web.api import examples, models
from orchestrator.web.api.describe import IF_MATCH, JsonResponse, operation, with_etag
from orchestrator.web.auth import Caller, Needs, Role, audit_denied, services_of
from orchestrator.web.params import OrderIdPath
from orchestrator.web.services import Services

router = APIRouter(tags=["acts"])

#: Arguments that are instants.
_TIMES = frozenset({"until", "due_at"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRoute:
    """One act: its address, who may do it, what it takes beyond reason and dry_run."""

    path: str
    act: ActName
    summary: str
    doc: str
    role: Role = "operator"
    body: type[models.ActBody] = models.ActBody
    #: The example of what it takes.
    takes: tuple[tuple[str, Any], ...] = ()


ACTS = (
    ActRoute(
        path="transitions",
        act="force",
        summary="Force the order to a state",
        doc="To the state of a step, or to `completed`. What the order may have done from there on is undone at once. On an ended "
        "order: admin only.",
        body=models.ForceBody,
        takes=(("to", "taking_payment"),),
    ),
    ActRoute(
        path="retries",
        act="retry",
        summary="Send the open command now",
        doc="The open ask or undo is sent now, its limits counted anew, attempt numbers going on; a refused one as a new round.",
    ),
    ActRoute(
        path="aborts",
        act="abort",
        summary="Undo the order",
        doc="Everything possibly done is undone, in reverse. 409 once the pivot was asked.",
    ),
    ActRoute(
        path="holds",
        act="hold",
        summary="Stop the order's clocks",
        doc="Clocks stop, facts do not. The hold ends at `until`, 24 h from now when not given.",
        body=models.HoldBody,
        takes=(("until", "2026-11-22T08:00:00Z"),),
    ),
    ActRoute(
        path="releases",
        act="release",
        summary="Let the order's clocks run again",
        doc="Every deadline runs on with the time it had left.",
    ),
    ActRoute(
        path="skips",
        act="skip",
        summary="Go past a step or an undo",
        doc="Forward: go on; an ask that was sent stays unknown and is undone if the order ever is. Undo: left standing, by name.",
        body=models.StepBody,
        takes=(("step", "email_invoice"),),
    ),
    ActRoute(
        path="confirmations",
        act="confirm",
        summary="Confirm an undo that was done by hand",
        doc="The step's undo counts as confirmed, by name of the operator.",
        body=models.StepBody,
        takes=(("step", "reserve_inventory"),),
    ),
    ActRoute(
        path="deadlines",
        act="deadline",
        summary="Move a deadline",
        doc="The deadline of this name fires at `due_at` instead.",
        body=models.DeadlineBody,
        takes=(("name", "patience"), ("due_at", "2026-11-21T04:00:00Z")),
    ),
    ActRoute(
        path="abandonments",
        act="abandon",
        summary="Give the order up",
        doc="The hard stop: the order ends as it is, and what stays standing is listed.",
        role="admin",
    ),
    ActRoute(
        path="migrations",
        act="migrate",
        summary="Move the order to another version of its definition",
        doc="The same facts under the other version's names and rules: nothing is asked, undone or armed anew. `steps` gives the new "
        "name of each step that is called otherwise there. 409 when that version could not go on with what the order did, or waits for.",
        role="admin",
        body=models.MigrateBody,
        takes=(("version", 3), ("steps", {"take_payment": "charge_card"})),
    ),
)


def _add(act: ActRoute) -> None:
    guard = Needs(role=act.role, act=act.act)

    def do(
        caller: Annotated[Caller, Depends(guard)],
        services: Annotated[Services, Depends(services_of)],
        order_id: OrderIdPath,
        seq: Annotated[int, Depends(params.seen_seq)],
        body: Annotated[dict[str, Any], Depends(params.json_body)],
    ) -> Response:
        return _do(services, caller, act, order_id, seq, params.parse(act.body, body))

    # The guard is a value of this scope, which annotations kept as text cannot name.
    do.__annotations__ = {**do.__annotations__, "caller": Annotated[Caller, Depends(guard)], "return": Response}
    route: Callable[[Any], Any] = router.post(
        f"/v1/admin/orders/{{order_id}}/{act.path}",
        name=act.act,
        description=act.doc,
        **operation(
            guard,
            summary=act.summary,
            answers=models.PlanView,
            example=examples.PLAN,
            problems=("not_found", "conflict", "stale", "if_match_required"),
            body=act.body,
            body_example={**dict(act.takes), "reason": "Ticket 4711: inventory is back", "dry_run": True},
            headers=(IF_MATCH,),
        ),
    )
    route(do)


def _do(services: Services, caller: Caller, act: ActRoute, order_id: str, seq: int, body: models.ActBody) -> Response:
    given = body.model_dump(exclude={"reason", "dry_run"}, exclude_none=True)
    arguments = {name: canonical.parse_time(value) if name in _TIMES else value for name, value in given.items()}
    wish = OperatorAct(act=act.act, actor=caller.name, reason=body.reason, seq=seq, is_admin=caller.may("admin"), arguments=arguments)
    try:
        plan = operate.act(services.gateway, order_id, wish, dry_run=body.dry_run)
    except Forbidden as error:
        audit_denied(services, caller, act.act, order_id, str(error))
        raise
    # A plan run dry has a seq that the order has not reached: no ETag, or it would be sent back as If-Match.
    return JsonResponse(asdict(plan)) if body.dry_run else with_etag(asdict(plan), plan.seq)


for _act in ACTS:
    _add(_act)
