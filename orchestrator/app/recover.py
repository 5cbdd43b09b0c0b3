"""Recovery: what the recorder has beyond a restored database is folded in, and what does not fit is handled again (R28).

First order by order: journal entries that continue the order's hash chain are folded in as they are. Then everything else is an input
again: messages that were parked for an order that is open now, and what is left, past a gap or a mismatch, with the messages, in the order
in which the recorder has them. Most of it finds itself known. An entry's own clocks are left out: the order's clocks run on in the order
as it is now.

Every step deletes what it has done with in the transaction of its effect, so a recovery can be killed and run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from orchestrator.app.culprit import bisect
from orchestrator.app.handle import Context, handle
from orchestrator.app.ports import Changes, Delivery, Parked
from orchestrator.app.record import Heard, Item, heard_of
from orchestrator.app.replay import Replay, line_of, thawed
from orchestrator.app.sheet import Sheet
from orchestrator.app.work import Handled, Outcome, Work, read
from orchestrator.contract import Wire, canonical, encode
from orchestrator.errors import DataRefused, InvariantViolated
from orchestrator.saga import inputs
from orchestrator.saga.decision import Announcement, Decision, Entry
from orchestrator.saga.inputs import Message, OperatorAct
from orchestrator.saga.order import Order, to_document

#: Orders folded in one transaction, and inputs handled in one.
PAGE = 200
#: Uncertainties that are told one by one.
TOLD_MAX = 100

#: Content type of an entry's input.
_JSON = "application/json"

#: Offset in the recorder, and place within its message.
Key = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """One item of the recorder, laid down in the database until it is done with."""

    key: Key
    item: Item


class Shelf(Protocol):
    """Where the items lie. An item is there until it was folded in, or handled."""

    def orders(self, after: str, limit: int) -> list[str]:
        """The next orders, by id, that entries are there of."""

    def entries(self, order_ids: Collection[str]) -> dict[str, list[Staged]]:
        """Their entries, by seq, and of one seq as the recorder has them."""

    def journaled(self, order_ids: Collection[str]) -> Mapping[tuple[str, int], str]:
        """(order id, seq) → hash, of what their journals hold at the places of these entries."""

    def waiting(self, limit: int) -> list[Parked]:
        """Messages that are parked for an order that there is by now: of each order in order of arrival."""

    def items(self, limit: int) -> list[Staged]:
        """The next items in the order of the recorder, whatever they are."""

    def seq(self, order_id: str) -> int:
        """Where an order stands; 0: there is none."""

    def acts(self, order_id: str) -> Collection[str]:
        """Hashes of the acts in an order's journal, and of the lost entries that they repeat."""

    def forget(self, keys: Collection[Key]) -> None:
        """These are done with."""


@dataclass(slots=True)
class Tally:
    """What a recovery did."""

    #: Entries folded in, and those that the journal had already, or an act of its that repeats them.
    folded: int = 0
    known: int = 0
    #: Orders that these opened, and moved on.
    opened: int = 0
    moved: int = 0
    #: Messages that were handled again, by what became of them: a verdict, or `quarantined`.
    messages: Counter[str] = field(default_factory=Counter)
    #: Acts of operators that were done again.
    acts: int = 0
    #: What a human should look at: (order id, what).
    uncertain: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0

    def doubt(self, order_id: str, what: str) -> None:
        """Something that may not be as it was."""
        if len(self.uncertain) < TOLD_MAX:
            self.uncertain.append((order_id, what))
        else:
            self.more += 1


def fold_in(context: Context, shelf: Shelf, tally: Tally, done: Callable[[int], None]) -> None:
    """Fold in what continues the chains, order by order. `done` is told how many entries it went through. Raises: TemporaryError."""
    after = ""
    while order_ids := shelf.orders(after, PAGE):
        staged, journaled = shelf.entries(order_ids), shelf.journaled(order_ids)
        with context.store.transaction() as tx:
            found = tx.lock_orders(order_ids)
            sheet = Sheet(context.topology, context.owner, context.new_id, found, tx.now())
            keys = [key for order_id in order_ids for key in _continue(sheet, order_id, staged[order_id], journaled, tally)]
            changes = sheet.changes(())
            changes.recovered.extend(keys)
            changes.answered.extend(answered for order in sheet.orders.values() for answered in _answered(order))
            tx.write(changes)
        tally.opened += len(changes.opened)
        tally.moved += len(changes.moved)
        done(sum(map(len, staged.values())))
        after = order_ids[-1]


def handle_again(context: Context, shelf: Shelf, tally: Tally, done: Callable[[int], None], *, require_user_id: bool) -> None:
    """Take what is left as inputs: what waited for its order, then the items as the recorder has them. `done`: see `fold_in`.

    Raises: TemporaryError.
    """
    while waiting := shelf.waiting(PAGE):
        _note(_handle(context, [_waited(parked, require_user_id=require_user_id) for parked in waiting]), tally)
        _unpark(context, waiting)
    while staged := shelf.items(PAGE):
        for works in _batches(staged, shelf, tally, require_user_id=require_user_id):
            _note(_handle(context, works), tally)
        shelf.forget([one.key for one in staged])
        done(len(staged))


def _unpark(context: Context, waiting: Sequence[Parked]) -> None:
    """These wait no longer: their orders have them, or the quarantine."""
    with context.store.transaction() as tx:
        tx.lock_orders({parked.order_id for parked in waiting})
        tx.write(Changes(unparked=[(parked.order_id, parked.source, parked.message_id) for parked in waiting]))


