"""What `decide` returns: a value that says everything that is to be written and sent, and nothing else happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.saga.order import Order

#: `moved`: the order changed. `duplicate`, `late`, `ignored`, `refused`: see R1. `parked`: kept until it fits.
Verdict = Literal["moved", "duplicate", "late", "refused", "parked", "ignored"]
Kind = Literal["message", "deadline", "sent_late", "act"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One sending of a command or undo."""

    command_id: str
    participant: str
    name: str
    attempt: int
    epoch: int
    #: The command this one undoes (R20).
    undoes: str | None = None
    #: The body; None when it is the one that journal entry `body_seq` holds (R6).
    data: Mapping[str, Any] | None
    body_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What an order tells anyone who listens."""

    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an order's journal. Append-only; `hash = sha256(prev_hash ‖ canonical entry without hash)` (R26)."""

    order_id: str
    seq: int
    at: datetime
    kind: Kind
    #: Of the message that this entry first records; None for everything else, so it counts as not seen (R15).
    source: str | None = None
    message_id: str | None = None
    #: The entry that recorded the message applied here.
    cause_seq: int | None = None
    #: Message type, deadline name, or act.
    name: str
    actor: str | None = None
    reason: str | None = None
    verdict: Verdict
    from_state: str | None
    to_state: str
    #: Canonical JSON: the input, enough to decide again.
    input: bytes
    #: Canonical JSON: what changes in the order's document (`fold`).
    patch: bytes
    #: Canonical JSON: commands (with bodies when first sent), announcements, effects left standing.
    effects: bytes
    #: Hexadecimal; empty for the first entry.
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one input. `entry` None means: counted, not journaled, and the order is as it was."""

    order: Order | None
    verdict: Verdict
    #: For people and counters: why, when it is not plain. Machine code first (`wrong_source: …`).
    reason: str | None = None
    entry: Entry | None = None
    commands: tuple[Command, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    #: Why a human must look, machine code first.
    alerts: tuple[str, ...] = ()
    #: How long after its time a deadline fired, in seconds; None for other inputs.
    fired_late_s: float | None = None
    #: Command ids that were answered: their rows leave the outbox (R17).
    answered: tuple[str, ...] = ()
    #: The guards that were asked, by their text, each with what it said.
    guards: tuple[tuple[str, bool], ...] = ()
    #: Set: the message goes to the quarantine under this code.
    quarantine: str | None = None
    #: Set on a refused act: `stale` (412), `conflict` (409), `invalid` (422) or `forbidden` (403); `reason` says why.
    problem: Literal["stale", "conflict", "invalid", "forbidden"] | None = None
