"""What the messages of a replay do: tables and ledger become what they were, by the answers that were recorded then, and nothing is said.

A handler runs for what was done, so that its tables are rebuilt; whatever it would answer today, the recorded answer stands. What was
refused has its row and nothing else. What has no recorded answer is left alone: Escrow asks for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from orchestrator.contract import Envelope, canonical, event_command_id
from orchestrator.contract.replay import Outcome, ReplayedCommand, ReplayedEvent, ReplayedFact
from participants.kit import answers
from participants.kit.answers import Reply
from participants.kit.complaints import Complaints
from participants.kit.facts import Fact
from participants.kit.handlers import Command, Handlers, Tx
from participants.kit.hearing import Heard, make_heard
from participants.kit.ledger import DONE, REFUSED, UNDONE, Ledger
from participants.kit.rows import NO_REPLY, NOT_UNDONE, asked, stored
from participants.kit.rules import Rules


@dataclass(frozen=True, slots=True)
class Told:
    """One message of a replay, read: what happened, and what was answered then."""

    work: Command | Fact | Heard
    #: Of a fact its event; None: nothing is known.
    answer: Envelope | None = None
    outcome: Outcome | None = None


def read(handlers: Handlers, participant: str, message: ReplayedCommand | ReplayedFact | ReplayedEvent) -> Told | None:
    """What a message tells this participant; None when it is nothing that it does, tells or hears."""
    envelope = message.message
    match message:
        case ReplayedCommand(answer=answer, outcome=outcome):
            own_id = envelope.commandid if answer is None else answer.commandid
            for work in handlers.read(envelope):
                if isinstance(work, Command) and work.command_id == own_id:
                    recorded = None if answer is None else answer.data
                    return Told(replace(work, replayed=True, recorded=recorded), answer, outcome)
        case _ if envelope.type in handlers.facts and envelope.source == participant:
            return Told(_fact(envelope), envelope)
        case ReplayedEvent() if envelope.type in handlers.heard:
            return Told(make_heard(envelope, replayed=True))
    return None


class Rebuilding:
    """Applies one message after the other within a transaction. Coming again it changes nothing."""

    def __init__(self, ledger: Ledger, handlers: Handlers, clock: Callable[[], datetime], complaints: Complaints) -> None:
        self._ledger = ledger
        self._handlers = handlers
        self._rules = Rules(ledger, handlers, clock)
        self._clock = clock
        self._complaints = complaints

    def apply(self, tx: Tx, told: Told) -> None:
        """Let it have been."""
        work = told.work
        if isinstance(work, Heard):
            self._rules.hear(tx, work)
        elif isinstance(work, Fact):
            self._fact(tx, work, told)
        elif work.name in self._handlers.notices:
            self._rules.apply(tx, work, lambda _command_id: False)
        elif told.answer is None:
            return
        elif work.name in self._handlers.undos:
            self._undo(tx, work, told.answer)
        else:
            self._forward(tx, work, told.answer, told.outcome)

    def _forward(self, tx: Tx, command: Command, answer: Envelope, outcome: Outcome | None) -> None:
        ledger = tx.rows(self._ledger.commands)
        row = ledger.get(command.command_id)
        message = self._message(answer)
        if outcome == "too_late":
            if row is not None and row["state"] == UNDONE and row["reply"] is None:
                ledger.change(command.command_id, **stored(message))
        elif row is None and outcome == "done":
            today = self._handlers.forwards[command.name].handler(tx, command)
            self._compare(command, answer, today.data if isinstance(today, Reply) and today.event_type == answer.type else None)
            ledger.add(**asked(command), state=DONE, **stored(message), **NOT_UNDONE)
        elif row is None and outcome == "refused":
            ledger.add(**asked(command), state=REFUSED, **stored(message), **NOT_UNDONE)

    def _undo(self, tx: Tx, undo: Command, answer: Envelope) -> None:
        """Reversed when it was done; in any case the tombstone that keeps the command from running."""
        rule = self._handlers.undos[undo.name]
        ledger = tx.rows(self._ledger.commands)
        row = ledger.get(undo.undoes)
        if row is not None and row["state"] == UNDONE:
            return
        if row is not None and row["state"] == DONE:
            today = rule.handler(tx, undo)
            self._compare(undo, answer, {**today, "order_id": undo.order_id, "reversed": True})
        elif answer.data.get("reversed") is True:
            # It was done before the past that is replayed begins.
            self._compare(undo, answer, None)
        undone_at = canonical.format_time(answer.time or self._clock())
        undone = {"state": UNDONE, "undo_data": canonical.encode(dict(answer.data)), "undone_at": undone_at, **NO_REPLY}
        if row is None:
            ledger.add(command_id=undo.undoes, command_type=rule.of, order_id=undo.order_id, digest=None, **undone)
        else:
            ledger.change(undo.undoes, **undone)

    def _fact(self, tx: Tx, fact: Fact, told: Told) -> None:
        assert told.answer is not None
        ledger, facts = tx.rows(self._ledger.commands), tx.rows(self._ledger.facts)
        if facts.get(fact.message_id) is not None or ledger.get(fact.command_id) is not None:
            return
        today = self._handlers.facts[fact.name](tx, fact)
        self._compare(fact, told.answer, today)
        facts.add(message_id=fact.message_id, digest="")
        row = {"command_id": fact.command_id, "command_type": fact.name, "order_id": fact.order_id, "digest": None}
        ledger.add(**row, state=DONE, **stored(self._message(told.answer)), **NOT_UNDONE)

    def _message(self, answer: Envelope) -> Any:
        return self._ledger.message(answer.id, answer.type, answer.subject, answers.body(answer))

    def _compare(self, work: Command | Fact, recorded: Envelope, today: Mapping[str, Any] | None) -> None:
        """Say so when it would come out otherwise today; None: altogether otherwise."""
        if today is None or canonical.encode(dict(today)) != canonical.encode(dict(recorded.data)):
            said = "%s would come out otherwise today; the recorded %s stands."
            self._complaints.tell("replay_diverged", said, work.name, recorded.type, order_id=work.order_id, command_id=work.command_id)


def _fact(event: Envelope) -> Fact:
    return Fact(
        command_id=event_command_id(event.subject, event.source, event.id),
        message_id=event.id,
        order_id=event.subject,
        name=event.type,
        fact_id="",
        data=event.data,
        replayed=True,
    )
