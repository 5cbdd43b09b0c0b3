"""Request bodies, which are checked, and answers, which are documented by these and checked against them in the tests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError

from orchestrator.contract.ids import NAME_PATTERN
from orchestrator.saga.decision import Kind, Verdict
from orchestrator.saga.inputs import ActName
from orchestrator.saga.order import CAUSES, Cause, Forward, Status, Undo
from orchestrator.web.params import VERSION_MAX, OrderId, TimeText

REASON_CHARS_MAX = 500


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("reason", "A reason says why; blanks do not")
    return text.strip()


Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Reason = Annotated[str, Field(min_length=1, max_length=REASON_CHARS_MAX), AfterValidator(_not_blank)]
#: A state or the name of a deadline (`reply:reserve_inventory.0.1`).
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,256}$")]


class _Body(BaseModel):
    """A request body: unknown fields are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PlaceOrder(_Body):
    """An order to place. Without `order_id` it is taken from the data, else made."""

    definition: Name
    order_id: OrderId | None = None
    data: dict[str, Any]


class ActBody(_Body):
    """What every act needs: why. `dry_run` answers with the plan and does nothing."""

    reason: Reason
    dry_run: StrictBool = False


class ForceBody(ActBody):
    """`to`: the state of a step, or `completed`."""

    to: Label


class HoldBody(ActBody):
    """`until`: when the clocks go on by themselves; 24 h from now when not given."""

    until: TimeText | None = None


class MigrateBody(ActBody):
    """`version`: of the same definition; `steps`: the new name of each step that is called otherwise there."""

    version: Annotated[int, Field(strict=True, ge=1, le=VERSION_MAX)]
    steps: Annotated[dict[Label, Label], Field(max_length=200)] = {}


class StepBody(ActBody):
    """`step`: which one."""

    step: Name


class DeadlineBody(ActBody):
    """`name`: which deadline of the order; `due_at`: its new instant."""

    name: Label
    due_at: TimeText


class ReasonBody(_Body):
    """Why."""

    reason: Reason


class ResyncBody(_Body):
    """Why, and from when."""

    reason: Reason
    since: TimeText | None = None


class WaitView(BaseModel):
    """Whom an order waits for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    participant: str
    step: str
    for_: str | None = Field(alias="for", description="The event that ends the wait.")
    since: str
    attempts: int
    deadline_at: str | None


class ParkedView(BaseModel):
    """An event that came too early, and waits for the order to come to its state. `seq`: the entry of the history that recorded it."""

    model_config = ConfigDict(extra="forbid")
    seq: int
    event: str
    source: str


class OrderView(BaseModel):
    """One order. Times are RFC 3339 UTC."""

    model_config = ConfigDict(extra="forbid")
    order_id: str
    definition: str
    version: int
    state: str
    status: Status
    seq: int
    epoch: int
    waiting_on: list[WaitView]
    parked: list[ParkedView] = Field(description="Events that came too early, in the order they came.")
    deadline_at: str | None
    attempts: int
    cause: Cause | None = Field(
        description="Why the order left the straight path; null while it did not. "
        + " ".join(f"`{code}`: {meaning}" for code, meaning in CAUSES.items())
    )
    labels: dict[str, str] = Field(description="What the order is found by: fields of its data, as its definition declares.")
    opened_at: str
    updated_at: str
    allowed_acts: list[ActName]


class OrdersPage(BaseModel):
    """A page of orders, newest opened first."""

    model_config = ConfigDict(extra="forbid")
    items: list[OrderView]
    next_cursor: str | None


class AskView(BaseModel):
    """One line of an order's ledger: one asking of one step."""

    model_config = ConfigDict(extra="forbid")
    ask: str = Field(description="`STEP.EPOCH.ROUND`: the tail of its deadlines' names.")
    step: str
    participant: str
    epoch: int
    round: int
    command_id: str
    forward: Forward
    undo: Undo
    attempts: int
    undo_attempts: int
    since: str


class DeadlineView(BaseModel):
    """An armed deadline. `remaining_ms`: what is left of it while the order is held; it has no `due_at` then."""

    model_config = ConfigDict(extra="forbid")
    name: str
    due_at: str | None
    remaining_ms: int | None
    armed_at: str
    participant: str | None


class OutstandingView(BaseModel):
    """A command, or an undo, that was sent and that its participant had not answered; a silent one, too, until it is undone."""

    model_config = ConfigDict(extra="forbid")
    ask: str
    participant: str
    is_undo: bool
    command: str | None
    command_id: str
    attempts: int
    since: str


class ThenView(BaseModel):
    """An order as it stood after one of its entries."""

    model_config = ConfigDict(extra="forbid")
    order_id: str
    seq: int = Field(description="The entry after which it stood so.")
    at: str = Field(description="When that entry was written.")
    order: OrderView = Field(description="As the order was shown then. `allowed_acts` is empty: nothing can be done with the past.")
    ledger: list[AskView] = Field(description="Every asking of every step so far, as they were asked.")
    deadlines: list[DeadlineView] = Field(description="Those armed then, the next first.")
    outstanding: list[OutstandingView]


