"""Checks that a participant, in any language, keeps the contract of R20. They speak CloudEvents only.

::

    for check in CHECKS:
        check(Subject(talk=..., command="ReserveInventory", ...))

Every check uses order ids of its own, so one participant may be put through all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.contract import (
    COMMAND_TOO_LATE,
    Envelope,
    attempt_message_id,
    encode,
    first_command_id,
    undo_id,
    undo_reply_id,
)

#: Sends one command to the participant, or has it hear one event, and returns all it published in answer to it.
Talk = Callable[[Envelope], list[Envelope]]


class NotConforming(AssertionError):
    """The participant breaks the contract."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A participant under test, and what to ask of it."""

    name: str
    talk: Talk
    command: str
    #: Data that it does, and data that it refuses.
    data: Mapping[str, Any]
    refused_data: Mapping[str, Any]
    done_on: str
    refused_on: str
    #: None: the command cannot be undone.
    undo: str | None
    undone_on: str | None
    #: What its own tables add up to. Something in it changes when a command is done.
    totals: Callable[[], Mapping[str, int]]
    #: The event that it takes as the command of `step`, and the event's data. None: it acts by command only.
    reacts_to: str | None = None
    event_data: Mapping[str, Any] = field(default_factory=dict)
    step: str = "step"
    prefix: str = "conformance"
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def order(self) -> Ask:
        """An order that nobody has used."""
        order_id = f"{self.prefix}-{next(self._numbers)}"
        return Ask(self, order_id, first_command_id(order_id, self.step))


@dataclass(frozen=True)
class Ask:
    """One command of one order, and its undo."""

    subject: Subject
    order_id: str
    command_id: str

    def command(self, *, attempt: int = 1, data: Mapping[str, Any] | None = None) -> Envelope:
        """The command, not sent."""
        body = self.subject.data if data is None else data
        return self._envelope(self.subject.command, self.command_id, attempt, {"order_id": self.order_id, **body}, None)

    def reversal(self, *, attempt: int = 1) -> Envelope:
        """Its undo, not sent."""
        assert self.subject.undo is not None
        return self._envelope(self.subject.undo, undo_id(self.command_id), attempt, {"order_id": self.order_id}, self.command_id)

    def ask(self, *, attempt: int = 1, data: Mapping[str, Any] | None = None) -> Envelope:
        """Send the command; the one answer."""
        return self._only(self.command(attempt=attempt, data=data))

    def hear(self) -> list[Envelope]:
        """Have it hear the event that it reacts to; every answer, of which there may be none, or copies of one."""
        assert self.subject.reacts_to is not None
        data = {"order_id": self.order_id, **self.subject.event_data}
        event = Envelope(id=f"event-{self.order_id}", source="somebody", type=self.subject.reacts_to, subject=self.order_id, data=data)
        answers = self.subject.talk(event)
        for answer in answers:
            self._require_ours(answer)
        return answers

    def undo(self, *, attempt: int = 1) -> Envelope:
        """Send the undo; the one confirmation, which is checked: type, and a message id of its own."""
        sent = self.reversal(attempt=attempt)
        confirmation = self._only(sent)
        require(confirmation.type == self.subject.undone_on, f"an undo is confirmed by {self.subject.undone_on}, not {confirmation.type}")
        require(confirmation.id == undo_reply_id(sent.id), "the confirmation's id is uuid5(message id of the undo, 'reply')")
        return confirmation

    def _envelope(self, name: str, own_id: str, attempt: int, data: Mapping[str, Any], undoes: str | None) -> Envelope:
        message_id = attempt_message_id(own_id, attempt)
        envelope = Envelope(id=message_id, source="escrow", type=name, subject=self.order_id, data=data, commandid=own_id)
        return replace(envelope, attempt=attempt, epoch=0, undoes=undoes)

    def _only(self, sent: Envelope) -> Envelope:
        answers = self.subject.talk(sent)
        require(len(answers) == 1, f"one answer to {sent.type}, not {len(answers)}")
        answer = answers[0]
        require(answer.commandid == sent.commandid, "an answer echoes commandid")
        require(answer.subject == self.order_id, "an answer's subject is the order")
        require(answer.source == self.subject.name, "an answer's source is the participant")
        return answer

    def _require_ours(self, answer: Envelope) -> None:
        require(answer.commandid == self.command_id, "an answer to an event carries the command id of the step's first ask")
        require(answer.subject == self.order_id, "an answer's subject is the order")


