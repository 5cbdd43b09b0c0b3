"""One input on its way through the line, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.app.ports import Delivery, OutboxMessage, Parked, Resolved
from orchestrator.contract import Envelope, Wire, decode
from orchestrator.contract.envelope import STRUCTURED
from orchestrator.errors import InvariantViolated, MessageError, WrongUser
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import Input, Message
from orchestrator.saga.order import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one input. `order` is the order as it now is, None where there is none."""

    decision: Decision | None
    order: Order | None
    #: What the one who waits is told instead: a bug of ours, a refusal of the database, or why a quarantined message stays as it is.
    error: Exception | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Work:
    """One input, where it came from, and who waits for its outcome."""

    #: None only for what cannot be read, and for a discard.
    order_id: str | None
    input: Input | None
    #: The message as it came, for acking and for the quarantine.
    delivery: Delivery | None = None
    #: Why a delivery cannot be taken: it goes to the quarantine.
    unreadable: MessageError | InvariantViolated | None = None
    #: The message as it waited for its order, which is open now.
    parked: Parked | None = None
    #: Open with this definition (name, version) instead of the marked opener of the type.
    definition: tuple[str, int] | None = None
    #: The quarantined message that this ends: a replay's with what it does, in one transaction; alone it is a discard.
    resolves: Resolved | None = None
    #: What of the recorder this is (`app.recover`): forgotten with what it does.
    recovered: tuple[int, int] | None = None
    #: Decide, and change nothing.
    dry_run: bool = False
    #: Told once, after the commit.
    on_outcome: Callable[[Outcome], None] | None = None

    @property
    def wire(self) -> Wire | None:
        """The message as it goes to the quarantine when it is refused. None: it is kept already, or whoever sent it waits, and is told."""
        if self.delivery is not None:
            return self.delivery.wire
        return None if self.parked is None else Wire(content_type=STRUCTURED, headers={}, body=self.parked.envelope)


@dataclass(frozen=True, slots=True)
class Handled:
    """What one committed batch left to do."""

    outcomes: list[tuple[Work, Outcome]] = field(default_factory=list)
    #: To publish, in journal order per order: older rows taken over first (R17).
    outbox: list[OutboxMessage] = field(default_factory=list)
    #: Outbox ids of those among them that go to the recorder.
    records: list[str] = field(default_factory=list)
    #: Milliseconds until the earliest deadline armed by the batch; None: none was.
    next_deadline_ms: int | None = None


def read(delivery: Delivery, *, require_user_id: bool) -> Work:
    """A delivery as an input, or as something that cannot be taken."""
    try:
        envelope = _envelope(delivery, require_user_id=require_user_id)
    except MessageError as error:
        return Work(order_id=None, input=None, delivery=delivery, unreadable=error)
    except Exception as error:  # noqa: BLE001  # a bug of ours: the message is kept with it, instead of being delivered for ever
        told = InvariantViolated(f"{type(error).__name__}: {error}")
        return Work(order_id=None, input=None, delivery=delivery, unreadable=told)
    return Work(order_id=envelope.subject, input=Message(envelope=envelope), delivery=delivery)


def _envelope(delivery: Delivery, *, require_user_id: bool) -> Envelope:
    envelope = decode(delivery.wire)
    if require_user_id and delivery.user_id != envelope.source:
        raise WrongUser(f"The source is {envelope.source}, and the broker user is {delivery.user_id or 'not named'}.")
    return envelope
