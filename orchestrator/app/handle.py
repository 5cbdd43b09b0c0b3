"""handle(batch): the one visible column that every input walks.

lock the orders → load what is needed → decide each input in memory → write everything with a handful of statements → commit once.
Acking and publishing follow the commit and are the caller's (`line`). A crash at any point loses nothing and applies nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestrator.app import resync
from orchestrator.app.circuit import Circuit, held_by
from orchestrator.app.ports import Changes, Parked, Resolved, Store, Transaction
from orchestrator.app.record import records
from orchestrator.app.registry import Registry
from orchestrator.app.sheet import Sheet
from orchestrator.app.sizes import too_large
from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.contract import RESYNC_REQUESTED, Envelope, Topology, canonical, encode
from orchestrator.contract.envelope import from_attributes
from orchestrator.errors import Conflict, NotFound, RequestError, TemporaryError, Unprocessable
from orchestrator.saga.decide import Decided, decide_all
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Message, OperatorAct
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook

#: A deadline that made decide raise is put off: the first wait, doubled each time, and the longest.
PUT_OFF_FIRST, PUT_OFF_MAX = timedelta(seconds=1), timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What handling needs besides the batch."""

    store: Store
    registry: Registry
    topology: Topology
    #: The worker incarnation that owns what it writes to the outbox.
    owner: str
    new_id: Callable[[], str]
    parked_for: timedelta
    circuit: Circuit
    #: Whether what is written is told to the recorder (R28).
    records: bool = False


def handle(context: Context, batch: Sequence[Work], *, confirmed: Sequence[str] = ()) -> Handled:
    """Apply a batch in one transaction. `confirmed`: outbox ids to forget with it. Idempotent per message.

    Raises: StoreUnavailable, StoreBusy (run it again), DataRefused, InvariantViolated (bisect); nothing was written then.
    """
    context.registry.renew(work.input.envelope.type for work in batch if isinstance(work.input, Message))
    order_ids = {work.order_id for work in batch if work.order_id is not None and _may_matter(context, work)}
    to_resolve = {work.resolves.quarantine_id for work in batch if work.resolves is not None}
    with context.store.transaction() as tx:
        found = tx.lock_orders(order_ids)
        resolutions = tx.lock_quarantined(to_resolve) if to_resolve else {}
        sheet = Sheet(context.topology, context.owner, context.new_id, found, tx.now(), held=context.circuit.held)
        sheet.resolutions = resolutions
        _gather(tx, sheet, batch, order_ids)
        outcomes = _apply_all(context, tx, sheet, batch)
        # What is kept back goes out by its own tap alone; what still is of one that is well again goes before what is said now (R8, R17).
        kept_back = [held_by(name) for name in context.circuit.held]
        taken = sheet.unanswered(tx.take_over(sheet.speaking(), context.owner, except_of=kept_back))
        missing = sheet.missing_bodies()
        sheet.fill_bodies(tx.bodies(missing) if missing else {})
        changes = sheet.changes(confirmed)
        changes.recovered.extend(work.recovered for work in batch if work.recovered is not None)
        to_publish = [message for message in changes.outbox if message.owner == context.owner]
        to_record = list(records(changes, context.topology, context.owner, context.new_id, sheet.now)) if context.records else []
        changes.outbox.extend(to_record)
        tx.write(changes)
    return Handled(
        outcomes=outcomes,
        outbox=[*to_record, *taken, *to_publish],
        records=[record.outbox_id for record in to_record],
        next_deadline_ms=sheet.next_deadline_ms(),
    )


def put_off(context: Context, order_id: str, name: str) -> None:
    """Let a deadline rest that the database refuses to fire, so that it is not tried at every tick. Raises: StoreUnavailable."""
    with context.store.transaction() as tx:
        tx.lock_orders([order_id])
        tx.write(Changes(put_off=[(order_id, name, tx.now() + _wait(tx, order_id, name))]))


def in_order(batch: Sequence[Work]) -> list[Work]:
    """Replies and `SentLate` before due deadlines (R9); otherwise in order of arrival."""
    return sorted(batch, key=lambda work: isinstance(work.input, DeadlineDue))


def _may_matter(context: Context, work: Work) -> bool:
    return not isinstance(work.input, Message) or context.registry.knows(work.input.envelope.type)


