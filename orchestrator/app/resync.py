"""A participant asks for a resync (R29): a message about itself, which goes to no order."""

from __future__ import annotations

from datetime import datetime

from orchestrator.app.sheet import Sheet
from orchestrator.contract import Envelope, is_name
from orchestrator.contract.canonical import parse_time
from orchestrator.errors import MalformedMessage
from orchestrator.saga.decision import Decision

#: Event types that a participant may say it hears.
EVENTS_MAX = 100


def asked_for(sheet: Sheet, envelope: Envelope, participants: frozenset[str]) -> Decision:
    """What is outstanding for the sender is sent again, paced. Coming twice, it is begun twice; that does no harm (R20)."""
    if envelope.source != envelope.subject or envelope.source not in participants:
        return _refused("wrong_source", "a participant that a definition names asks for itself, with its own name as source and subject")
    try:
        since, events = _since(envelope), _events(envelope)
    except MalformedMessage as error:
        return _refused(error.code, str(error))
    sheet.resync(envelope.source, since)
    if events is not None:
        sheet.await_replay(envelope.source, envelope.id, events)
    return Decision(order=None, verdict="moved", reason="resync: what is outstanding for it is sent again")


def _since(envelope: Envelope) -> datetime | None:
    since = envelope.data.get("since")
    if since is None:
        return None
    try:
        return parse_time(since)
    except (TypeError, ValueError) as error:
        raise MalformedMessage("`since` is no RFC 3339 time with a zone.") from error


def _events(envelope: Envelope) -> tuple[str, ...] | None:
    """The types of the events that it hears; None: it waits for no replay."""
    events = envelope.data.get("events")
    if events is None:
        return None
    if not isinstance(events, list) or len(events) > EVENTS_MAX or not all(map(is_name, events)):
        raise MalformedMessage(f"`events` is no list of at most {EVENTS_MAX} event types.")
    return tuple(sorted(set(events)))


def _refused(code: str, detail: str) -> Decision:
    return Decision(order=None, verdict="refused", reason=f"{code}: {detail}", quarantine=code)
