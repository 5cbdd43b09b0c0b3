"""The CloudEvents 1.0 envelope, in both modes of the RabbitMQ binding.

Structured: content type `application/cloudevents+json`, the whole event in the body. Binary: attributes in `ce-*` headers, the data in the
body. Sending uses the structured mode by default; receiving takes both. Checked against the `cloudevents` SDK in the tests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.contract import canonical, ids
from orchestrator.errors import MalformedMessage, OversizedMessage

#: Bytes of a message body, with its `ce-*` headers.
BODY_BYTES_MAX = 65_536
#: Digits of `attempt` and `epoch`.
COUNT_DIGITS_MAX = 9
#: Characters of `id`, `source` and the other text attributes.
ATTRIBUTE_CHARS_MAX = 256
STRUCTURED = "application/cloudevents+json"
_BINARY_PREFIX = "ce-"
_ATTRIBUTES = ("id", "source", "type", "subject")
_EXTENSIONS = ("commandid", "undoes", "causationid", "traceparent")
_COUNTS = ("attempt", "epoch")
_MEANING = ("type", "subject", "commandid", "undoes", "data")
#: Half a character: JSON may escape one, UTF-8 cannot hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message on the bus."""

    #: Message id: unique within `source`; the same for every copy of one message.
    id: str
    #: Who says so: the participant's name, or `escrow`.
    source: str
    #: Event name (past tense) or command name (imperative).
    type: str
    #: The order id.
    subject: str
    #: When it was said, by the sender's clock; nothing is decided by it.
    time: datetime | None = None
    #: The content: a JSON object.
    data: Mapping[str, Any]
    #: The command this message is, or answers (R6).
    commandid: str | None = None
    #: In an undo: the id of the command to undo (R20).
    undoes: str | None = None
    #: Which sending of the command this is, from 1.
    attempt: int | None = None
    #: The order's epoch when the command was first sent.
    epoch: int | None = None
    #: Id of the message that caused this one.
    causationid: str | None = None
    #: W3C trace context.
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A message as the broker carries it."""

    content_type: str
    headers: Mapping[str, Any]
    body: bytes


def encode(envelope: Envelope) -> Wire:
    """The structured form."""
    return Wire(content_type=STRUCTURED, headers={}, body=canonical.encode(event_document(envelope)))


def encode_binary(envelope: Envelope) -> Wire:
    """The binary form: attributes as headers, the data alone in the body."""
    headers = {_BINARY_PREFIX + name: str(value) for name, value in attributes(envelope).items() if name != "datacontenttype"}
    return Wire(content_type="application/json", headers=headers, body=canonical.encode(dict(envelope.data)))


def decode(wire: Wire) -> Envelope:
    """Read either form.

    Raises: OversizedMessage, MalformedMessage: the sender's fault, with what is wrong.
    """
    if len(wire.body) > BODY_BYTES_MAX:
        raise OversizedMessage(f"The body has {len(wire.body)} bytes; at most {BODY_BYTES_MAX} are taken.")
    media_type = wire.content_type.partition(";")[0].strip().lower()
    if media_type == STRUCTURED:
        return read_event(canonical.decode(wire.body))
    named = {
        name.lower().removeprefix(_BINARY_PREFIX): value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in wire.headers.items()
        if name.lower().startswith(_BINARY_PREFIX)
    }
    if not named:
        raise MalformedMessage(f"Neither the content type {STRUCTURED} nor a ce- header: not a CloudEvent.")
    if sum(len(str(value)) for value in named.values()) > BODY_BYTES_MAX:
        raise OversizedMessage("The ce- headers are too large.")
    return from_attributes(named, canonical.decode(wire.body or b"{}"))


def event_document(envelope: Envelope) -> dict[str, Any]:
    """The structured form as JSON values: attributes and data."""
    return attributes(envelope) | {"data": dict(envelope.data)}


def read_event(event: object) -> Envelope:
    """The envelope that a structured form holds. Raises: MalformedMessage."""
    if not isinstance(event, dict):
        raise MalformedMessage("A structured CloudEvent is a JSON object.")
    if "data_base64" in event:
        raise MalformedMessage("The data is binary (data_base64); JSON is expected.")
    return from_attributes(event, event.get("data", {}))


def attributes(envelope: Envelope) -> dict[str, Any]:
    """The attributes and extensions that are set, as JSON values, without the data."""
    found: dict[str, Any] = {"specversion": "1.0", "datacontenttype": "application/json"}
    if envelope.time is not None:
        found["time"] = canonical.format_time(envelope.time)
    for name in (*_ATTRIBUTES, *_EXTENSIONS, *_COUNTS):
        value = getattr(envelope, name)
        if value is not None:
            found[name] = value
    return found


def digest(event: Mapping[str, Any]) -> str:
    """What makes two messages of one source and id the same: sha256 over what they mean, hexadecimal. `event`: attributes and `data`.

    Time, trace context and cause are left out: whoever sends a message again may stamp it anew.
    """
    return hashlib.sha256(canonical.encode([event.get(name) for name in _MEANING])).hexdigest()


def from_attributes(named: Mapping[str, Any], data: Any) -> Envelope:
    """The envelope that attributes and data make. Raises: MalformedMessage."""
    if named.get("specversion") != "1.0":
        raise MalformedMessage(f"specversion is {named.get('specversion')!r}; '1.0' is expected.")
    if not isinstance(data, dict):
        raise MalformedMessage("The data is not a JSON object.")
    if not ids.is_order_id(named.get("subject")):
        raise MalformedMessage(f"subject is not an order id ({ids.ORDER_ID_PATTERN}).")
    if not ids.is_name(named.get("type")):
        raise MalformedMessage(f"type is not a message name ({ids.NAME_PATTERN}).")
    extensions: dict[str, Any] = {name: _text(named, name) for name in _EXTENSIONS if name in named}
    return Envelope(
        data=data,
        time=_time(named.get("time")),
        attempt=_count(named, "attempt"),
        epoch=_count(named, "epoch"),
        id=_text(named, "id"),
        source=_text(named, "source"),
        type=_text(named, "type"),
        subject=_text(named, "subject"),
        **extensions,
    )


def _text(named: Mapping[str, Any], name: str) -> str:
    value = named.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= ATTRIBUTE_CHARS_MAX or "\0" in value or _holds_surrogate(value):
        raise MalformedMessage(f"{name} must be a text of 1 to {ATTRIBUTE_CHARS_MAX} characters.")
    return value


def _holds_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


def _count(named: Mapping[str, Any], name: str) -> int | None:
    value = named.get(name)
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX):
        raise MalformedMessage(f"{name} must be a whole number from 0.")
    return int(text)


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return canonical.parse_time(value)
    except (TypeError, ValueError) as error:
        raise MalformedMessage("time is not an RFC 3339 time with a zone.") from error
