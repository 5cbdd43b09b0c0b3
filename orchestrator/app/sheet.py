"""The sheet a batch is worked out on: the orders as they are by now, and everything that is to be written. In memory only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.app.circuit import held_by
from orchestrator.app.ports import Changes, Delivery, OutboxMessage, Parked, Quarantined, Recorded, Resolution, Resolved
from orchestrator.contract import Envelope, Topology, Wire, announcement_id, attempt_message_id, canonical, digest, encode
from orchestrator.contract.envelope import BODY_BYTES_MAX, attributes
from orchestrator.errors import InvariantViolated, MessageError
from orchestrator.saga.decision import Announcement, Command, Decision
from orchestrator.saga.inputs import Seen
from orchestrator.saga.order import Order

#: Source of everything that Escrow says.
SOURCE = "escrow"


def _digest(envelope: Envelope) -> str:
    return digest(attributes(envelope) | {"data": envelope.data})


class Sheet:
    """One batch in the making. `orders` is the present; `take` moves it on."""

    def __init__(
        self,
        topology: Topology,
        owner: str,
        new_id: Callable[[], str],
        orders: Mapping[str, Order],
        now: datetime,
        *,
        held: Collection[str] = (),
    ) -> None:
        """`held`: the participants whose commands are kept back (R8)."""
        self.now = now
        self._held = held
        self.orders: dict[str, Order] = dict(orders)
        #: (order id, source, message id) → what journals hold.
        self.recorded: Mapping[tuple[str, str, str], Recorded] = {}
        #: What this batch journals, by the same key.
        self._taken: dict[tuple[str, str, str], Envelope] = {}
        #: What is parked for orders that do not exist yet.
        self.waiting: dict[str, list[Parked]] = {}
        #: How the quarantined messages that this batch is to resolve are resolved by now; None: open.
        self.resolutions: dict[str, Resolution | None] = {}
        self._topology = topology
        self._owner = owner
        self._new_id = new_id
        self._before = dict(orders)
        self._changes = Changes()
        #: Commands to send, with the decision's seq and place, and the id of the message that caused them.
        self._commands: list[tuple[str, int, int, Command, str | None]] = []
        self._bodies: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}

    def take(self, order_id: str, decision: Decision, *, cause: Envelope | None) -> None:
        """Put down a decision: the order moves on, its entry is written, its messages go out."""
        entry, order = decision.entry, decision.order
        if entry is None or order is None:
            return
        self.orders[order_id] = order
        self._changes.entries.append(entry)
        if entry.source is not None and entry.message_id is not None and cause is not None:
            self._taken[order_id, entry.source, entry.message_id] = cause
        cause_id = cause.id if cause is not None else None
        for place, command in enumerate(decision.commands):
            if command.data is not None:
                self._bodies.setdefault((order_id, entry.seq), {})[command.command_id] = command.data
            self._commands.append((order_id, entry.seq, place, command, cause_id))
        for place, announcement in enumerate(decision.announcements, start=len(decision.commands)):
            self._changes.outbox.append(self._announcement(order_id, entry.seq, place, announcement))
        self._changes.answered.extend((order_id, command_id) for command_id in decision.answered)

    def seen(self, envelope: Envelope) -> Seen:
        """Whether this order's journal holds the message already (R15)."""
        key = (envelope.subject, envelope.source, envelope.id)
        taken = self._taken.get(key)
        recorded = self.recorded.get(key)
        known = _digest(taken) if taken is not None else recorded.digest if recorded is not None else None
        return "no" if known is None else "same" if known == _digest(envelope) else "other"

    def parked_at(self, envelope: Envelope) -> int | None:
        """The entry that parked a message in its order; None: none did, or not before this batch."""
        recorded = self.recorded.get((envelope.subject, envelope.source, envelope.id))
        return recorded.seq if recorded is not None and recorded.verdict == "parked" else None

    def park(self, parked: Parked) -> Seen:
        """Keep a message for an order that does not exist yet. Returns whether one of its source and id is kept already: it stays (R15)."""
        waiting = self.waiting.setdefault(parked.order_id, [])
        for kept in waiting:
            if (kept.source, kept.message_id) == (parked.source, parked.message_id):
                is_same = digest(canonical.load(kept.envelope)) == digest(canonical.load(parked.envelope))
                return "same" if is_same else "other"
        waiting.append(parked)
        self._changes.parked.append(parked)
        return "no"

    def unpark(self, order_id: str) -> list[Parked]:
        """What waited for an order that stands by now, in order of arrival; it waits no longer."""
        waited = self.waiting.pop(order_id, []) if order_id in self.orders else []
        self._changes.unparked.extend((order_id, parked.source, parked.message_id) for parked in waited)
        return waited

    def quarantine(self, envelope: Envelope, wire: Wire, reason: str, detail: str) -> None:
        """Keep a message that cannot be applied."""
        self._quarantine(wire, reason, detail, envelope)

    def quarantine_unreadable(self, delivery: Delivery, error: MessageError | InvariantViolated) -> None:
        """Keep a message that cannot be taken."""
        self._quarantine(delivery.wire, error.code, str(error), None)

    def resolve(self, resolved: Resolved) -> None:
        """A quarantined message is done with."""
        self.resolutions[resolved.quarantine_id] = resolved.resolution
        self._changes.resolved.append((resolved, self.now))

    def put_off(self, order_id: str, name: str, wait: timedelta) -> None:
        """Try a deadline of ours again later: deciding it raised."""
        self._changes.put_off.append((order_id, name, self.now + wait))

    def resync(self, participant: str, since: datetime | None) -> None:
        """Send a participant again what is outstanding for it."""
        self._changes.resyncs.append((participant, since))

    def await_replay(self, participant: str, request_id: str, events: tuple[str, ...]) -> None:
        """A participant lost its state, and waits for a replay."""
        self._changes.awaited_replays.append((participant, request_id, events))

    def speaking(self) -> set[str]:
        """Ids of the orders that have something to say: their older outbox rows are taken over with it (R17)."""
        return {message.order_id for message in self._changes.outbox} | {order_id for order_id, *_ in self._commands}

    def unanswered(self, messages: Sequence[OutboxMessage]) -> list[OutboxMessage]:
        """Those of the messages that this batch has not answered: the others are deleted, and need not be sent."""
        answered = set(self._changes.answered)
        return [message for message in messages if (message.order_id, message.command_id) not in answered]

    def missing_bodies(self) -> Collection[tuple[str, int]]:
        """(order id, seq) of the entries whose bodies are sent again (R6)."""
        return {
            (order_id, command.body_seq)
            for order_id, _seq, _place, command, _cause in self._commands
            if command.data is None and command.command_id not in self._bodies.get((order_id, command.body_seq), {})
        }

    def fill_bodies(self, effects: Mapping[tuple[str, int], bytes]) -> None:
        """Make the outbox rows of all commands; `effects` are those of `missing_bodies`."""
        for key, raw in effects.items():
            self._bodies[key] = {
                command["command_id"]: command["data"] for command in canonical.load(raw).get("commands", ()) if "data" in command
            }
        for order_id, seq, place, command, cause in self._commands:
            data = self._bodies[order_id, command.body_seq][command.command_id]
            self._changes.outbox.append(self._command(order_id, seq, place, command, data, cause))
        self._changes.outbox.sort(key=lambda message: (message.order_id, message.seq, message.place))

    def changes(self, confirmed: Sequence[str]) -> Changes:
        """Everything that is to be written."""
        changes = self._changes
        changes.confirmed.extend(confirmed)
        # What was parked may answer a command of this very batch: the store deletes answered rows before it writes new ones.
        changes.outbox[:] = self.unanswered(changes.outbox)
        for order_id, order in self.orders.items():
            before = self._before.get(order_id)
            if before is None:
                changes.opened.append(order)
            elif before is not order:
                changes.moved.append((order, before.seq))
                changes.before[order_id] = before
            old = before.deadlines if before is not None else {}
            if order.deadlines is not old:
                changes.armed.extend(
                    (order_id, d) for name, d in order.deadlines.items() if old.get(name) is not d and d.due_at is not None
                )
                changes.disarmed.extend(
                    (order_id, name) for name in old if name not in order.deadlines or order.deadlines[name].due_at is None
                )
        return changes

    def next_deadline_ms(self) -> int | None:
        """Time until the earliest deadline armed here."""
        due = min((d.due_at for _, d in self._changes.armed if d.due_at is not None), default=None)
        return None if due is None else max(0, int((due - self.now).total_seconds() * 1000))

    def _command(self, order_id: str, seq: int, place: int, command: Command, data: Mapping[str, Any], cause: str | None) -> OutboxMessage:
        envelope = Envelope(
            id=attempt_message_id(command.command_id, command.attempt),
            source=SOURCE,
            type=command.name,
            subject=order_id,
            time=self.now,
            data=data,
            commandid=command.command_id,
            undoes=command.undoes,
            attempt=command.attempt,
            epoch=command.epoch,
            causationid=cause,
        )
        return replace(
            self._message(order_id, seq, place, envelope, self._topology.commands, command.participant),
            command_id=command.command_id,
            participant=command.participant,
            owner=held_by(command.participant) if command.participant in self._held else self._owner,
            mandatory=True,
        )

    def _announcement(self, order_id: str, seq: int, place: int, announcement: Announcement) -> OutboxMessage:
        envelope = Envelope(
            id=announcement_id(order_id, seq, announcement.name),
            source=SOURCE,
            type=announcement.name,
            subject=order_id,
            time=self.now,
            data=announcement.data,
        )
        return self._message(order_id, seq, place, envelope, self._topology.announcements, announcement.name)

    def _message(self, order_id: str, seq: int, place: int, envelope: Envelope, exchange: str, key: str) -> OutboxMessage:
        wire = encode(envelope)
        if len(wire.body) > BODY_BYTES_MAX:
            # `sizes` sees to it that no order can come to this. Its receivers would drop the message, and nobody would hear of it.
            raise InvariantViolated(
                f"{envelope.type} of order {order_id} has {len(wire.body)} bytes; a message has at most {BODY_BYTES_MAX}."
            )
        return OutboxMessage(
            outbox_id=self._new_id(),
            order_id=order_id,
            seq=seq,
            place=place,
            command_id=None,
            participant=None,
            owner=self._owner,
            exchange=exchange,
            routing_key=key,
            message_id=envelope.id,
            message_type=envelope.type,
            content_type=wire.content_type,
            headers=wire.headers,
            body=wire.body,
            created_at=self.now,
            mandatory=False,
        )

    def _quarantine(self, wire: Wire, reason: str, detail: str, envelope: Envelope | None) -> None:
        self._changes.quarantined.append(
            Quarantined(
                quarantine_id=self._new_id(),
                reason=reason,
                detail=detail[:500],
                source=envelope.source if envelope else None,
                message_id=envelope.id if envelope else None,
                message_type=envelope.type if envelope else None,
                order_id=envelope.subject if envelope else None,
                content_type=wire.content_type,
                headers=canonical.encode({str(name): str(value) for name, value in wire.headers.items()}),
                body=wire.body,
                at=self.now,
            )
        )
