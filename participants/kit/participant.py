"""An idempotent participant: answers every copy of a command alike, and undoes by tombstone (the contract of R20).

::

    participant = Participant("inventory", engine)

    @participant.command("ReserveInventory", refused_by="InventoryRejected")
    def reserve(tx: Tx, command: Command) -> Reply | Refusal:
        tx.rows(RESERVATIONS).add(command_id=command.command_id, ...)
        return Reply("InventoryReserved", {"reservation_id": ...})

    @participant.undo("ReleaseInventory", of="ReserveInventory", confirmed_by="InventoryReleased")
    def release(tx: Tx, undo: Command) -> dict[str, Any]:
        ...the row of undo.undoes...
        return {}

    @participant.reacts_to("OrderPlaced", step="update_inventory")  # the choreographed work and Escrow's later command are one ask
    @participant.command("UpdateInventory", refused_by="InventoryRejected")
    def update(tx: Tx, command: Command) -> Reply | Refusal: ...

    @participant.fact("FundsReceived")  # told by participant.happened(...), undone as a command is
    def receive(tx: Tx, fact: Fact) -> dict[str, Any]: ...

    @participant.notice("ChaseSignatures")  # a command that nobody waits for
    def chase(tx: Tx, notice: Command) -> None: ...

    @participant.hears("StockReceived")  # an event of others that changes its own tables, whatever orders there are
    def receive(tx: Tx, event: Heard) -> None: ...

A handler writes only through `tx`: its effect, the ledger row and the reply commit together. It runs at most once for a command or fact,
unless its transaction is rolled back; then it may run again, so it has no effect elsewhere.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator.contract import RESYNC_REQUESTED, Envelope, MessageError, Wire, canonical, decode
from participants.kit import answers
from participants.kit.batch import COLLISIONS_MAX, work_off
from participants.kit.facts import Fact, FactRefusedError, NotYetError, UnknownFactError, make_fact
from participants.kit.handlers import Command, Handlers, Tx
from participants.kit.hearing import Heard
from participants.kit.ledger import Ledger, Outgoing
from participants.kit.rules import Rules
from participants.kit.transport import Published

__all__ = ["Command", "Fact", "Heard", "Participant", "Tx"]

Totals = Callable[[sa.Engine], dict[str, int]]


class Participant(Handlers):
    """A name, its handlers, its ledger. Makes its ledger tables, and those of `metadata`, when they are missing."""

    def __init__(
        self,
        name: str,
        engine: sa.Engine,
        *,
        metadata: sa.MetaData | None = None,
        totals: Totals | None = None,
        choreographed: bool = True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`choreographed`: whether it reacts to events; else it acts by command only."""
        super().__init__(choreographed=choreographed)
        self.name = name
        self.engine = engine
        self.ledger = Ledger(name)
        self._totals = totals
        self._rules = Rules(self.ledger, self, clock)
        self.clock = clock
        # Outbox ids sort by start of the process, then by place: what an earlier process left is published in its order.
        self._incarnation = f"{int(clock().timestamp() * 1000):014d}-{uuid4().hex[:12]}"
        self._places = itertools.count()
        # Events of facts, and requests, committed by other threads, that the runner has not taken yet.
        self._reported: deque[Outgoing] = deque()
        self._log = logging.getLogger(f"participants.{name}")
        for tables in (self.ledger.metadata, metadata):
            if tables is not None:
                tables.create_all(engine)

    def handle(
        self, wires: Sequence[Wire], *, sent: Collection[str] = (), refuse: Callable[[str], bool] = lambda _command_id: False
    ) -> list[Outgoing]:
        """Handle a batch in one transaction and return the replies, which lie in the outbox; `sent` outbox rows are forgotten in it.

        A message that cannot be read, or whose handler fails, stays unanswered and is logged; its neighbours are not touched.
        `refuse(command_id)` tells to refuse a command that would be executed (a fault to rehearse).

        Raises: sqlalchemy.exc.OperationalError, InterfaceError: nothing was committed, or it is unknown; run the same batch again.
        """
        items = [item for wire in wires for item in self._read(wire)]
        if not items and not sent:
            return []

        def work(connection: sa.Connection, items: Sequence[Command | Heard]) -> list[Outgoing]:
            self.ledger.forget(connection, sent)
            return self._run(connection, items, refuse)

        return work_off(self.engine, items, work, self._give_up)

    def happened(self, event_type: str, order_id: str, data: Mapping[str, Any], fact_id: str) -> str:
        """Tell of a fact: its effect, its row and its event are committed, and the runner publishes the event. Returns its message id.

        Safe for threads. Idempotent: `fact_id` is the participant's own name of the fact, unique within its type; told again, nothing but
        its event is published again. Once committed the event is published, by the next process if this one dies.

        Raises: UnknownFactError; FactRefusedError when the id was told with another order or data, or its undo came first; ValueError when
        the data makes no sense; NotYetError while it waits for a replay, for the same fact may be in it, and its effect rests on what is in
        it; sqlalchemy.exc.OperationalError, InterfaceError: nothing was committed, or it is unknown; tell it again.
        """
        if event_type not in self.facts:
            known = ", ".join(sorted(self.facts)) or "none"
            raise UnknownFactError(f"{event_type} is no fact of {self.name}. Fix: tell one of these: {known}.")
        fact = make_fact(self.name, event_type, order_id, data, fact_id)
        for collision in range(1, COLLISIONS_MAX + 1):
            try:
                with self.engine.begin() as connection:
                    outgoing = self._report(connection, fact)
                break
            except IntegrityError:
                # Told by two at once, or met by its undo: the other's row is there now, so look again.
                if collision == COLLISIONS_MAX:
                    raise
        self._reported.extend(outgoing)
        return fact.message_id

    def request_resync(self, since: datetime | None = None) -> str:
        """Ask Escrow to send again what is outstanding (R29), if it was sent since an instant (aware; None: ever). Safe for threads.

        Committed on return; the runner publishes it, or the next process if this one dies. Returns its message id. Raises: see `happened`.
        """
        with self.engine.begin() as connection:
            outgoing = self.enqueue_request(connection, {} if since is None else {"since": canonical.format_time(since)})
        self._reported.append(outgoing)
        return outgoing.message.message_id

    def enqueue_request(self, connection: sa.Connection, data: Mapping[str, Any]) -> Outgoing:
        """Put a request for a resync into the outbox."""
        envelope = Envelope(id=str(uuid4()), source=self.name, type=RESYNC_REQUESTED, subject=self.name, time=self.clock(), data=data)
        outgoing = Outgoing(self._next_outbox_id(), self.ledger.message(envelope.id, envelope.type, self.name, answers.body(envelope)))
        self.ledger.enqueue(connection, [outgoing])
        return outgoing

    def load_for(self, tx: Tx, items: Sequence[Command | Heard | Fact]) -> None:
        """Load the rows that a batch needs, in sets."""
        if heard := [item.heard_id for item in items if isinstance(item, Heard)]:
            tx.rows(self.ledger.heard).load(heard)
        if commands := [item for item in items if isinstance(item, Command)]:
            tx.rows(self.ledger.commands).load(command.undoes or command.command_id for command in commands)
            for hook in self.prepare_hooks:
                hook(tx, commands)

    def reported(self) -> list[Outgoing]:
        """Events of facts, and requests, that were committed since the last call: to be published by whoever runs the participant."""
        return [self._reported.popleft() for _ in range(len(self._reported))]

    def settle(self) -> None:
        """Carry out effects outside the database. Raises: what they raise; run it again."""
        for hook in self.settle_hooks:
            hook()

    def unsent(self) -> list[Outgoing]:
        """Replies that were committed and not known to be published: of an earlier process, or of another one."""
        with self.engine.connect() as connection:
            return self.ledger.unsent(connection)

    def totals(self) -> dict[str, int]:
        """What the participant's own tables add up to."""
        return self._totals(self.engine) if self._totals else {}

    def ledger_rows(self, after: str, limit: int) -> list[dict[str, str | None]]:
        """What it knows of commands and facts: so many, in order of command id, from the first id after `after`."""
        with self.engine.connect() as connection:
            return self.ledger.known(connection, after, limit)

    def _read(self, wire: Wire) -> list[Command | Heard]:
        try:
            envelope = decode(wire)
        except MessageError as error:
            self._log.warning("A message cannot be read: %s", error, extra={"action": "command_malformed"})
            return []
        items = self.read(envelope)
        if not items:
            extra = {"action": "command_unknown", "order_id": envelope.subject, "type": envelope.type}
            self._log.warning("%s is nothing that %s does, or lacks commandid or undoes.", envelope.type, self.name, extra=extra)
        return items

    def _give_up(self, item: Command | Heard, error: Exception) -> None:
        if isinstance(item, Heard):
            extra = {"action": "event_failed", "source": item.source, "message_id": item.message_id}
            self._log.error("%s failed and changed nothing.", item.name, exc_info=error, extra=extra)
        else:
            extra = {"action": "command_failed", "order_id": item.order_id, "command_id": item.command_id}
            self._log.error("%s failed and stays unanswered.", item.name, exc_info=error, extra=extra)

    def _run(self, connection: sa.Connection, items: Sequence[Command | Heard], refuse: Callable[[str], bool]) -> list[Outgoing]:
        tx = Tx(connection)
        self.load_for(tx, items)
        replies = [self._rules.apply(tx, item, refuse) for item in items]
        tx.flush()
        outgoing = [Outgoing(self._next_outbox_id(), reply) for reply in replies if reply is not None]
        self.ledger.enqueue(connection, outgoing)
        return outgoing

    def _report(self, connection: sa.Connection, fact: Fact) -> list[Outgoing]:
        """The event to publish; none when the fact was told before and is undone."""
        if self.ledger.awaits_replay(connection):
            raise NotYetError(f"{self.name} lost its state and waits for a replay. Fix: tell it again when /healthz says that it works.")
        tx = Tx(connection)
        told = tx.rows(self.ledger.facts).get(fact.message_id)
        if told is None:
            tx.rows(self.ledger.facts).add(message_id=fact.message_id, digest=fact.digest)
            # Written at once: whoever tells the same fact meanwhile waits here, and then collides, before a handler meets the other's rows.
            tx.flush()
            message: Published | None = self._rules.fact(tx, fact)
        elif self._is_told(tx, fact, told["digest"]):
            message = self._rules.fact_again(tx, fact)
        else:
            raise FactRefusedError(f"The id {fact.fact_id} was told for another {fact.name}. Fix: give every fact an id of its own.")
        tx.flush()
        outgoing = [] if message is None else [Outgoing(self._next_outbox_id(), message)]
        self.ledger.enqueue(connection, outgoing)
        return outgoing

    def _is_told(self, tx: Tx, fact: Fact, digest: str) -> bool:
        """Whether it was told for this fact. After a replay only the order is known of it."""
        return digest == fact.digest or (not digest and tx.rows(self.ledger.commands).get(fact.command_id) is not None)

    def _next_outbox_id(self) -> str:
        return f"{self._incarnation}-{next(self._places):012d}"