class EntryView(BaseModel):
    """One line of a history."""

    model_config = ConfigDict(extra="forbid")
    seq: int
    at: str
    kind: Kind
    name: str
    verdict: Verdict
    from_state: str | None
    to_state: str
    actor: str | None
    reason: str | None
    effects: Any


class HistoryPage(BaseModel):
    """A page of an order's history, oldest first."""

    model_config = ConfigDict(extra="forbid")
    items: list[EntryView]
    next_cursor: str | None


class GraphView(BaseModel):
    """The state diagram of an order's version, with where the order is."""

    model_config = ConfigDict(extra="forbid")
    order_id: str
    definition: str
    version: int
    current: str
    visited: list[str] = Field(description="States it was in before.")
    possible: list[str] = Field(description="States it can come to next by itself. An operator can force it to any step.")
    mermaid: str = Field(description="A Mermaid `stateDiagram-v2`, with the classes `current`, `visited` and `possible`.")


class DefinitionView(BaseModel):
    """One registered version of a definition."""

    model_config = ConfigDict(extra="forbid")
    name: str
    version: int
    opens_on: str
    is_opener: bool = Field(description="Whether events of type `opens_on` open orders of this version.")
    open_orders: int = Field(description="Orders of this version that have not ended.")
    fingerprint: str = Field(description="sha256 of the canonical document, hexadecimal.")
    registered_at: str


class DefinitionDocuments(DefinitionView):
    """One registered version, with its documents."""

    document: dict[str, Any] = Field(description="As it was written.")
    expanded: dict[str, Any] = Field(description="With every default written out and durations in ms: what orders run on.")


class DefinitionsPage(BaseModel):
    """A page of definitions, by name and version."""

    model_config = ConfigDict(extra="forbid")
    items: list[DefinitionView]
    next_cursor: str | None


class PlanView(BaseModel):
    """What an act did, or, run dry, would do."""

    model_config = ConfigDict(extra="forbid")
    dry_run: bool
    from_state: str
    to_state: str
    status: str
    seq: int
    commands: list[dict[str, Any]]
    deadlines_armed: list[dict[str, Any]]
    deadlines_disarmed: list[str]
    undos_skipped: list[str]
    left_standing: list[str]


class QuarantineView(BaseModel):
    """One quarantined message; equal ones are one row with a count."""

    model_config = ConfigDict(extra="forbid")
    quarantine_id: str
    reason: str
    detail: str
    source: str | None
    message_id: str | None
    type: str | None
    order_id: str | None
    count: int
    first_at: str
    last_at: str
    resolution: Literal["replayed", "discarded"] | None
    resolved_by: str | None
    resolved_at: str | None
    resolved_reason: str | None


class QuarantinedMessage(QuarantineView):
    """A quarantined message with what it carried, which only operators see."""

    content_type: str | None = None
    headers: dict[str, Any] | None = None
    body: str | None = None


class QuarantinePage(BaseModel):
    """A page of the quarantine, newest first."""

    model_config = ConfigDict(extra="forbid")
    items: list[QuarantineView]
    next_cursor: str | None


class ParticipantView(BaseModel):
    """How a participant is (R8)."""

    model_config = ConfigDict(extra="forbid")
    name: str
    state: Literal["healthy", "silent", "recovering"]
    since: str | None = Field(description="When it came to this state; null: it was never otherwise.")
    heard_at: str | None = Field(description="The last sign of life that was written down: every two seconds at most.")
    recovered_at: str | None = Field(description="When its last silence, or resync, began to end.")
    held: int = Field(description="Commands kept back for it.")
    overdue: int = Field(description="Replies that it owes.")
    rate_per_s: float = Field(description="Commands a second that it is sent while it recovers.")
    resync_under_way: bool


class ParticipantsPage(BaseModel):
    """All participants, by name."""

    model_config = ConfigDict(extra="forbid")
    items: list[ParticipantView]
    next_cursor: str | None


class ReplayView(BaseModel):
    """What became of a replayed message."""

    quarantine_id: str
    verdict: str
    reason: str | None


class ProblemView(BaseModel):
    """RFC 9457. Some problems have more members: `errors`, `allowed`, `missing`, `order_id` and `seq`."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    next: str


class KindView(BaseModel):
    """One entry of the problem catalogue."""

    model_config = ConfigDict(extra="forbid")
    type: str
    code: str
    status: int
    title: str
    when: str
    next: str
    retryable: bool


class HealthView(BaseModel):
    """Whether the process is there."""

    status: Literal["ok"]


class ReadyView(BaseModel):
    """Whether requests can be taken, and what was looked at."""

    status: Literal["ready"]
    checks: dict[str, bool]


class Document(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="allow")