def _continue(
    sheet: Sheet, order_id: str, staged: Sequence[Staged], journaled: Mapping[tuple[str, int], str], tally: Tally
) -> Iterator[Key]:
    """Fold entries into an order; the keys of those that are done with."""
    order = sheet.orders.get(order_id)
    # Through bytes: replaying changes the document in place, and it shares its parts with the order.
    replay = Replay(order_id, None if order is None else canonical.load(canonical.encode(to_document(order))))
    taken: dict[int, Entry] = {}
    for one in staged:
        entry = one.item
        assert isinstance(entry, Entry)
        there = taken[entry.seq].hash if entry.seq in taken else journaled.get((order_id, entry.seq))
        if there == entry.hash:
            tally.known += entry.seq not in taken
            yield one.key
        elif there is None and _fits(replay, entry):
            taken[entry.seq] = entry
            yield one.key
    if taken:
        after = thawed(replay)
        for entry in taken.values():
            decision = Decision(order=after, verdict=entry.verdict, entry=entry, announcements=_announced(entry))
            sheet.take(order_id, decision, cause=None)
    tally.folded += len(taken)


def _fits(replay: Replay, entry: Entry) -> bool:
    try:
        replay.take(line_of(entry))
    except InvariantViolated:
        return False
    return True


def _announced(entry: Entry) -> tuple[Announcement, ...]:
    """What the entry announced: whether anybody heard it is not known, so it is announced again, under the same message id."""
    return tuple(Announcement(**announcement) for announcement in canonical.load(entry.effects).get("announcements", ()))


def _answered(order: Order) -> Iterator[tuple[str, str]]:
    """The commands of an order that nobody waits for any more: they may lie in the restored outbox."""
    for ask in order.asks.values():
        if not ask.is_awaited:
            yield order.order_id, ask.command_id


def _batches(staged: Sequence[Staged], shelf: Shelf, tally: Tally, *, require_user_id: bool) -> Iterator[list[Work]]:
    """The inputs, in order: messages together, each act alone, as it is done on the order as it stands then, and not if it was before."""
    messages: list[Work] = []
    for one in staged:
        work = _work(one, require_user_id=require_user_id)
        if work is None:
            continue
        if not isinstance(work.input, OperatorAct):
            messages.append(work)
            continue
        if messages:
            yield messages
            messages = []
        assert work.order_id is not None
        if work.input.repeats in shelf.acts(work.order_id):
            tally.known += 1
        else:
            yield [replace(work, input=replace(work.input, seq=shelf.seq(work.order_id)))]
    if messages:
        yield messages


def _work(one: Staged, *, require_user_id: bool) -> Work | None:
    """An item as an input; None: a clock's. One that cannot be made an input is for the quarantine."""
    try:
        return _input(one, require_user_id=require_user_id)
    except Exception as error:  # noqa: BLE001  # whatever a message of anybody's holds, the others are recovered
        heard = one.item if isinstance(one.item, Heard) else Heard(wire=Wire(content_type=_JSON, headers={}, body=one.item.input))
        unreadable = InvariantViolated(f"It cannot be recovered: {type(error).__name__}: {error}")
        return Work(order_id=None, input=None, delivery=_delivery(heard), unreadable=unreadable, recovered=one.key)


def _input(one: Staged, *, require_user_id: bool) -> Work | None:
    if isinstance(one.item, Heard):
        return replace(_read(one.item, require_user_id=require_user_id), recovered=one.key)
    input_ = inputs.from_document(canonical.load(one.item.input))
    if isinstance(input_, OperatorAct):
        lost = replace(input_, repeats=input_.repeats or one.item.hash)
        return Work(order_id=one.item.order_id, input=lost, recovered=one.key)
    if isinstance(input_, Message):
        # It was taken from its source once.
        heard = Heard(wire=encode(input_.envelope), user_id=input_.envelope.source)
        return replace(_read(heard, require_user_id=require_user_id), recovered=one.key)
    return None


def _waited(parked: Parked, *, require_user_id: bool) -> Work:
    """A parked message as an input. The journal may have it, for the order took it when it opened: then it is a duplicate."""
    return _read(heard_of(parked), require_user_id=require_user_id)


def _read(heard: Heard, *, require_user_id: bool) -> Work:
    return read(_delivery(heard), require_user_id=require_user_id)


def _delivery(heard: Heard) -> Delivery:
    """As the bus gives it; nobody acks it."""
    return Delivery(wire=heard.wire, tag=0, link_epoch=0, redelivered=True, user_id=heard.user_id)


def _handle(context: Context, works: list[Work]) -> Handled:
    try:
        return handle(context, works)
    except (DataRefused, InvariantViolated) as error:
        return bisect(works, error, lambda half: _handle(context, half), lambda *_: None)


def _note(handled: Handled, tally: Tally) -> None:
    for work, outcome in handled.outcomes:
        if work.parked is not None:
            continue  # it waited for an order that was opened by what is counted
        order_id = work.order_id or "-"
        if isinstance(work.input, OperatorAct):
            if reason := _undone(outcome):
                tally.doubt(order_id, f"{work.input.act} by {work.input.actor} was not done again: {reason}")
            else:
                tally.acts += 1
        elif outcome.decision is None or outcome.decision.quarantine is not None:
            tally.messages["quarantined"] += 1
            tally.doubt(order_id, f"a message was quarantined: {outcome.error or (outcome.decision and outcome.decision.reason)}")
        else:
            tally.messages[outcome.decision.verdict] += 1


def _undone(outcome: Outcome) -> str | None:
    """Why an act was not done; None: it was."""
    decision = outcome.decision
    if outcome.error is not None or decision is None:
        return str(outcome.error)
    return None if decision.problem is None and decision.verdict == "moved" else decision.reason or decision.verdict
