"""The rules of R20: what a command, an undo, a notice, a fact and an event of others do, decided by the ledger's rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from orchestrator.contract import Envelope, canonical
from participants.kit import answers
from participants.kit.answers import Refusal, Reply
from participants.kit.database import Rows
from participants.kit.facts import Fact, FactRefusedError
from participants.kit.handlers import Command, Handlers, Tx, Undo
from participants.kit.hearing import Heard
from participants.kit.ledger import DONE, REFUSED, UNDONE, Ledger
from participants.kit.rows import NO_REPLY, NOT_UNDONE, asked, stored
from participants.kit.transport import Published


class Rules:
    """Applies one message after the other within a transaction; each sees what the ones before it left."""

    def __init__(self, ledger: Ledger, handlers: Handlers, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._handlers = handlers
        self._clock = clock
        self._log = logging.getLogger(f"participants.{ledger.participant}")

    def apply(self, tx: Tx, command: Command | Heard, refuse: Callable[[str], bool]) -> Published | None:
        """Carry out a command, undo, notice, reaction, or what was heard, or find that it was; the answer to publish, if there is one."""
        if isinstance(command, Heard):
            self.hear(tx, command)
            return None
        if command.name in self._handlers.undos:
            return self._undo(tx, command)
        if command.name in self._handlers.notices:
            self._notice(tx, command)
            return None
        return self._forward(tx, command, refuse)

    def hear(self, tx: Tx, event: Heard) -> None:
        """Let an event of others change the tables, unless it did before."""
        known = tx.rows(self._ledger.heard)
        row = known.get(event.heard_id)
        if row is None:
            self._handlers.heard[event.name](tx, event)
            named = {"source": event.source, "message_id": event.message_id, "event_type": event.name, "digest": event.digest}
            known.add(heard_id=event.heard_id, **named)
        elif row["digest"] != event.digest:
            extra = {"action": "message_id_reused", "source": event.source, "message_id": event.message_id}
            self._log.error("%s came with a message id that another event of its source has used.", event.name, extra=extra)

    def fact(self, tx: Tx, fact: Fact) -> Published:
        """Carry out a fact that was never told before; its event. Raises: FactRefusedError when its undo came first."""
        ledger = tx.rows(self._ledger.commands)
        if ledger.get(fact.command_id) is not None:
            raise FactRefusedError(f"{fact.name} {fact.fact_id} was undone before it was reported: it counts as never having happened.")
        data = self._handlers.facts[fact.name](tx, fact)
        envelope = Envelope(
            id=fact.message_id, source=self._ledger.participant, type=fact.name, subject=fact.order_id, time=self._clock(), data=data
        )
        message = self._ledger.message(fact.message_id, fact.name, fact.order_id, answers.body(envelope))
        row = {"command_id": fact.command_id, "command_type": fact.name, "order_id": fact.order_id, "digest": fact.digest}
        ledger.add(**row, state=DONE, **stored(message), **NOT_UNDONE)
        return message

    def fact_again(self, tx: Tx, fact: Fact) -> Published | None:
        """The stored event of a fact that was told before: who tells it again may not know that it was committed. None: it is undone."""
        row = tx.rows(self._ledger.commands).get(fact.command_id)
        return self._repeated(row) if row is not None and row["state"] == DONE else None

    def _forward(self, tx: Tx, command: Command, refuse: Callable[[str], bool]) -> Published | None:
        ledger = tx.rows(self._ledger.commands)
        row = ledger.get(command.command_id)
        if row is not None and row["state"] == UNDONE:
            return self._too_late(tx, command, row)
        if row is not None:
            return self._repeated(row) if _is_same(row, command) else self._reused(command)
        forward = self._handlers.forwards[command.name]
        if forward.refused_by is not None and refuse(command.command_id):
            answer: Reply | Refusal = Refusal(forward.refused_by, {"reason": "told_to_refuse"})
        else:
            answer = forward.handler(tx, command)
        message = self._event(answers.reply_id(command.command_id), answer.event_type, answer.data, command, self._clock())
        state = DONE if isinstance(answer, Reply) else REFUSED
        ledger.add(**asked(command), state=state, **stored(message), **NOT_UNDONE)
        return message

    def _notice(self, tx: Tx, notice: Command) -> None:
        ledger = tx.rows(self._ledger.commands)
        row = ledger.get(notice.command_id)
        if row is None:
            self._handlers.notices[notice.name](tx, notice)
            ledger.add(**asked(notice), state=DONE, **NO_REPLY, **NOT_UNDONE)
        elif not _is_same(row, notice):
            self._log_reused(notice)

    def _undo(self, tx: Tx, undo: Command) -> Published | None:
        """Decided by the row of the command it names, never by its own id; never refused."""
        rule = self._handlers.undos[undo.name]
        ledger = tx.rows(self._ledger.commands)
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

    def _bury(self, ledger: Rows, undo: Command, rule: Undo, data: dict[str, Any]) -> Mapping[str, Any]:
        """Leave `undone`: the tombstone that keeps the command from running, whenever it comes."""
        assert undo.undoes is not None
        undone = {"state": UNDONE, "undo_data": canonical.encode(data), "undone_at": canonical.format_time(self._clock()), **NO_REPLY}
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
            return self._repeated(row)
        message_id = answers.too_late_id(command.command_id)
        message = self._event(message_id, answers.COMMAND_TOO_LATE, {"command": command.name}, command, self._clock())
        tx.rows(self._ledger.commands).change(command.command_id, **stored(message))
        return message

    def _reused(self, command: Command) -> Published | None:
        """The id is taken by another body: refused under an id of this copy's own, without a time, so that it repeats byte for byte."""
        self._log_reused(command)
        refused_by = self._handlers.forwards[command.name].refused_by
        if refused_by is None:
            return None
        message_id = answers.reused_id(command.message_id)
        return self._event(message_id, refused_by, {"reason": "command_id_reused"}, command, None)

    def _log_reused(self, command: Command) -> None:
        extra = {"action": "command_id_reused", "order_id": command.order_id, "command_id": command.command_id}
        self._log.error("%s came with a command id that another body has used.", command.name, extra=extra)

    def _repeated(self, row: Mapping[str, Any]) -> Published:
        return self._ledger.message(row["reply_message_id"], row["reply_type"], row["order_id"], bytes(row["reply"]))

    def _event(self, message_id: str, event_type: str, data: Mapping[str, Any], command: Command, at: datetime | None) -> Published:
        body = answers.body(
            Envelope(
                id=message_id,
                source=self._ledger.participant,
                type=event_type,
                subject=command.order_id,
                time=at,
                data=data,
                commandid=command.command_id,
                causationid=command.message_id,
            )
        )
        return self._ledger.message(message_id, event_type, command.order_id, body)


def _is_same(row: Mapping[str, Any], command: Command) -> bool:
    """Whether a row is this command's. Of an event and a command that ask for one step only name and id are the same."""
    return row["command_type"] == command.name and (None in (row["digest"], command.digest) or row["digest"] == command.digest)
