"""A house with real participants in its street: what Escrow sends reaches them at once, and what they say reaches Escrow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator.app import past
from orchestrator.app.fire import due_work
from orchestrator.app.past import Summary, Told
from orchestrator.app.ports import OutboxMessage
from orchestrator.app.work import Work
from orchestrator.contract import Envelope, Wire, decode
from orchestrator.store import past as journals_of
from participants import agent, bank, inventory, invoice, orders, payment, registry
from participants.kit.database import connect
from participants.kit.participant import Participant
from tests.app.house import House, message


def make(name: str, engine: sa.Engine, folder: Path, *, choreographed: bool) -> Participant:
    """A sample participant."""
    match name:
        case "inventory":
            return inventory.build(engine, stock={"none": 0}, choreographed=choreographed)
        case "invoice":
            return invoice.build(engine, mail_dir=folder / "mail", choreographed=choreographed)
        case "payment":
            return payment.build(engine, limit_minor=1_000)
        case _:
            builds: dict[str, Callable[[sa.Engine], Participant]] = {
                "agent": agent.build,
                "bank": bank.build,
                "orders": orders.build,
                "registry": registry.build,
            }
            return builds[name](engine)


class Street:
    """`away`: participants whose commands wait until they are back."""

    def __init__(self, house: House, folder: Path, names: tuple[str, ...], *, choreographed: bool = False) -> None:
        self.house = house
        self.away: set[str] = set()
        self._born_at = house.clock
        self.engines = {name: connect(f"sqlite:///{folder / name}.db") for name in names}
        self.participants = {name: make(name, self.engines[name], folder, choreographed=choreographed) for name in names}
        self._waiting: deque[OutboxMessage] = deque()
        self._confirmed: list[str] = []

    def say(self, *works: Work) -> None:
        """Have Escrow take these, and everybody who reacts to them; and all that follows."""
        coming = deque(works)
        while coming:
            work = coming.popleft()
            if work.delivery is not None:
                coming += self._react(work.delivery.wire)
            handled = self.house.handle(work, confirmed=self._confirmed)
            self._confirmed = [sent.outbox_id for sent in handled.outbox]
            self._waiting += [sent for sent in handled.outbox if sent.participant is not None]
            coming += self._deliver()

    def tell(self, name: str, event_type: str, order_id: str, data: dict[str, Any], fact_id: str = "") -> None:
        """A fact happens to a participant."""
        teller = self.participants[name]
        teller.happened(event_type, order_id, data, fact_id or order_id)
        self.say(*(message(decode(event.message.wire)) for event in teller.reported()))

    def come_back(self, name: str, *, backwards: bool = False) -> None:
        """Deliver what waited, or the last of it first."""
        self.away.discard(name)
        if backwards:
            self._waiting.reverse()
        self.say(*self._deliver())

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and what is due be due."""
        self.house.clock += timedelta(seconds=seconds)
        self.say(*due_work(self.house.store, 100, heard_since=self._born_at))

    def past_of(self, name: str, since: Any = None) -> tuple[list[Told], Summary]:
        """What the journals tell of a participant."""
        summary = Summary()
        journals = journals_of.journals(self.house.engine, since, batch=2)
        return list(past.tell(journals, name, self.house.registry.rulebook, since, summary)), summary

    def close(self) -> None:
        for engine in self.engines.values():
            engine.dispose()

    def _deliver(self) -> list[Work]:
        answers: list[Work] = []
        left: deque[OutboxMessage] = deque()
        for sent in self._waiting:
            if sent.participant in self.away or sent.participant not in self.participants:
                left.append(sent)
            else:
                wire = Wire(content_type=sent.content_type, headers=sent.headers, body=sent.body)
                answers += self._answers(self.participants[sent.participant], wire)
        self._waiting = left
        return answers

    def _react(self, wire: Wire) -> list[Work]:
        envelope = decode(wire)
        listeners = (one for name, one in self.participants.items() if envelope.type in one.subscriptions and name not in self.away)
        return [work for one in listeners for work in self._answers(one, wire)]

    def _answers(self, participant: Participant, wire: Wire) -> list[Work]:
        replies = participant.handle([wire])
        participant.settle()
        return [message(decode(reply.message.wire)) for reply in replies]


def event(source: str, event_type: str, order_id: str, data: dict[str, Any], **more: Any) -> Work:
    """What anybody says."""
    message_id = more.pop("message_id", f"{event_type}-{order_id}")
    return message(Envelope(id=message_id, source=source, type=event_type, subject=order_id, data=data, **more))
