"""Everything that can happen to an order. Four kinds, each a value; `to_document` is what the journal keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from orchestrator.contract import Envelope
from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.contract.envelope import attributes, from_attributes

ActName = Literal["force", "retry", "abort", "hold", "release", "skip", "confirm", "deadline", "abandon", "migrate"]
Seen = Literal["no", "same", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event from the bus, or an order placed over REST."""

    envelope: Envelope
    #: Whether this order's journal holds (source, id) already: not, with the same body, or with another one (R15).
    seen: Seen = "no"
    #: Whether the type opens orders of some definition (R16).
    opens: bool = False
    #: When the message was journaled before or is applied from `parked`: the entry that first recorded it.
    cause_seq: int | None = None
    #: It was parked, and the order is about to turn back: what it says was done counts, though its state was not reached (R11).
    at_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineDue:
    """A deadline has passed."""

    name: str
    generation: int
    #: Nobody could have heard the reply: the same attempt is sent again and none is spent (R9).
    excused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SentLate:
    """A command reached the broker more than 1 s after its commit: its deadline counts from now (R5)."""

    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAct:
    """What a human tells Escrow to do with one order (R21)."""

    act: ActName
    actor: str
    reason: str
    #: The order's seq that the operator saw.
    seq: int
    #: Whether the actor is an admin: force on an ended order, and abandon, need it.
    is_admin: bool = False
    #: `to` (force), `step` (skip, confirm), `until` (hold: aware datetime), `name` and `due_at` (deadline),
    #: `version` and `steps` (migrate: the new name of each step that is called otherwise there).
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Set when a recovery does a lost act again: the hash of the entry that it had, by which the next one knows that it was done (R28).
    repeats: str | None = None


Input = Message | DeadlineDue | SentLate | OperatorAct


def to_document(input_: Input) -> dict[str, Any]:
    """The input as JSON values: enough to decide again (R25)."""
    match input_:
        case Message(envelope=envelope):
            document: dict[str, Any] = {
                "message": message_document(envelope),
                "seen": input_.seen,
                "opens": input_.opens,
                "cause_seq": input_.cause_seq,
            }
            return document | {"at_last": True} if input_.at_last else document
        case DeadlineDue():
            return {"deadline": input_.name, "generation": input_.generation, "excused": input_.excused}
        case SentLate():
            return {"sent_late": input_.command_id}
        case OperatorAct():
            arguments = {k: format_time(v) if isinstance(v, datetime) else v for k, v in input_.arguments.items()}
            document = {
                "act": input_.act,
                "actor": input_.actor,
                "reason": input_.reason,
                "seq": input_.seq,
                "is_admin": input_.is_admin,
                "arguments": arguments,
            }
            return document | {"repeats": input_.repeats} if input_.repeats is not None else document


def from_document(document: Mapping[str, Any]) -> Input:
    """The input a journal entry holds."""
    if "message" in document:
        return Message(
            envelope=message_of(document["message"]),
            seen=document["seen"],
            opens=document["opens"],
            cause_seq=document["cause_seq"],
            at_last=document.get("at_last", False),
        )
    if "deadline" in document:
        return DeadlineDue(name=document["deadline"], generation=document["generation"], excused=document["excused"])
    if "sent_late" in document:
        return SentLate(command_id=document["sent_late"])
    arguments = {name: parse_time(value) if name in {"until", "due_at"} else value for name, value in document["arguments"].items()}
    return OperatorAct(**{**document, "arguments": arguments})


def message_document(envelope: Envelope) -> dict[str, Any]:
    """A message as JSON values."""
    return attributes(envelope) | {"data": envelope.data}


def message_of(document: Mapping[str, Any]) -> Envelope:
    """The message that a document holds."""
    return from_attributes(document, document["data"])
