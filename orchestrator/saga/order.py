"""The Order value: everything Escrow knows about one order, and the document it is stored as.

An order is changed by `decide` alone, which returns a new one. `to_document` and `from_document` are inverse; the document holds JSON
values only (times as canonical text), so the journal can carry the difference between two of them (`fold`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from orchestrator.contract.canonical import format_time
from orchestrator.errors import InvariantViolated

Forward = Literal["idle", "asked", "done", "refused", "unknown", "skipped"]
Undo = Literal["none", "asked", "undone", "failing", "skipped"]
Direction = Literal["forward", "undoing", "ended"]
Outcome = Literal["completed", "compensated", "failed", "abandoned"]
Status = Literal["running", "undoing", "stuck", "held", "completed", "compensated", "failed", "abandoned"]
Cause = Literal[
    "silence",
    "refused",
    "patience",
    "aborted",
    "forced",
    "undo_silent",
    "late_success",
    "skipped",
    "turns",
    "deadline",
    "event",
    "expression",
    "abandoned",
]

#: What each code of an order's `cause` says; the reference documentation is made from it.
CAUSES: dict[Cause, str] = {
    "silence": "A participant stayed silent: its attempts ran out, or after the pivot it was asked `stuck_after` times.",
    "refused": "A participant refused a step.",
    "patience": "The order's patience ended before its pivot was asked.",
    "aborted": "An operator, or an event of `abort_on`, called the order off.",
    "forced": "An operator moved the order.",
    "undo_silent": "An undo was sent `stuck_after` times without a confirmation.",
    "late_success": "A success came after its undo was sent, or after a refusal: it is undone.",
    "skipped": "An operator skipped a step, or left an effect standing.",
    "turns": "A loop came to its last turn, and what it waits for did not hold; or a state was entered more often than it may be.",
    "deadline": "A state's own deadline passed, and the definition ends the order then.",
    "event": "An event came with which the definition ends the order.",
    "expression": "What the definition computes of this order has no value.",
    "abandoned": "An admin gave the order up.",
}

#: Whom an order waits for when no participant can bring it on; and when an event from outside does, of no source in particular.
OPERATOR: Final = "operator"
OUTSIDE: Final = "outside"

ENDS = frozenset({"completed", "compensated", "failed", "abandoned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One asking of one step: all its attempts under one command id, and its undo (R4)."""

    step: str
    #: Who was asked.
    participant: str
    epoch: int
    #: Counts from 1 the times the step is asked in the epoch.
    round: int
    #: Place in the order of asking, from 0.
    position: int
    #: What was asked side by side has the same, from 0: undoing goes from the last to the first.
    rank: int
    command_id: str
    #: `idle`: watched, nothing sent, no answer yet. `asked`: sent, no answer yet. `unknown`: silent to the end, or passed over while others
    #: may be doing it, so possibly done. `skipped`: an operator went past it unasked.
    forward: Forward = "asked"
    #: `asked`: sent. `failing`: sent `stuck_after` times. `skipped`: left standing, by name of an operator or for want of an undo.
    undo: Undo = "none"
    #: Sendings of the command so far; numbers go on after an operator's retry.
    attempts: int = 0
    #: `attempts` when the limits were last counted anew.
    attempts_base: int = 0
    #: Journal entry that holds the command's body; it is sent unchanged by every attempt (R6). Of an event from outside that was applied:
    #: the entry that did.
    body_seq: int = 0
    undo_attempts: int = 0
    undo_attempts_base: int = 0
    undo_body_seq: int = 0
    #: When the open direction was first sent.
    since: datetime
    #: A step after the pivot, or the pivot, that the order waits for and that needs a human: silent for `stuck_after` sendings, or refused.
    #: A refused one stays so whatever its participant says later, until an operator retries, skips or abandons (R12).
    alarm: bool = False

    @property
    def key(self) -> str:
        """Its name in the ledger, and the tail of its deadlines' names."""
        return f"{self.step}.{self.epoch}.{self.round}"

    @property
    def is_open(self) -> bool:
        """Whether the order waits for its answer, or for an operator, to go on."""
        return self.is_awaited or self.alarm

    @property
    def is_awaited(self) -> bool:
        """Whether its participant is to answer."""
        return self.forward in {"asked", "idle"}

    @property
    def undo_is_open(self) -> bool:
        """Whether a confirmation is awaited."""
        return self.undo in {"asked", "failing"}

    @property
    def possibly_done(self) -> bool:
        """Whether the participant may have done it: known done, or silent (R11)."""
        return self.forward in {"done", "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """An instant at which silence becomes an input.

    Names: `reply:<ask>` and `undo_reply:<ask>` (silence is declared), `retry:<ask>` and `undo_retry:<ask>` (the next attempt is due),
    `patience` (of the order), `patience:<ask>` (of one step), `state:<state>` (the state's own), `remind:<state>.<place>` (a reminder is
    due), `hold` (an operator's hold ends), `alert` (a human is still needed).
    """

    name: str
    #: Grows with every arming under any name in the order: a firing that names an older one changes nothing (R18).
    generation: int
    armed_at: datetime
    #: None while the order is held: then `remaining_ms` runs on from the release.
    due_at: datetime | None
    remaining_ms: int | None = None
    #: Whose reply is awaited; None for deadlines that no participant can meet.
    participant: str | None = None
    #: The command whose silence this declares: it is not fired while that command lies unconfirmed in the outbox (R5).
    command_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One saga instance. The journal is its truth; this is the journal folded (R25)."""

    order_id: str
    definition: str
    version: int
    state: str
    #: Which way it moves. `ended` with an undo open is status `undoing`: the end is taken, and not yet announced.
    direction: Direction
    #: Of the last journal entry, from 1.
    seq: int
    #: Grows with every force.
    epoch: int = 0
    opened_at: datetime
    updated_at: datetime
    state_entered_at: datetime
    cause: Cause | None = None
    #: How it ended. None: it has not, or as its state says.
    outcome: Outcome | None = None
    #: The end that it takes when all is undone. None: `compensated`.
    goal: str | None = None
    #: Whether the pivot's command was written: no way back (R12).
    pivot_passed: bool = False
    #: Whether an operator stopped its clocks.
    held: bool = False
    #: Whether its end was announced.
    announced: bool = False
    #: Source of deadline generations.
    generation: int = 0
    #: The data of the event that opened it.
    data: Mapping[str, Any]
    #: What `set` of its definition changed of the data since, or added.
    amended: Mapping[str, Any] = field(default_factory=dict)
    #: What it is found by, as it was at the opening: values by name, in text (`labels`).
    labels: Mapping[str, str]
    #: Data of the event that completed a step, by step; of other events that were applied last, by type.
    replies: Mapping[str, Any]
    #: Turns of each loop since it was last entered, entries into each state that counts them, and notices sent; by name.
    turns: Mapping[str, int]
    #: Events of the present state's `all_of` that have come → the journal entry that recorded each.
    joined: Mapping[str, int] = field(default_factory=dict)
    #: Events that came too early, as messages (`attributes` and `data`), by the journal entry that recorded each: kept until they fit (R1).
    parked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The ledger, by `Ask.key`, in order of asking.
    asks: Mapping[str, Ask]
    deadlines: Mapping[str, Deadline]
    #: Hash of the last journal entry, hexadecimal (R26). Follows from the journal, so no patch carries it.
    hash: str = ""

    @property
    def status(self) -> Status:
        """What an operator wants to know first. Held before stuck, stuck before undoing."""
        if self.held:
            return "held"
        undo_open = False
        for ask in self.asks.values():
            if ask.undo == "failing" or ask.alarm:
                return "stuck"
            undo_open = undo_open or ask.undo_is_open
        if self.direction == "forward":
            return "running"
        if self.direction == "undoing" or undo_open:
            return "undoing"
        return self.outcome or self.state  # type: ignore[return-value]  # these ends are their own status

    @property
    def facts(self) -> Mapping[str, Any]:
        """The order's data as it is by now."""
        return {**self.data, **self.amended} if self.amended else self.data

    @property
    def next_due_at(self) -> datetime | None:
        """The earliest deadline armed."""
        return min((d.due_at for d in self.deadlines.values() if d.due_at is not None), default=None)


_MAPS = ("data", "amended", "labels", "replies", "turns", "joined", "parked", "asks", "deadlines")
#: What most orders never have is not written where it is empty: what a journal says does not change with what the language learns.
OPTIONAL_MAPS = ("amended", "joined", "parked")
OPTIONAL_FIELDS = ("outcome", "goal")
_ORDER_TIMES = ("opened_at", "updated_at", "state_entered_at")
#: The plain fields of an order: all but the maps, and the hash, which follows from the journal.
_ORDER_FIELDS = tuple(f.name for f in fields(Order) if f.name not in {*_MAPS, "hash"})
_ASK_FIELDS = tuple(f.name for f in fields(Ask))
_DEADLINE_FIELDS = tuple(f.name for f in fields(Deadline))
_order_values = attrgetter(*_ORDER_FIELDS)
_ask_values = attrgetter(*_ASK_FIELDS)
_deadline_values = attrgetter(*_DEADLINE_FIELDS)


def scalars(order: object) -> dict[str, Any]:
    """The plain fields of an order, or of its draft, as JSON values; without those optional ones that are None."""
    document = _document(_ORDER_FIELDS, _order_values(order), _ORDER_TIMES)
    for name in OPTIONAL_FIELDS:
        if document[name] is None:
            del document[name]
    return document


def ask_document(ask: Ask) -> dict[str, Any]:
    """An ask as JSON values."""
    return _document(_ASK_FIELDS, _ask_values(ask), ("since",))


def deadline_document(deadline: Deadline) -> dict[str, Any]:
    """A deadline as JSON values."""
    return _document(_DEADLINE_FIELDS, _deadline_values(deadline), ("armed_at", "due_at"))


def to_document(order: Order) -> dict[str, Any]:
    """The whole order as JSON values; equal orders give equal canonical bytes."""
    return {
        "fields": scalars(order),
        "data": dict(order.data),
        "labels": dict(order.labels),
        "replies": dict(order.replies),
        "turns": dict(order.turns),
        "asks": {key: ask_document(ask) for key, ask in order.asks.items()},
        "deadlines": {name: deadline_document(deadline) for name, deadline in order.deadlines.items()},
        **{name: dict(value) for name in OPTIONAL_MAPS if (value := getattr(order, name))},
        "hash": order.hash,
    }


def from_document(document: Mapping[str, Any]) -> Order:
    """The order a document holds; the two share what is inside of data and replies. Raises: InvariantViolated for what is no order."""
    try:
        asks = dict(sorted(document["asks"].items(), key=_position))
        return msgspec.convert({**document, **document["fields"], "asks": asks}, Order)
    except (msgspec.ValidationError, AttributeError, LookupError, TypeError) as error:
        raise InvariantViolated(f"A document cannot be read as that of an order: {error!r}.") from error


def _document(names: tuple[str, ...], values: tuple[Any, ...], times: tuple[str, ...]) -> dict[str, Any]:
    document = dict(zip(names, values, strict=True))
    for name in times:
        if document[name] is not None:
            document[name] = format_time(document[name])
    return document


def _position(item: tuple[str, Mapping[str, Any]]) -> int:
    place: int = item[1]["position"]
    return place