def _gather(tx: Transaction, sheet: Sheet, batch: Sequence[Work], order_ids: set[str]) -> None:
    """What was recorded before, and what is parked for orders that may open now."""
    keys = {
        (work.order_id, work.input.envelope.source, work.input.envelope.id)
        for work in batch
        if isinstance(work.input, Message) and work.order_id in sheet.orders
    }
    if keys:
        sheet.recorded = tx.recorded(keys)
    absent = order_ids - sheet.orders.keys()
    if absent:
        sheet.waiting = tx.parked(absent)


def _apply_all(context: Context, tx: Transaction, sheet: Sheet, batch: Sequence[Work]) -> list[tuple[Work, Outcome]]:
    """Every input, and after an opening what came before it, in order of arrival (R15)."""
    outcomes: list[tuple[Work, Outcome]] = []
    for work in in_order(batch):
        outcomes.append((work, _apply(context, tx, sheet, work)))
        order_id = work.order_id
        for parked in sheet.unpark(order_id) if order_id is not None else ():
            event = canonical.load(parked.envelope)
            waited = Work(order_id=order_id, input=Message(envelope=from_attributes(event, event["data"])), parked=parked)
            outcomes.append((waited, _apply(context, tx, sheet, waited)))
    return outcomes


def _apply(context: Context, tx: Transaction, sheet: Sheet, work: Work) -> Outcome:
    """Decide one input, and put down what follows."""
    if work.resolves is not None and (refusal := _refusal(sheet, work.resolves)) is not None:
        return Outcome(decision=None, order=None, error=refusal)
    if work.unreadable is not None:
        if work.delivery is not None:
            sheet.quarantine_unreadable(work.delivery, work.unreadable)
        decision = Decision(order=None, verdict="refused", reason=str(work.unreadable), quarantine=work.unreadable.code)
        return Outcome(decision=decision, order=None)
    if work.input is None:
        assert work.resolves is not None
        sheet.resolve(work.resolves)
        return Outcome(decision=None, order=None)
    assert work.order_id is not None
    order = sheet.orders.get(work.order_id)
    try:
        if isinstance(work.input, Message):
            decision = _apply_message(context, sheet, work, work.input, order)
        else:
            decided = _decide(context, order, work)(sheet.now)
            decision = decided.own
            if not work.dry_run:
                _take(sheet, work.order_id, decided, cause=None)
    except TemporaryError:  # a definition could not be read: nobody's fault, and the batch is run again
        raise
    except Exception as error:  # noqa: BLE001  # a bug of ours must not stop its neighbours: it is kept and alerted
        return _set_aside(tx, sheet, work, error)
    order = sheet.orders.get(work.order_id) if not work.dry_run else decision.order
    if decision.quarantine is not None and work.wire is None:
        return Outcome(decision=replace(decision, quarantine=None), order=order, error=_told(work, decision))
    if work.resolves is not None:
        sheet.resolve(work.resolves)
    return Outcome(decision=decision, order=order)


def _refusal(sheet: Sheet, resolves: Resolved) -> RequestError | None:
    """Why a quarantined message cannot be resolved: there is none, or somebody did it before."""
    if resolves.quarantine_id not in sheet.resolutions:
        return NotFound(f"There is no quarantined message {resolves.quarantine_id}.")
    resolution = sheet.resolutions[resolves.quarantine_id]
    return None if resolution is None else Conflict(f"This message was {resolution} already.")


def _told(work: Work, decision: Decision) -> RequestError:
    """What the one who waits hears of a refused message: a replay, whose row stays open as the only one, or an order over REST (R16)."""
    if work.resolves is not None:
        return Conflict(f"The message still cannot be applied: {decision.reason}.")
    if decision.quarantine == "oversized":
        return Unprocessable(f"The data is too large: {decision.reason}.")
    if decision.quarantine == "expression":
        return Unprocessable(f"The definition cannot decide on this order: {decision.reason}.")
    return Conflict(f"There is an order {work.order_id} already, with other data.")


def _decide(context: Context, order: Order | None, work: Work) -> Callable[[datetime], Decided]:
    assert work.input is not None
    if order is None:
        return lambda _now: Decided((), Decision(order=None, verdict="ignored", reason="no_order: there is no such order"))
    rulebook, input_ = context.registry.rulebook(order.definition, order.version), work.input
    target = None
    if isinstance(input_, OperatorAct) and input_.act == "migrate":
        target = context.registry.find(order.definition, input_.arguments.get("version"))
    return lambda now: decide_all(rulebook, order, input_, now, target=target)


def _take(sheet: Sheet, order_id: str, decided: Decided, *, cause: Envelope | None) -> None:
    """Put down an input's own decision, and those of the events that the order had kept."""
    for message, decision in decided.before:
        _take_kept(sheet, order_id, message, decision)
    sheet.take(order_id, decided.own, cause=cause)
    for message, decision in decided.after:
        _take_kept(sheet, order_id, message, decision)


