"""How stored things are shown: the fixed JSON shapes of the API, from values of the core and rows of the store.

What customers wrote (bodies of commands, of quarantined messages) is shown to operators only; of an order's data its labels are shown
to everybody, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.app import travel
from orchestrator.contract import canonical, undo_id
from orchestrator.saga import graph, standing
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.web.auth import Caller

if TYPE_CHECKING:
    from orchestrator.app.travel import Then
    from orchestrator.store.definitions import Registered
    from orchestrator.store.participants import Health
    from orchestrator.store.quarantine import QuarantineRow

#: Members of an effect that carry what customers wrote.
_PAYLOAD_MEMBERS = frozenset({"data", "body"})


def order_view(rulebook: Rulebook, order: Order, caller: Caller) -> dict[str, Any]:
    """One order as this caller sees it: `allowed_acts` are those that this caller may do now."""
    waits = [_plain(wait) for wait in standing.waiting_on(rulebook, order)]
    acts = standing.allowed_acts(order, is_admin=caller.may("admin")) if caller.may("operator") else []
    return {
        "order_id": order.order_id,
        "definition": order.definition,
        "version": order.version,
        "state": order.state,
        "status": order.status,
        "seq": order.seq,
        "epoch": order.epoch,
        "waiting_on": waits,
        "parked": [
            {"seq": int(seq), "event": message["type"], "source": message["source"]}
            for seq, message in sorted(order.parked.items(), key=lambda item: int(item[0]))
        ],
        "deadline_at": _plain(order.next_due_at),
        "attempts": waits[0]["attempts"] if waits else 0,
        "cause": order.cause,
        "labels": dict(order.labels),
        "opened_at": _plain(order.opened_at),
        "updated_at": _plain(order.updated_at),
        "allowed_acts": list(acts),
    }


def then_view(rulebook: Rulebook, then: Then, caller: Caller) -> dict[str, Any]:
    """An order as it stood after an entry. Nothing can be done with the past, so no acts are allowed."""
    order = then.order
    return {
        "order_id": order.order_id,
        "seq": then.entry.seq,
        "at": _plain(then.entry.at),
        "order": {**order_view(rulebook, order, caller), "allowed_acts": []},
        "ledger": [_plain(ask) for ask in travel.ledger(order)],
        "deadlines": [
            _plain(
                {"name": d.name, "due_at": d.due_at, "remaining_ms": d.remaining_ms, "armed_at": d.armed_at, "participant": d.participant}
            )
            for d in sorted(order.deadlines.values(), key=lambda d: (d.due_at is None, d.due_at, d.name))
        ],
        "outstanding": [_plain(_outstanding(rulebook, ask)) for ask in travel.outstanding(order)],
    }


def entry_view(entry: Entry, caller: Caller) -> dict[str, Any]:
    """One line of an order's history."""
    effects = canonical.load(entry.effects)
    return {
        "seq": entry.seq,
        "at": _plain(entry.at),
        "kind": entry.kind,
        "name": entry.name,
        "verdict": entry.verdict,
        "from_state": entry.from_state,
        "to_state": entry.to_state,
        "actor": entry.actor,
        "reason": entry.reason,
        "effects": effects if caller.may("operator") else _without_payload(effects),
    }


def graph_view(rulebook: Rulebook, order: Order, visited: Collection[str]) -> dict[str, Any]:
    """The diagram of an order's version, with where the order is, was and can come to."""
    marks = graph.marks(rulebook, order.state, visited)
    return {
        "order_id": order.order_id,
        "definition": order.definition,
        "version": order.version,
        "current": marks.current,
        "visited": sorted(marks.visited),
        "possible": sorted(marks.possible),
        "mermaid": graph.mermaid(rulebook, marks),
    }


def definition_view(row: Registered, *, whole: bool = False) -> dict[str, Any]:
    """One registered definition; `whole` adds its documents."""
    view = {
        "name": row.name,
        "version": row.version,
        "opens_on": row.opens_on,
        "is_opener": row.is_opener,
        "open_orders": row.open_orders,
        "fingerprint": row.fingerprint,
        "registered_at": _plain(row.registered_at),
    }
    if whole:
        view["document"] = canonical.load(row.raw)
        view["expanded"] = canonical.load(row.expanded)
    return view


def participant_view(health: Health) -> dict[str, Any]:
    """How a participant is."""
    return {
        "name": health.name,
        "state": health.state,
        "since": _plain(health.since),
        "heard_at": _plain(health.heard_at),
        "recovered_at": _plain(health.recovered_at),
        "held": health.held,
        "overdue": health.overdue,
        "rate_per_s": round(health.rate_per_s if health.state == "recovering" else 0.0, 1),
        "resync_under_way": health.resync_under_way,
    }


def quarantine_view(row: QuarantineRow, caller: Caller, *, whole: bool = False) -> dict[str, Any]:
    """One quarantined message; `whole` adds its headers and body, for operators. A body that is no UTF-8 is shown with U+FFFD."""
    view = {
        "quarantine_id": row.quarantine_id,
        "reason": row.reason,
        "detail": _text(row.detail),
        "source": row.source,
        "message_id": row.message_id,
        "type": row.message_type,
        "order_id": row.order_id,
        "count": row.count,
        "first_at": _plain(row.first_at),
        "last_at": _plain(row.last_at),
        "resolution": row.resolution,
        "resolved_by": row.resolved_by,
        "resolved_at": _plain(row.resolved_at),
        "resolved_reason": row.resolved_reason,
    }
    if whole and caller.may("operator"):
        view["content_type"] = row.content_type
        view["headers"] = canonical.load(row.headers) if row.headers else {}
        view["body"] = row.body.decode(errors="replace")
    return view


def _outstanding(rulebook: Rulebook, ask: Ask) -> dict[str, Any]:
    """A command, or an undo, that its participant has not answered."""
    step = rulebook.by_name[ask.step]
    is_undo = ask.undo_is_open
    return {
        "ask": ask.key,
        "participant": ask.participant,
        "is_undo": is_undo,
        "command": step.undo.command if is_undo and step.undo is not None else step.command,
        "command_id": undo_id(ask.command_id) if is_undo else ask.command_id,
        "attempts": ask.undo_attempts if is_undo else ask.attempts,
        "since": ask.since,
    }


def _plain(value: Any) -> Any:
    """Times as text, all the way down."""
    if isinstance(value, datetime):
        return canonical.format_time(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _without_payload(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_payload(item) for name, item in value.items() if name not in _PAYLOAD_MEMBERS}
    if isinstance(value, list):
        return [_without_payload(item) for item in value]
    return value


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
