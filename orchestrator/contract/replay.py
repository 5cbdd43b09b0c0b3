"""A replay: what a participant that lost its state is told of the past, so that it can rebuild it (R29).

The messages come on a queue of their own (`Topology.replay_queue`), as canonical JSON of content type `REPLAY`, first the events of others,
then order by order what the participant was sent and what it told, and `ReplayEnd` last. They are not live: nothing may be answered or
published because of them. Coming twice they say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from orchestrator.contract import canonical
from orchestrator.contract.envelope import ATTRIBUTE_CHARS_MAX, BODY_BYTES_MAX, Envelope, Wire, event_document, read_event
from orchestrator.errors import MalformedMessage, OversizedMessage

#: The content type.
REPLAY: Final = "application/vnd.escrow.replay+json"
#: Bytes of a body: two messages, whose attributes may have come as headers.
REPLAY_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
#: Containers around the data of a message: the message, and this.
_DEPTH_MAX: Final = canonical.DEPTH_MAX + 2

#: What an answer said, as the definition reads it: `done`, `refused`; of an undo `undone`; `too_late`: the undo had come first.
Outcome = Literal["done", "refused", "undone", "too_late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedCommand:
    """A command or an undo that the participant was sent, once whatever its attempts; or the event that it took as a step's first ask.

    The `commandid` of the latter, if it has one, is of somebody else's command: that of the step is in the answer.
    """

    message: Envelope
    #: What the participant answered first, as the journal has it, and what that means. None: no answer is known.
    answer: Envelope | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedFact:
    """An event that the participant told by itself."""

    message: Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedEvent:
    """An event as it was published, from the recorder: of others, which it hears, or one of its own that is in no journal."""

    message: Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayEnd:
    """That was all."""

    #: Message id of the `ResyncRequested` that this replay answers: the end of another one is no end.
    request_id: str
    #: How many of each came before.
    commands: int
    facts: int
    events: int


ReplayMessage: TypeAlias = ReplayedCommand | ReplayedFact | ReplayedEvent | ReplayEnd


def encode_replay(message: ReplayMessage) -> Wire:
    """As the broker carries it.

    >>> encode_replay(ReplayEnd(request_id="r", commands=2, facts=0, events=1)).body
    b'{"commands":2,"events":1,"facts":0,"kind":"end","request_id":"r"}'
    """
    return Wire(content_type=REPLAY, headers={}, body=canonical.encode(_document(message)))


def decode_replay(wire: Wire) -> ReplayMessage:
    """Read one. Raises: OversizedMessage, MalformedMessage."""
    if len(wire.body) > REPLAY_BYTES_MAX:
        raise OversizedMessage(f"The body has {len(wire.body)} bytes; at most {REPLAY_BYTES_MAX} are taken.")
    if wire.content_type != REPLAY:
        raise MalformedMessage(f"The content type is {wire.content_type!r}; {REPLAY} is expected.")
    document = canonical.decode(wire.body, depth_max=_DEPTH_MAX)
    kind = document.get("kind") if isinstance(document, dict) else None
    match kind:
        case "command":
            return _command(document)
        case "fact":
            return ReplayedFact(message=read_event(document.get("message")))
        case "event":
            return ReplayedEvent(message=read_event(document.get("message")))
        case "end":
            return _end(document)
        case _:
            raise MalformedMessage(f"kind is {kind!r}; 'command', 'fact', 'event' or 'end' is expected.")


def _document(message: ReplayMessage) -> dict[str, Any]:
    match message:
        case ReplayedCommand(message=asked, answer=answer):
            said = None if answer is None else event_document(answer)
            return {"kind": "command", "message": event_document(asked), "answer": said, "outcome": message.outcome}
        case ReplayedFact(message=told):
            return {"kind": "fact", "message": event_document(told)}
        case ReplayedEvent(message=heard):
            return {"kind": "event", "message": event_document(heard)}
        case ReplayEnd():
            counts = {"commands": message.commands, "facts": message.facts, "events": message.events}
            return {"kind": "end", "request_id": message.request_id, **counts}


def _command(document: dict[str, Any]) -> ReplayedCommand:
    message, outcome = read_event(document.get("message")), document.get("outcome")
    answer = None if document.get("answer") is None else read_event(document["answer"])
    if (answer is None) != (outcome is None) or outcome not in (None, *get_args(Outcome)):
        raise MalformedMessage(f"outcome is {outcome!r}; an answer has one of {', '.join(get_args(Outcome))}, and no answer has none.")
    if (message if answer is None else answer).commandid is None:
        raise MalformedMessage("Neither the command nor its answer has a commandid.")
    return ReplayedCommand(message=message, answer=answer, outcome=outcome)


def _end(document: dict[str, Any]) -> ReplayEnd:
    request_id = document.get("request_id")
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= ATTRIBUTE_CHARS_MAX:
        raise MalformedMessage(f"request_id must be a text of 1 to {ATTRIBUTE_CHARS_MAX} characters.")
    counts = {name: _count(document, name) for name in ("commands", "facts", "events")}
    return ReplayEnd(request_id=request_id, **counts)


def _count(document: dict[str, Any], name: str) -> int:
    count = document.get(name)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise MalformedMessage(f"{name} must be a whole number from 0.")
    return count
