"""Time travel: an order as it stood after one of its entries, folded from the snapshot nearest before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from orchestrator.app.replay import Replay, line_of, thawed
from orchestrator.contract import canonical
from orchestrator.contract.canonical import format_time
from orchestrator.errors import InvariantViolated, JournalDamaged, NotFound, Unprocessable
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import Ask, Order


class Past(Protocol):
    """What the store tells of an order's history."""

    def last_seq(self, order_id: str) -> int | None:
        """The seq of its last entry; None: there is no such order."""

    def seq_at(self, order_id: str, at: datetime) -> int | None:
        """The seq of its last entry written at or before `at`; None: there was none by then."""

    def snapshot(self, order_id: str, seq: int) -> bytes | None:
        """The document of its last snapshot at or before `seq`."""

    def history(self, order_id: str, *, after_seq: int = 0, limit: int = 100) -> list[Entry]:
        """Entries after `after_seq`, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """An order as it stood."""

    order: Order
    #: The entry after which it stood so.
    entry: Entry


def after_entry(past: Past, order_id: str, seq: int) -> Then:
    """The order as it stood after an entry. It never changes: the journal is append-only.

    Raises: NotFound for an order or an entry that is not there; JournalDamaged where it cannot be folded so far.
    """
    last = _last(past, order_id)
    if not 1 <= seq <= last:
        raise NotFound(f"The order {order_id} has no entry {seq}: it has 1 to {last}. Fix: give one of these, or a time.")
    document = past.snapshot(order_id, seq)
    start = Replay(order_id, canonical.load(document)) if document is not None else Replay(order_id)
    # The entry of the snapshot itself, too: it tells whether the snapshot is of this history.
    entries = past.history(order_id, after_seq=max(0, start.seq - 1), limit=seq - max(0, start.seq - 1))
    if start.seq and entries[0].hash != start.document["hash"]:
        start, entries = Replay(order_id), past.history(order_id, limit=seq)
    try:
        for entry in entries:
            if entry.seq > start.seq:
                start.take(line_of(entry))
    except InvariantViolated as broken:
        raise JournalDamaged(str(broken), order_id=order_id, seq=start.seq + 1) from broken
    return Then(order=thawed(start), entry=entries[-1])


def at_time(past: Past, order_id: str, at: datetime, now: datetime) -> Then:
    """The order as it stood at an instant: after its last entry by then.

    Raises: NotFound for an order that is not there, or was not yet; Unprocessable for a time to come; JournalDamaged.
    """
    if at > now:
        raise Unprocessable(f"{format_time(at)} is still to come: it is {format_time(now)}. Fix: give a time that has passed.")
    _last(past, order_id)
    seq = past.seq_at(order_id, at)
    if seq is None:
        [first] = past.history(order_id, limit=1)
        opened = format_time(first.at)
        raise NotFound(
            f"The order {order_id} was not open at {format_time(at)}: it was opened at {opened}. Fix: give that time or a later one."
        )
    return after_entry(past, order_id, seq)


def outstanding(order: Order) -> list[Ask]:
    """Asks whose command, or whose undo, was sent and neither answered nor given up; as they were asked."""
    return [
        ask
        for ask in order.asks.values()
        if ask.undo_is_open or (ask.undo == "none" and ask.attempts and ask.forward in {"asked", "unknown"})
    ]


def ledger(order: Order) -> Sequence[dict[str, Any]]:
    """The asks as plain values, as they were asked."""
    return [
        {
            "ask": ask.key,
            "step": ask.step,
            "participant": ask.participant,
            "epoch": ask.epoch,
            "round": ask.round,
            "command_id": ask.command_id,
            "forward": ask.forward,
            "undo": ask.undo,
            "attempts": ask.attempts,
            "undo_attempts": ask.undo_attempts,
            "since": ask.since,
        }
        for ask in order.asks.values()
    ]


def _last(past: Past, order_id: str) -> int:
    last = past.last_seq(order_id)
    if last is None:
        raise NotFound(f"There is no order {order_id}.")
    return last
