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

A handler writes only through `tx`: its effect, the ledger row and the reply commit together. It runs at most once for a command, unless
its transaction is rolled back; then it may run again, so it has no effect elsewhere.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator.contract import Envelope, MessageError, Wire, canonical, decode
from participants.kit import answers
from participants.kit.answers import Refusal, Reply
from participants.kit.database import Rows, is_temporary
from participants.kit.ledger import DONE, REFUSED, UNDONE, Ledger, Outgoing
from participants.kit.transport import Published

#: Times that a lone command is run when another process has written the same row meanwhile.
COLLISIONS_MAX = 3

Totals = Callable[[sa.Engine], dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, or an undo (then `undoes` is set), as a handler sees it."""

    command_id: str
    message_id: str
    order_id: str
    name: str
    data: Mapping[str, Any]
    undoes: str | None = None

    @property
    def digest(self) -> str:
        """What makes two bodies equal: type, order and data; not the attempt, which differs from copy to copy."""
        return hashlib.sha256(canonical.encode([self.name, self.order_id, dict(self.data)])).hexdigest()


class Tx:
    """The transaction of one batch, as handlers use it."""

    def __init__(self, connection: sa.Connection) -> None:
        #: For statements of your own. They do not see rows that are added or changed through `rows` in the same batch.
        self.connection = connection
        self._rows: dict[str, Rows] = {}

    def rows(self, table: sa.Table) -> Rows:
        """The rows of a table, read and written in sets."""
        if table.name not in self._rows:
            self._rows[table.name] = Rows(self.connection, table)
        return self._rows[table.name]

    def flush(self) -> None:
        """Write all rows, table by table in the order of first use."""
        for rows in self._rows.values():
            rows.flush()


Handler = Callable[[Tx, Command], Reply | Refusal]
UndoHandler = Callable[[Tx, Command], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Forward:
    handler: Handler
    refused_by: str | None


@dataclass(frozen=True, slots=True)
class _Undo:
    handler: UndoHandler
    of: str
    confirmed_by: str


@dataclass
class _Hooks:
    prepare: list[Callable[[Tx, Sequence[Command]], None]] = field(default_factory=list)
    settle: list[Callable[[], None]] = field(default_factory=list)


class Participant:
    """A name, its handlers, its ledger. Makes its ledger tables, and those of `metadata`, when they are missing."""

    def __init__(
        self,
        name: str,
        engine: sa.Engine,
        *,
        metadata: sa.MetaData | None = None,
        totals: Totals | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.engine = engine
        self.ledger = Ledger(name)
        self._totals = totals
        self._clock = clock
        self._forwards: dict[str, _Forward] = {}
        self._undos: dict[str, _Undo] = {}
        self._hooks = _Hooks()
        # Outbox ids sort by start of the process, then by place: what an earlier process left is published in its order.
        incarnation = f"{int(clock().timestamp() * 1000):014d}-{uuid4().hex[:12]}"
        self._outbox_ids = (f"{incarnation}-{place:012d}" for place in itertools.count())
        self._log = logging.getLogger(f"participants.{name}")
        for tables in (self.ledger.metadata, metadata):
            if tables is not None:
                tables.create_all(engine)

    # --- registering -------------------------------------------------------------------------------------------------

    def command(self, name: str, *, refused_by: str | None = None) -> Callable[[Handler], Handler]:
        """Register the handler of a command. `refused_by` is the event that refuses a command id reused with another body."""

        def register(handler: Handler) -> Handler:
            self._forwards[name] = _Forward(handler, refused_by)
            return handler

        return register

    def undo(self, name: str, *, of: str, confirmed_by: str) -> Callable[[UndoHandler], UndoHandler]:
        """Register what reverses the command `of`: called only when that command was done, and at most once; returns the event's data."""

        def register(handler: UndoHandler) -> UndoHandler:
            self._undos[name] = _Undo(handler, of, confirmed_by)
            return handler

        return register

    def prepare(self, hook: Callable[[Tx, Sequence[Command]], None]) -> Callable[[Tx, Sequence[Command]], None]:
        """Register what loads rows for a whole batch, so that its handlers need no select each. It gets unchecked commands."""
        self._hooks.prepare.append(hook)
        return hook

    def settled_by(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Register an effect outside the database, run at start and after every commit, before the replies leave. Must be idempotent."""
        self._hooks.settle.append(hook)
        return hook

    # --- running -----------------------------------------------------------------------------------------------------

    def handle(
        self, wires: Sequence[Wire], *, sent: Collection[str] = (), refuse: Callable[[str], bool] = lambda _command_id: False
    ) -> list[Outgoing]:
        """Handle a batch in one transaction and return the replies, which lie in the outbox; `sent` outbox rows are forgotten in it.

        A message that cannot be read, or whose handler fails, stays unanswered and is logged; its neighbours are not touched.
        `refuse(command_id)` tells to refuse a command that would be executed (a fault to rehearse).

        Raises: sqlalchemy.exc.OperationalError, InterfaceError: nothing was committed, or it is unknown; run the same batch again.
        """
        commands = [command for command in map(self._read, wires) if command is not None]
        if not commands and not sent:
            return []
        return self._commit(commands, sent, refuse)

    def settle(self) -> None:
        """Carry out effects outside the database. Raises: what they raise; run it again."""
        for hook in self._hooks.settle:
            hook()

    def unsent(self) -> list[Outgoing]:
        """Replies that were committed and not known to be published: of an earlier process, or of another one."""
        with self.engine.connect() as connection:
            return self.ledger.unsent(connection)

    def totals(self) -> dict[str, int]:
        """What the participant's own tables add up to."""
        return self._totals(self.engine) if self._totals else {}

    def _read(self, wire: Wire) -> Command | None:
        try:
            envelope = decode(wire)
        except MessageError as error:
            self._log.warning("A message cannot be read: %s", error, extra={"action": "command_malformed"})
            return None
        undo = self._undos.get(envelope.type)
        known = undo is not None or envelope.type in self._forwards
        if not known or envelope.commandid is None or (undo is not None and envelope.undoes is None):
            extra = {"action": "command_unknown", "order_id": envelope.subject, "type": envelope.type}
            self._log.warning("%s is no command of %s, or lacks commandid or undoes.", envelope.type, self.name, extra=extra)
            return None
        return _command(envelope, envelope.commandid)

    def _commit(self, commands: Sequence[Command], sent: Collection[str], refuse: Callable[[str], bool]) -> list[Outgoing]:
        """One transaction; when it fails for its content it is bisected until the culprit stands alone."""
        for collision in range(1, COLLISIONS_MAX + 1):
            try:
                with self.engine.begin() as connection:
                    return self._run(connection, commands, sent, refuse)
            except Exception as error:
                if is_temporary(error) or not commands:
                    raise
                if len(commands) > 1:
                    break
                # Alone, and another process wrote the same row first: its row is there now, so look again.
                if not isinstance(error, IntegrityError) or collision == COLLISIONS_MAX:
                    self._give_up(commands[0], error)
                    return self._commit([], sent, refuse) if sent else []
        half = len(commands) // 2
        return self._commit(commands[:half], sent, refuse) + self._commit(commands[half:], (), refuse)

    def _give_up(self, command: Command, error: Exception) -> None:
        extra = {"action": "command_failed", "order_id": command.order_id, "command_id": command.command_id}
        self._log.error("%s failed and stays unanswered.", command.name, exc_info=error, extra=extra)

    def _run(
        self, connection: sa.Connection, commands: Sequence[Command], sent: Collection[str], refuse: Callable[[str], bool]
    ) -> list[Outgoing]:
        self.ledger.forget(connection, sent)
        tx = Tx(connection)
        if commands:
            tx.rows(self.ledger.commands).load(command.undoes or command.command_id for command in commands)
            for hook in self._hooks.prepare:
                hook(tx, commands)
        replies = [self._undo(tx, command) if command.name in self._undos else self._forward(tx, command, refuse) for command in commands]
        tx.flush()
        outgoing = [Outgoing(next(self._outbox_ids), reply) for reply in replies if reply is not None]
        self.ledger.enqueue(connection, outgoing)
        return outgoing

    # --- the rules of R20 --------------------------------------------------------------------------------------------

    def _forward(self, tx: Tx, command: Command, refuse: Callable[[str], bool]) -> Published | None:
        ledger = tx.rows(self.ledger.commands)
        row = ledger.get(command.command_id)
        if row is not None and row["state"] == UNDONE:
            return self._too_late(tx, command, row)
        if row is not None:
            return self._stored(row) if row["digest"] == command.digest else self._reused(command)
        forward = self._forwards[command.name]
        if forward.refused_by is not None and refuse(command.command_id):
            answer: Reply | Refusal = Refusal(forward.refused_by, {"reason": "told_to_refuse"})
        else:
            answer = forward.handler(tx, command)
        message = self._event(answers.reply_id(command.command_id), answer.event_type, answer.data, command, self._clock())
        ledger.add(
            command_id=command.command_id,
            command_type=command.name,
            order_id=command.order_id,
            state=DONE if isinstance(answer, Reply) else REFUSED,
            digest=command.digest,
            reply_message_id=message.message_id,
            reply_type=message.event_type,
            reply=message.wire.body,
            undo_data=None,
            undone_at=None,
        )
        return message

    def _undo(self, tx: Tx, undo: Command) -> Published | None:
        """Decided by the row of the command it names, never by its own id; never refused."""
        rule = self._undos[undo.name]
        ledger = tx.rows(self.ledger.commands)
        row = ledger.get(undo.undoes)
        if row is not None and (row["command_type"], row["order_id"]) != (rule.of, undo.order_id):
            extra = {"action": "undo_mismatch", "order_id": undo.order_id, "command_id": undo.undoes}
            self._log.error("%s names a command that is not a %s of this order.", undo.name, rule.of, extra=extra)
            return None
        if row is None or row["state"] != UNDONE:
            was_done = row is not None and row["state"] == DONE
            data = {**(rule.handler(tx, undo) if was_done else {}), "order_id": undo.order_id, "reversed": was_done}
            row = self._bury(ledger, undo, rule, data)
        undone_at = canonical.parse_time(row["undone_at"])
        return self._event(answers.undo_reply_id(undo.message_id), rule.confirmed_by, canonical.load(row["undo_data"]), undo, undone_at)

    def _bury(self, ledger: Rows, undo: Command, rule: _Undo, data: dict[str, Any]) -> Mapping[str, Any]:
        """Leave `undone`: the tombstone that keeps the command from running, whenever it comes."""
        assert undo.undoes is not None
        reply = {"reply_message_id": None, "reply_type": None, "reply": None}
        undone = {"state": UNDONE, "undo_data": canonical.encode(data), "undone_at": canonical.format_time(self._clock()), **reply}
        if ledger.get(undo.undoes) is None:
            ledger.add(command_id=undo.undoes, command_type=rule.of, order_id=undo.order_id, digest=None, **undone)
        else:
            ledger.change(undo.undoes, **undone)
        row = ledger.get(undo.undoes)
        assert row is not None
        return row

    def _too_late(self, tx: Tx, command: Command, row: Mapping[str, Any]) -> Published:
        """The first such answer is stored, so that all of them are one message, byte for byte."""
        if row["reply"] is not None:
            return self._stored(row)
        message_id = answers.too_late_id(command.command_id)
        message = self._event(message_id, answers.COMMAND_TOO_LATE, {"command": command.name}, command, self._clock())
        reply = {"reply_message_id": message.message_id, "reply_type": message.event_type, "reply": message.wire.body}
        tx.rows(self.ledger.commands).change(command.command_id, **reply)
        return message

    def _reused(self, command: Command) -> Published | None:
        """The id is taken by another body: refused under an id of this copy's own, without a time, so that it repeats byte for byte."""
        extra = {"action": "command_id_reused", "order_id": command.order_id, "command_id": command.command_id}
        self._log.error("%s came with a command id that another body has used.", command.name, extra=extra)
        refused_by = self._forwards[command.name].refused_by
        if refused_by is None:
            return None
        message_id = answers.reused_id(command.message_id)
        return self._event(message_id, refused_by, {"reason": "command_id_reused"}, command, None)

    def _stored(self, row: Mapping[str, Any]) -> Published:
        return self.ledger.message(row["reply_message_id"], row["reply_type"], row["order_id"], bytes(row["reply"]))

    def _event(self, message_id: str, event_type: str, data: Mapping[str, Any], command: Command, at: datetime | None) -> Published:
        body = answers.body(
            Envelope(
                id=message_id,
                source=self.name,
                type=event_type,
                subject=command.order_id,
                time=at,
                data=data,
                commandid=command.command_id,
                causationid=command.message_id,
            )
        )
        return self.ledger.message(message_id, event_type, command.order_id, body)


def _command(envelope: Envelope, command_id: str) -> Command:
    return Command(
        command_id=command_id,
        message_id=envelope.id,
        order_id=envelope.subject,
        name=envelope.type,
        data=envelope.data,
        undoes=envelope.undoes,
    )
