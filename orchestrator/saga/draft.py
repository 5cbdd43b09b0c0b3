"""The working copy of an order while one input is decided: changes and effects are collected, then `finish` makes the Decision.

The only mutable thing in the core, alive for one call of `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.decision import Announcement, Command, Decision, Entry, Kind, Verdict
from orchestrator.saga.expression import Expression
from orchestrator.saga.inputs import Input, Message, OperatorAct, to_document
from orchestrator.saga.labels import labels_of
from orchestrator.saga.order import (
    Ask,
    Cause,
    Deadline,
    Direction,
    Order,
    Outcome,
)
from orchestrator.saga.patch import patch_of
from orchestrator.saga.rulebook import NEW, Rulebook


class Draft:
    """An order in the making. Attributes are those of `Order`."""

    def __init__(self, rulebook: Rulebook, order: Order, now: datetime) -> None:
        self.rulebook = rulebook
        self.before = order
        self.now = now
        #: Of the entry that will record this.
        self.seq = order.seq + 1
        self.order_id = order.order_id
        self.definition = order.definition
        self.version = order.version
        self.opened_at = order.opened_at
        self.updated_at = now
        self.state = order.state
        self.direction: Direction = order.direction
        self.epoch = order.epoch
        self.cause: Cause | None = order.cause
        self.outcome: Outcome | None = order.outcome
        self.goal = order.goal
        self.pivot_passed = order.pivot_passed
        self.held = order.held
        self.announced = order.announced
        self.generation = order.generation
        self.state_entered_at = order.state_entered_at
        self.data = order.data
        self.amended = order.amended
        self.labels = order.labels
        self.replies = dict(order.replies)
        self.turns = order.turns
        self.joined = order.joined
        self.parked = order.parked
        self.asks = dict(order.asks)
        self.deadlines = dict(order.deadlines)
        self.commands: list[Command] = []
        self.announcements: list[Announcement] = []
        self.answered: list[str] = []
        #: Ledger keys of effects that nobody will undo, and why a human must look.
        self.left_standing: list[str] = []
        #: The version of the definition that a migration goes to.
        self.target: Rulebook | None = None
        #: Data of the message that is decided.
        self.event: Mapping[str, Any] = {}
        self.alerts: list[str] = []
        #: The guards that were asked, and what each said.
        self.guards: list[tuple[str, bool]] = []

    def move(self, trigger: str) -> None:
        """Take a transition of the definition's machine (R3). Raises: InvariantViolated where the machine has none."""
        state = self.rulebook.move(self.state, trigger)
        if state is None:
            raise InvariantViolated(f"{self.rulebook.name}: no {trigger} from {self.state}.")
        if state != self.state:
            self.state = state
            self.state_entered_at = self.now

    def names(self) -> dict[str, Any]:
        """What expressions may name."""
        return {"order": self.facts, "replies": self.replies, "event": self.event}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The order's data as it is by now."""
        return {**self.data, **self.amended} if self.amended else self.data

    def holds(self, guard: Expression) -> bool:
        """Ask a guard. Raises: ExpressionError."""
        held = guard.holds(self.names())
        self.guards.append((guard.text, held))
        return held

    def amend(self, values: Mapping[str, Expression]) -> None:
        """Change fields of the order's data, each computed of the order as it was before. Raises: ExpressionError."""
        if values:
            names = self.names()
            self.amended = {**self.amended, **{name: expression.value(names) for name, expression in values.items()}}

    def change(self, ask: Ask, **changes: Any) -> Ask:
        """Replace an ask by one with these fields changed."""
        changed = replace(ask, **changes)
        self.asks[ask.key] = changed
        return changed

    def arm(
        self, name: str, after_ms: int, *, participant: str | None = None, command_id: str | None = None, due_at: datetime | None = None
    ) -> None:
        """Arm or re-arm a deadline. While the order is held it is kept whole (R23), but for the hold itself.

        `due_at`: when exactly, `after_ms` from here; without it the milliseconds say.
        """
        self.generation += 1
        paused = self.held and name != "hold"
        self.deadlines[name] = Deadline(
            name=name,
            generation=self.generation,
            armed_at=self.now,
            due_at=None if paused else due_at or self.now + timedelta(milliseconds=after_ms),
            remaining_ms=after_ms if paused else None,
            participant=participant,
            command_id=command_id,
        )

    def disarm(self, *names: str) -> None:
        """Take deadlines away; those that are not armed are no matter."""
        for name in names:
            self.deadlines.pop(name, None)

    def announce(self, end: str) -> None:
        """Tell the world that the order has ended, if the definition says how."""
        self.announced = True
        name = self.rulebook.announce.get(end)
        if name is not None:
            data = {
                "order_id": self.before.order_id,
                "definition": self.rulebook.name,
                "version": self.rulebook.version,
                "state": end,
                "cause": self.cause,
            }
            self.announcements.append(Announcement(name=name, data=data))

    def finish(
        self,
        input_: Input,
        verdict: Verdict,
        *,
        kind: Kind,
        name: str,
        reason: str | None = None,
        quarantine: str | None = None,
    ) -> Decision:
        """Close the draft: the new order, and the journal entry that records how it came to be."""
        entry = self._entry(input_, verdict, kind=kind, name=name, reason=reason, quarantined=quarantine is not None)
        return Decision(
            order=self._order(entry.hash),
            verdict=verdict,
            reason=reason,
            entry=entry,
            commands=tuple(self.commands),
            announcements=tuple(self.announcements),
            alerts=tuple(self.alerts),
            answered=tuple(self.answered),
            guards=tuple(self.guards),
            quarantine=quarantine,
        )

    def _order(self, head: str) -> Order:
        return Order(
            order_id=self.order_id,
            definition=self.definition,
            version=self.version,
            state=self.state,
            direction=self.direction,
            seq=self.seq,
            epoch=self.epoch,
            opened_at=self.opened_at,
            updated_at=self.updated_at,
            state_entered_at=self.state_entered_at,
            cause=self.cause,
            outcome=self.outcome,
            goal=self.goal,
            pivot_passed=self.pivot_passed,
            held=self.held,
            announced=self.announced,
            generation=self.generation,
            data=self.data,
            amended=self.amended,
            labels=self.labels,
            replies=self.replies,
            turns=self.turns,
            joined=self.joined,
            parked=self.parked,
            asks=self.asks,
            deadlines=self.deadlines,
            hash=head,
        )

    def _entry(self, input_: Input, verdict: Verdict, *, kind: Kind, name: str, reason: str | None, quarantined: bool) -> Entry:
        source = message_id = actor = None
        cause_seq = None
        if isinstance(input_, Message):
            cause_seq = input_.cause_seq
            if not quarantined and cause_seq is None:
                source, message_id = input_.envelope.source, input_.envelope.id
        elif isinstance(input_, OperatorAct):
            actor, reason = input_.actor, input_.reason
        written: dict[str, Any] = {
            "order_id": self.order_id,
            "seq": self.seq,
            "at": self.now,
            "kind": kind,
            "source": source,
            "message_id": message_id,
            "cause_seq": cause_seq,
            "name": name,
            "actor": actor,
            "reason": reason,
            "verdict": verdict,
            "from_state": None if self.before.state == NEW else self.before.state,
            "to_state": self.state,
            "input": canonical.encode(to_document(input_)),
            "patch": canonical.encode(patch_of(self.before, self)),
            "effects": canonical.encode(self._effects()),
            "prev_hash": self.before.hash,
        }
        return Entry(**written, hash=entry_hash(written))

    def _effects(self) -> dict[str, Any]:
        effects: dict[str, Any] = {}
        if self.commands:
            effects["commands"] = [_command_document(command) for command in self.commands]
        if self.announcements:
            effects["announcements"] = [{"name": a.name, "data": a.data} for a in self.announcements]
        if self.left_standing:
            effects["left_standing"] = self.left_standing
        if self.alerts:
            effects["alerts"] = self.alerts
        return effects


def blank_order(rulebook: Rulebook, order_id: str, data: Mapping[str, Any], now: datetime) -> Order:
    """The order before its first entry: state `new`, seq 0. It is never stored."""
    return Order(
        order_id=order_id,
        definition=rulebook.name,
        version=rulebook.version,
        state=NEW,
        direction="forward",
        seq=0,
        opened_at=now,
        updated_at=now,
        state_entered_at=now,
        data=data,
        labels=labels_of(rulebook.labels, data),
        replies={},
        turns={},
        asks={},
        deadlines={},
    )


def _command_document(command: Command) -> dict[str, Any]:
    document: dict[str, Any] = {
        "command_id": command.command_id,
        "participant": command.participant,
        "name": command.name,
        "attempt": command.attempt,
        "epoch": command.epoch,
        "body_seq": command.body_seq,
    }
    if command.undoes is not None:
        document["undoes"] = command.undoes
    if command.data is not None:
        document["data"] = command.data
    return document