def _take_kept(sheet: Sheet, order_id: str, message: Message, decision: Decision) -> None:
    """Put down what became of an event that the order had kept."""
    sheet.take(order_id, decision, cause=message.envelope)
    if decision.quarantine is not None:
        sheet.quarantine(message.envelope, encode(message.envelope), decision.quarantine, decision.reason or "")


def _apply_message(context: Context, sheet: Sheet, work: Work, message: Message, order: Order | None) -> Decision:
    envelope = message.envelope
    if envelope.type == RESYNC_REQUESTED:
        return _refuse(sheet, resync.asked_for(sheet, envelope, context.store.participants()), envelope, work)
    # What was parked was known to the worker that parked it.
    if work.parked is None and not context.registry.knows(envelope.type):
        return Decision(order=order, verdict="ignored", reason="unknown_type: no definition names this type")
    opener = context.registry.rulebook(*work.definition) if work.definition else context.registry.opener(envelope.type)
    if order is not None:
        rulebook = context.registry.rulebook(order.definition, order.version)
        heard = replace(message, seen=sheet.seen(envelope), opens=opener is not None)
        if work.resolves is not None and heard.seen == "same" and (parked_at := sheet.parked_at(envelope)) is not None:
            # It was refused when its time came: it is decided anew, as an application of the entry that parked it (R15).
            heard = replace(heard, seen="no", cause_seq=parked_at)
        return _record(sheet, rulebook, order, heard, work)
    if opener is not None:
        return _record(sheet, opener, None, message, work)
    kept = sheet.park(_parked(context, sheet, envelope))
    if kept == "other":
        reason = "id_reused: the same source and id is parked with another content"
        return _refuse(sheet, Decision(order=None, verdict="refused", reason=reason, quarantine="id_reused"), envelope, work)
    if kept == "same":
        return Decision(order=None, verdict="duplicate", reason="seen: it is parked already")
    return Decision(order=None, verdict="parked", reason="no_order: kept until the order opens")


def _record(sheet: Sheet, rulebook: Rulebook, order: Order | None, message: Message, work: Work) -> Decision:
    """Decide a message and put it down. Of a refusal that the sender is told as its answer nothing is kept (R16)."""
    envelope = message.envelope
    decided = decide_all(rulebook, order, message, sheet.now)
    if decided.order is not None and (reason := too_large(rulebook, order, decided.order)) is not None:
        decided = Decided((), Decision(order=order, verdict="refused", reason=f"oversized: {reason}", quarantine="oversized"))
    decision = decided.own
    if decision.quarantine is not None and work.wire is None and work.resolves is None:
        return replace(decision, order=order, entry=None)
    _take(sheet, envelope.subject, decided, cause=envelope)
    return _refuse(sheet, decision, envelope, work)


def _refuse(sheet: Sheet, decision: Decision, envelope: Envelope, work: Work) -> Decision:
    """Keep a message that was refused, unless it is kept already."""
    if decision.quarantine is not None and work.wire is not None:
        sheet.quarantine(envelope, work.wire, decision.quarantine, decision.reason or "")
    return decision


def _parked(context: Context, sheet: Sheet, envelope: Envelope) -> Parked:
    return Parked(
        order_id=envelope.subject,
        source=envelope.source,
        message_id=envelope.id,
        message_type=envelope.type,
        envelope=encode(envelope).body,
        parked_at=sheet.now,
        expires_at=sheet.now + context.parked_for,
    )


def _set_aside(tx: Transaction, sheet: Sheet, work: Work, error: Exception) -> Outcome:
    """A bug of ours: a message goes to the quarantine alone, a replayed one stays there, a deadline is put off, a caller is answered."""
    if isinstance(work.input, Message) and work.wire is not None:
        sheet.quarantine(work.input.envelope, work.wire, "internal_error", f"{type(error).__name__}: {error}")
    elif isinstance(work.input, DeadlineDue) and work.order_id is not None:
        sheet.put_off(work.order_id, work.input.name, _wait(tx, work.order_id, work.input.name))
    return Outcome(decision=None, order=None, error=error)


def _wait(tx: Transaction, order_id: str, name: str) -> timedelta:
    """How long a deadline of ours rests this time."""
    times = tx.put_off_counts([(order_id, name)]).get((order_id, name), 0)
    doubled: int = 2 ** min(times, 20)
    return min(PUT_OFF_FIRST * doubled, PUT_OFF_MAX)
