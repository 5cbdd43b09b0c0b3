"""A participant that lost its state waits for a replay before it takes a live command (R29)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from orchestrator.contract import MessageError, Wire
from orchestrator.contract.replay import ReplayEnd, decode_replay
from participants.kit.batch import work_off
from participants.kit.complaints import Complaints
from participants.kit.facts import Fact
from participants.kit.handlers import Tx
from participants.kit.hearing import Heard
from participants.kit.ledger import Outgoing
from participants.kit.participant import Participant
from participants.kit.rebuilding import Rebuilding, Told, read

#: `waiting`: no live command is taken. `ended`: the state is rebuilt, and the queue is to go. `over`: all is as ever.
State = Literal["waiting", "ended", "over"]

#: Why the state is to be rebuilt: the participant is new. The only cause there is.
_NEW: Final = "new"
#: Rows of a ledger that are counted: enough to tell one that has just begun.
_ROWS_COUNTED_MAX = 1_000


class Replay:
    """What is durable of it: that it is waited for, and under which request; and that it has come to its end."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._table = participant.ledger.replay
        self._log = logging.getLogger(f"participants.{participant.name}")
        self._complaints = Complaints(self._log)
        self._rebuilding = Rebuilding(participant.ledger, participant, participant.clock, self._complaints)

    def begin(self, *, new: bool) -> bool:
        """Whether a replay comes first: one is not over, or the participant is said to be `new` and knows nothing.

        The latter is remembered, and asks for what is outstanding, naming the events that it hears: once, whatever processes begin.
        Raises: sqlalchemy.exc.OperationalError, InterfaceError: try again.
        """
        try:
            with self._participant.engine.begin() as connection:
                return self._begin(connection, new=new)
        except IntegrityError:
            # Another process of the participant began at the same time.
            return self.state != "over"

    @property
    def state(self) -> State:
        """How far it has come."""
        with self._participant.engine.connect() as connection:
            return self._read(connection)[0]

    def handle(self, wires: Sequence[Wire]) -> bool:
        """Apply a batch in order, up to the end if that is in it; whether it was.

        A message that cannot be read, or whose handler fails, is logged and left out; its neighbours are not touched. Idempotent.
        Raises: sqlalchemy.exc.OperationalError, InterfaceError: nothing was committed, or it is unknown; run the same batch again.
        """
        with self._participant.engine.connect() as connection:
            _, request_id = self._read(connection)
        told: list[Told] = []
        end: ReplayEnd | None = None
        for wire in wires:
            found = self._decode(wire)
            if isinstance(found, ReplayEnd):
                if found.request_id == request_id:
                    end = found
                    break
                self._log.warning("A replay ended that was asked for before; it waits for its own.", extra={"action": "replay_of_others"})
            elif found is not None:
                told.append(found)
        if told:
            work_off(self._participant.engine, told, self._work, self._give_up)
        if end is not None:
            self._note("ended")
            self._complaints.sum_up()
            extra = {"action": "replay_ended"}
            said = "The replay has ended: %d commands and undos, %d facts, %d events of others."
            self._log.info(said, end.commands, end.facts, end.events, extra=extra)
        return end is not None

    def close(self) -> None:
        """Its queue is gone: from now on all is as ever. Idempotent."""
        self._note("over")

    def _begin(self, connection: sa.Connection, *, new: bool) -> bool:
        if connection.execute(sa.select(self._table.c.cause)).one_or_none() is not None:
            is_over = self._read(connection)[0] == "over"
            if new and is_over:
                self._tell_not_new(connection)
            return not is_over
        if not new:
            return False
        if not self._participant.ledger.is_empty(connection):
            self._tell_not_new(connection)
            return False
        request = self._participant.enqueue_request(connection, {"events": sorted(self._participant.hearing)})
        connection.execute(sa.insert(self._table).values(cause=_NEW, request_id=request.message.message_id, state="waiting"))
        self._log.info("It is new: it takes no command before its state is replayed.", extra={"action": "replay_awaited"})
        return True

    def _tell_not_new(self, connection: sa.Connection) -> None:
        """No warning: the flag may stay on for ever. Whoever meant it sees by the number whether this is the ledger of old."""
        rows = self._participant.ledger.size(connection, _ROWS_COUNTED_MAX)
        number = f"more than {_ROWS_COUNTED_MAX}" if rows > _ROWS_COUNTED_MAX else str(rows)
        said = "It was started as new, and has a ledger of %s rows: an ordinary start. Fix if it lost its state: empty its database first."
        self._log.info(said, number, extra={"action": "not_new"})

    def _read(self, connection: sa.Connection) -> tuple[State, str | None]:
        row = connection.execute(sa.select(self._table)).one_or_none()
        return ("over", None) if row is None else (row.state, row.request_id)

    def _note(self, state: State) -> None:
        # Never back: a process that is slow must not make another's replay begin anew.
        is_on = self._table.c.state != "over"
        with self._participant.engine.begin() as connection:
            connection.execute(sa.update(self._table).where(is_on).values(state=state))

    def _decode(self, wire: Wire) -> Told | ReplayEnd | None:
        try:
            message = decode_replay(wire)
        except MessageError as error:
            self._complaints.tell("replay_malformed", "A message of the replay cannot be read: %s", error, level=logging.ERROR)
            return None
        if isinstance(message, ReplayEnd):
            return message
        told = read(self._participant, self._participant.name, message)
        if told is None:
            said = "%s is nothing that %s does, tells or hears."
            self._complaints.tell("replay_unknown", said, message.message.type, self._participant.name, order_id=message.message.subject)
        return told

    def _work(self, connection: sa.Connection, told: Sequence[Told]) -> list[Outgoing]:
        tx = Tx(connection)
        self._participant.load_for(tx, [each.work for each in told])
        for each in told:
            self._rebuilding.apply(tx, each)
        tx.flush()
        return []

    def _give_up(self, told: Told, error: Exception) -> None:
        work = told.work
        which = {"message_id": work.message_id} if isinstance(work, Heard | Fact) else {"command_id": work.command_id}
        subject = work.subject if isinstance(work, Heard) else work.order_id
        said = "%s of the replay failed and is left out."
        self._complaints.tell("replay_failed", said, work.name, level=logging.ERROR, error=error, order_id=subject, **which)
