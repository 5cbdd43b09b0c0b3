"""Checks that a participant, in any language, tells facts once and undoes them by R20. They speak CloudEvents only.

::

    for check in CHECKS:
        check(FactSubject(tell=..., talk=..., fact="FundsReceived", ...))

Every check uses order ids of its own, so one participant may be put through all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.contract import Envelope, attempt_message_id, encode, event_command_id, undo_id, undo_reply_id
from participants.kit.conformance import Talk, require

#: Tells the participant a fact (order id, data, fact id); all it published, or None when it refused.
TellFact = Callable[[str, Mapping[str, Any], str], list[Envelope] | None]


@dataclass(frozen=True, kw_only=True)
class FactSubject:
    """A participant under test, and one of its facts that can be undone."""

    name: str
    tell: TellFact
    talk: Talk
    #: The message id that a fact's event will have: (order id, fact id).
    message_id: Callable[[str, str], str]
    fact: str
    data: Mapping[str, Any]
    other_data: Mapping[str, Any]
    undo: str
    undone_on: str
    #: What its own tables add up to. Something in it changes when the fact is told.
    totals: Callable[[], Mapping[str, int]]
    prefix: str = "conformance-fact"
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def one(self) -> One:
        """A fact that nobody has told."""
        number = next(self._numbers)
        return One(self, f"{self.prefix}-{number}", f"fact-{number}")


@dataclass(frozen=True)
class One:
    """One fact of one order, and its undo."""

    subject: FactSubject
    order_id: str
    fact_id: str

    def tell(self, data: Mapping[str, Any] | None = None) -> list[Envelope] | None:
        """Tell of it; its events, which are checked, or None when it is refused."""
        events = self.subject.tell(self.order_id, self.subject.data if data is None else data, self.fact_id)
        for event in events or ():
            require(
                (event.type, event.subject, event.source) == (self.subject.fact, self.order_id, self.subject.name),
                "the event is the fact's",
            )
            require(event.id == self.subject.message_id(self.order_id, self.fact_id), "the event has the computed message id")
            require(event.commandid is None, "a fact answers no command")
        return events

    def undo(self, *, attempt: int = 1) -> Envelope:
        """Undo it, as Escrow does; the one confirmation, which is checked."""
        undoes = event_command_id(self.order_id, self.subject.name, self.subject.message_id(self.order_id, self.fact_id))
        own_id = undo_id(undoes)
        envelope = Envelope(
            id=attempt_message_id(own_id, attempt),
            source="escrow",
            type=self.subject.undo,
            subject=self.order_id,
            data={"order_id": self.order_id},
            commandid=own_id,
            undoes=undoes,
            attempt=attempt,
            epoch=0,
        )
        answers = self.subject.talk(envelope)
        require([answer.type for answer in answers] == [self.subject.undone_on], f"an undo is confirmed by one {self.subject.undone_on}")
        require(answers[0].commandid == own_id, "an answer echoes commandid")
        require(answers[0].id == undo_reply_id(envelope.id), "the confirmation's id is uuid5(message id of the undo, 'reply')")
        return answers[0]


def a_fact_told_again_is_the_same(subject: FactSubject) -> None:
    """Told, told again → one effect, and no other event."""
    one = subject.one()
    before = subject.totals()
    first = one.tell()
    require(first is not None and len(first) == 1, "a fact is told by one event")
    after = subject.totals()
    require(after != before, "a fact has its effect")
    again = one.tell()
    require(
        again is not None and all(encode(event) == encode((first or [])[0]) for event in again), "told again it is the same event, or none"
    )
    require(subject.totals() == after, "told again it has no further effect")


def an_id_of_another_fact_is_refused(subject: FactSubject) -> None:
    """The same fact id with other data → refused."""
    one = subject.one()
    one.tell()
    before = subject.totals()
    require(one.tell(subject.other_data) is None, "an id told for another fact is refused")
    require(subject.totals() == before, "and changes nothing")


def a_fact_is_reversed_once(subject: FactSubject) -> None:
    """Told, undo, undo again → reversed once, confirmed each time; told again it stays undone."""
    one = subject.one()
    one.tell()
    require(one.undo().data.get("reversed", True) is True, "an undo of a fact that was told reverses it")
    after = subject.totals()
    one.undo(attempt=2)
    require(not one.tell(), "a fact that is undone is not told again")
    require(subject.totals() == after, "it is reversed once")


def a_fact_after_its_undo_never_happened(subject: FactSubject) -> None:
    """No row, undo → confirmed; the fact is refused then, and has no effect."""
    one = subject.one()
    before = subject.totals()
    one.undo()
    require(one.tell() is None, "a fact whose undo came is refused")
    one.undo(attempt=2)
    require(subject.totals() == before, "a fact whose undo came has no effect")


CHECKS: tuple[Callable[[FactSubject], None], ...] = (
    a_fact_told_again_is_the_same,
    an_id_of_another_fact_is_refused,
    a_fact_is_reversed_once,
    a_fact_after_its_undo_never_happened,
)
