"""What people ask of Escrow: place an order, act on one, replay or discard a quarantined message. All of it goes through the line."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from orchestrator import logs
from orchestrator.app.ports import Resolved
from orchestrator.app.registry import Registry
from orchestrator.app.sizes import too_large
from orchestrator.app.work import Outcome, Work
from orchestrator.contract import Envelope, Wire, canonical, decode, is_order_id
from orchestrator.errors import (
    Conflict,
    Forbidden,
    InvariantViolated,
    MessageError,
    NotFound,
    RequestError,
    Stale,
    TemporaryError,
    Unprocessable,
)
from orchestrator.saga.decision import Decision
from orchestrator.saga.draft import blank_order
from orchestrator.saga.inputs import Message, OperatorAct
from orchestrator.saga.order import deadline_document
from orchestrator.saga.rulebook import Rulebook

_log = logs.get(__name__)

#: Source of orders placed over REST.
API_SOURCE = "escrow.api"
#: How long a caller waits for the line, in seconds. What was submitted may still happen afterwards: ask again.
ANSWER_WITHIN_S = 15.0
_REFUSALS: Mapping[str, type[RequestError]] = {
    "stale": Stale,
    "conflict": Conflict,
    "invalid": Unprocessable,
    "forbidden": Forbidden,
}


class Gateway(Protocol):
    """The way into this process's line."""

    @property
    def registry(self) -> Registry:
        """The definitions this process knows."""

    def submit(self, work: Work) -> Future[Outcome]:
        """Hand an input to the handler thread; the future is done after the commit."""

    def quarantined_wire(self, quarantine_id: str) -> Wire | None:
        """A quarantined message as it came; None: there is none with this id. Raises: StoreUnavailable."""

    def new_id(self) -> str:
        """A new unique id."""

    def now(self) -> datetime:
        """The present, for the `time` of messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that stands. `created`: by this call."""

    order_id: str
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an act did, or, run dry, would do. JSON values only."""

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


def place(gateway: Gateway, *, definition: str, order_id: str | None, data: dict[str, Any], actor: str) -> Placed:
    """Open an order, once: the same id with equal data answers with the order that stands (R16).

    The id is `order_id`, or else `data[key]`; it is put into `data[key]` where that is missing. Raises: NotFound (definition),
    Unprocessable (no id, two ids, not an id, data too large for a command), Conflict (other data), TemporaryError (ask again).
    """
    rulebook = gateway.registry.latest(definition)
    chosen = order_id if order_id is not None else data.get(rulebook.key)
    if data.get(rulebook.key, chosen) != chosen:
        raise Unprocessable(f"order_id is {order_id!r} and data.{rulebook.key} is {data[rulebook.key]!r}: give one, or both equal.")
    if not is_order_id(chosen):
        raise Unprocessable("An order id is 1 to 128 letters, digits, or characters of . _ : ~ -")
    assert isinstance(chosen, str)
    envelope = Envelope(
        id=gateway.new_id(),
        source=API_SOURCE,
        type=rulebook.opens_on,
        subject=chosen,
        time=gateway.now(),
        data=data | {rulebook.key: chosen},
    )
    work = Work(order_id=chosen, input=Message(envelope=envelope), definition=(rulebook.name, rulebook.version))
    outcome = _answer(gateway, work)
    order = outcome.order
    if order is None or outcome.decision is None:
        raise InvariantViolated("An order was placed and does not stand.")
    if order.definition != definition:
        raise Conflict(f"There is an order {chosen} already, of the definition {order.definition}.")
    created = outcome.decision.verdict == "moved"
    if created:
        _log.info("order placed", action="order_placed", order_id=chosen, actor=actor)
    return Placed(order_id=chosen, created=created)


def refuse_oversized(rulebook: Rulebook, order_id: str, data: Mapping[str, Any], now: datetime) -> None:
    """See that an order with this data, its id included, could be placed. Raises: Unprocessable."""
    reason = too_large(rulebook, None, blank_order(rulebook, order_id, data, now))
    if reason is not None:
        raise Unprocessable(f"The data is too large: {reason}.")


def act(gateway: Gateway, order_id: str, operator_act: OperatorAct, *, dry_run: bool) -> Plan:
    """Do one act on one order, or say what it would do. `actor` stands in the order's own history.

    Raises: NotFound, Stale (412), Conflict (409), Unprocessable (422), Forbidden (403), TemporaryError.
    """
    work = Work(order_id=order_id, input=operator_act, dry_run=dry_run)
    decision = _answer(gateway, work).decision
    if decision is None or decision.order is None:
        raise NotFound(f"There is no order {order_id}.")
    if decision.problem is not None:
        raise _REFUSALS[decision.problem](decision.reason)
    return _plan(decision, dry_run=dry_run)


def replay(gateway: Gateway, quarantine_id: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Send a quarantined message through the line with its original id, so it cannot be applied twice (R15).

    Its row is resolved in the transaction of its effect; when the message is refused again, or this fails, the row stays open. Which
    broker user published it is not asked again: whoever replays a `wrong_user` has looked, and answers for it by name.
    Returns `quarantine_id, verdict, reason`. Raises: NotFound, Conflict (resolved already, or still not applicable), TemporaryError.
    """
    wire = gateway.quarantined_wire(quarantine_id)
    if wire is None:
        raise NotFound(f"There is no quarantined message {quarantine_id}.")
    try:
        envelope = decode(wire)
    except MessageError as error:
        raise Conflict(f"The message still cannot be read: {error} Discard it, or have it sent again.") from error
    resolves = Resolved(quarantine_id=quarantine_id, resolution="replayed", actor=actor, reason=reason)
    decision = _answer(gateway, Work(order_id=envelope.subject, input=Message(envelope=envelope), resolves=resolves)).decision
    if decision is None:
        raise InvariantViolated("A message was replayed and not decided.")
    return {"quarantine_id": quarantine_id, "verdict": decision.verdict, "reason": decision.reason}


def discard(gateway: Gateway, quarantine_id: str, *, actor: str, reason: str) -> None:
    """Lay a quarantined message aside for good; its row stays. Raises: NotFound, Conflict (resolved already), TemporaryError."""
    resolves = Resolved(quarantine_id=quarantine_id, resolution="discarded", actor=actor, reason=reason)
    _answer(gateway, Work(order_id=None, input=None, resolves=resolves))


def _answer(gateway: Gateway, work: Work) -> Outcome:
    try:
        outcome = gateway.submit(work).result(timeout=ANSWER_WITHIN_S)
    except FutureTimeoutError as error:
        raise TemporaryError("No answer in time. It may still happen: ask again.") from error
    if outcome.error is not None:
        raise outcome.error
    return outcome


def _plan(decision: Decision, *, dry_run: bool) -> Plan:
    entry, order = decision.entry, decision.order
    if entry is None or order is None:
        raise InvariantViolated("An act was done and not journaled.")
    effects, patch = canonical.load(entry.effects), canonical.load(entry.patch)
    return Plan(
        dry_run=dry_run,
        from_state=entry.from_state or "",
        to_state=entry.to_state,
        status=order.status,
        seq=order.seq,
        commands=[{k: v for k, v in c.items() if k != "data"} for c in effects.get("commands", [])],
        deadlines_armed=[deadline_document(order.deadlines[name]) for name in patch.get("deadlines", {})],
        deadlines_disarmed=patch.get("disarmed", []),
        undos_skipped=[key for key, ask in patch.get("asks", {}).items() if ask["undo"] == "skipped"],
        left_standing=effects.get("left_standing", []),
    )