def require(holds: bool, rule: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Raises: NotConforming with the rule that is broken."""
    if not holds:
        raise NotConforming(rule)


def _same(one: Envelope, other: Envelope) -> bool:
    return encode(one) == encode(other)


def a_copy_is_answered_with_the_stored_reply(subject: Subject) -> None:
    """done, command again → the same message, byte for byte; not executed."""
    order = subject.order()
    first = order.ask()
    require(first.type == subject.done_on, f"a command that can be done is answered {subject.done_on}, not {first.type}")
    before = subject.totals()
    require(_same(first, order.ask()), "a copy of a done command is answered with the same message")
    require(_same(first, order.ask(attempt=2)), "another attempt of a done command is answered with the same message")
    require(subject.totals() == before, "a copy is not executed")


def a_refusal_stands(subject: Subject) -> None:
    """refused, command again → the same refusal."""
    order = subject.order()
    before = subject.totals()
    first = order.ask(data=subject.refused_data)
    require(first.type == subject.refused_on, f"it is answered {subject.refused_on}, not {first.type}")
    require(_same(first, order.ask(attempt=2, data=subject.refused_data)), "a copy of a refused command gets the same message")
    require(subject.totals() == before, "a refusal changes nothing")


def an_id_with_another_body_is_refused(subject: Subject) -> None:
    """Done or refused, same id, other body → refused, under another message id; the stored reply stays."""
    order = subject.order()
    first = order.ask()
    before = subject.totals()
    other = order.ask(attempt=2, data={**subject.data, "other": True})
    require(other.type == subject.refused_on, "an id reused with another body is refused")
    require(other.id != first.id, "that refusal is a message of its own")
    require(_same(other, order.ask(attempt=2, data={**subject.data, "other": True})), "and always the same one")
    require(_same(first, order.ask()), "the right body still gets the stored reply")
    require(subject.totals() == before, "an id reused with another body is not executed")


def an_undo_reverses_once(subject: Subject) -> None:
    """done, undo, undo again → reversed once, confirmed each time."""
    order = subject.order()
    order.ask()
    order.undo()
    after = subject.totals()
    confirmation = order.undo()
    require(_same(confirmation, order.undo()), "copies of one undo are confirmed by one message, byte for byte")
    require(order.undo(attempt=2).id != confirmation.id, "another attempt of the undo is confirmed under an id of its own")
    require(subject.totals() == after, "an undo is carried out once")


def a_command_after_its_undo_is_too_late(subject: Subject) -> None:
    """Undone (was done), command → CommandTooLate, not executed."""
    order = subject.order()
    order.ask()
    order.undo()
    _is_too_late(order)


def an_undo_may_come_first(subject: Subject) -> None:
    """No row, undo → confirmed; the tombstone answers the command CommandTooLate."""
    order = subject.order()
    before = subject.totals()
    order.undo()
    require(subject.totals() == before, "an undo of a command that never came changes nothing")
    _is_too_late(order)


def a_refused_command_can_be_undone(subject: Subject) -> None:
    """refused, undo → confirmed, nothing changed; then CommandTooLate."""
    order = subject.order()
    before = subject.totals()
    order.ask(data=subject.refused_data)
    order.undo()
    require(subject.totals() == before, "an undo of a refused command changes nothing")
    _is_too_late(order)


def _is_too_late(order: Ask) -> None:
    before = order.subject.totals()
    late = order.ask(attempt=3)
    require(late.type == COMMAND_TOO_LATE, f"a command whose undo came is answered {COMMAND_TOO_LATE}, not {late.type}")
    require(_same(late, order.ask(attempt=4)), f"{COMMAND_TOO_LATE} of one command is one message, byte for byte")
    require(order.undo(attempt=5).type == order.subject.undone_on, "and its undo is confirmed as ever")
    require(order.subject.totals() == before, "a command whose undo came is not executed")


def an_event_and_its_command_are_one_ask(subject: Subject) -> None:
    """Event, then command, whose body may be another → the stored reply; done once. And the event again."""
    order = subject.order()
    heard = order.hear()
    require([answer.type for answer in heard] == [subject.done_on], f"the event is answered by one {subject.done_on}")
    before = subject.totals()
    require(_same(heard[0], order.ask()), "the command after the event is answered with the stored reply")
    require(_same(heard[0], order.ask(attempt=2, data={**subject.data, "other": True})), "whatever its body")
    require(all(_same(heard[0], answer) for answer in order.hear()), "the event again says nothing else")
    require(subject.totals() == before, "what the event did is not done again")


def an_event_after_its_command_does_nothing(subject: Subject) -> None:
    """Command, then event → nothing, or the stored reply."""
    order = subject.order()
    first = order.ask()
    before = subject.totals()
    require(all(_same(first, answer) for answer in order.hear()), "an event whose command came first says nothing else")
    require(subject.totals() == before, "what the command did is not done again")


def an_event_after_its_undo_does_nothing(subject: Subject) -> None:
    """Undo, then event → nothing, or CommandTooLate; not executed."""
    order = subject.order()
    order.undo()
    before = subject.totals()
    require(all(answer.type == COMMAND_TOO_LATE for answer in order.hear()), "an event whose undo came is not answered, or as a command")
    require(subject.totals() == before, "an event whose undo came is not worked off")


def what_an_event_did_can_be_undone(subject: Subject) -> None:
    """Event, then undo → reversed; then CommandTooLate."""
    order = subject.order()
    order.hear()
    after = order.undo()
    require(after.data.get("reversed", True) is True, "what an event did is reversed")
    _is_too_late(order)


#: For every participant.
FORWARD_CHECKS: tuple[Callable[[Subject], None], ...] = (
    a_copy_is_answered_with_the_stored_reply,
    a_refusal_stands,
    an_id_with_another_body_is_refused,
)
#: For those whose command can be undone.
UNDO_CHECKS: tuple[Callable[[Subject], None], ...] = (
    an_undo_reverses_once,
    a_command_after_its_undo_is_too_late,
    an_undo_may_come_first,
    a_refused_command_can_be_undone,
)
#: For those that react to an event.
REACTION_CHECKS: tuple[Callable[[Subject], None], ...] = (
    an_event_and_its_command_are_one_ask,
    an_event_after_its_command_does_nothing,
)
#: For those that react to an event and can be undone: every watched step is.
REACTION_UNDO_CHECKS: tuple[Callable[[Subject], None], ...] = (
    an_event_after_its_undo_does_nothing,
    what_an_event_did_can_be_undone,
)
CHECKS = FORWARD_CHECKS + UNDO_CHECKS + REACTION_CHECKS + REACTION_UNDO_CHECKS


def checks(subject: Subject) -> tuple[Callable[[Subject], None], ...]:
    """Those that apply."""
    undoes, reacts = subject.undo is not None, subject.reacts_to is not None
    return (
        FORWARD_CHECKS
        + (UNDO_CHECKS if undoes else ())
        + (REACTION_CHECKS if reacts else ())
        + (REACTION_UNDO_CHECKS if undoes and reacts else ())
    )
