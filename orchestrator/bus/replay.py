"""Publishing a replay: in order, confirmed, into the queue that a participant has made for it and waits at (R29)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import pika.exceptions

from orchestrator.app.ports import Bus, BusEvent, LinkChanged, OutboxMessage, Settled
from orchestrator.bus.connection import addresses, blocking, parameters
from orchestrator.bus.trouble import NOT_FOUND, explain
from orchestrator.contract import Topology
from orchestrator.contract.replay import ReplayedCommand, ReplayedEvent, ReplayedFact, ReplayEnd, ReplayMessage, encode_replay
from orchestrator.errors import BusUnavailable, Conflict, EscrowError

#: Messages that the broker has not confirmed yet, at most, and those that are handed over at once.
WINDOW = 2_000
BATCH = 100
#: Longest wait for the link, and for the next confirm, in seconds.
PATIENCE_S = 15.0


def attach(url: str, topology: Topology, participant: str) -> None:
    """Let messages of a replay reach the queue that the participant waits at. Idempotent.

    Raises: Conflict when it waits at none; SettingsError, BusUnavailable.
    """
    nodes, queue = parameters(url), topology.replay_queue(participant)
    try:
        with blocking(nodes) as connection:
            channel = connection.channel()
            channel.queue_declare(queue, passive=True)
            channel.queue_bind(queue, topology.commands, routing_key=topology.replay_key(participant))
    except (pika.exceptions.AMQPError, OSError) as error:
        if isinstance(error, pika.exceptions.ChannelClosedByBroker) and error.reply_code == NOT_FOUND:
            raise not_waiting(participant) from error
        raise explain(error, addresses(nodes)).as_error() from error


def not_waiting(participant: str) -> Conflict:
    """The participant has no queue for a replay."""
    return Conflict(f"{participant} does not wait for a replay. Fix: start it with --new (PARTICIPANT_NEW=true) and an empty database.")


class ReplayLink:
    """Publishes through a bus of its own, which is started and closed here. Used by one thread.

    Everything is on the broker when `end` returns. A block that is left without it hands over nothing more: who waits goes on waiting.
    """

    def __init__(self, bus: Bus, topology: Topology, participant: str, *, new_id: Callable[[], str], now: Callable[[], datetime]) -> None:
        self._bus = bus
        self._exchange = topology.commands
        self._key = topology.replay_key(participant)
        self._participant = participant
        self._run_id = new_id()
        self._now = now
        self._number = 0
        self._batch: list[OutboxMessage] = []
        # Guards what the bus's thread tells.
        self._changed = threading.Condition()
        self._is_up = False
        self._unconfirmed = 0
        self._trouble: EscrowError | None = None

    def __enter__(self) -> Self:
        self._bus.start(self._hear, consume=False)
        with self._changed:
            is_up = self._changed.wait_for(lambda: self._is_up, PATIENCE_S)
        if not is_up:
            self._bus.close()
            raise BusUnavailable("The broker cannot be reached. Fix: `escrow doctor` says what is wrong.")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bus.close()

    def send(self, message: ReplayedCommand | ReplayedFact | ReplayedEvent) -> None:
        """Publish, after all before; waits while too many are not confirmed.

        Raises: Conflict when the participant does not wait any more, BusUnavailable; then run it all again.
        """
        self._add(message)
        if len(self._batch) >= BATCH:
            self._hand_over()
            self._wait(WINDOW - BATCH)

    def end(self, message: ReplayEnd) -> None:
        """Publish the end, once the broker has confirmed everything before it; returns when it has confirmed this, too.

        Whoever takes the end goes live on what came before it. Raises: as `send`; nothing is lost then but, perhaps, the end itself.
        """
        self._hand_over()
        self._wait(0)
        self._add(message)
        self._hand_over()
        self._wait(0)

    def _add(self, message: ReplayMessage) -> None:
        self._number += 1
        self._batch.append(self._outgoing(message))

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, []
        with self._changed:
            if self._trouble is not None:
                raise self._trouble
            self._unconfirmed += len(batch)
        self._bus.publish(batch)

    def _wait(self, unconfirmed_max: int) -> None:
        """Until so many are left, as long as there is progress."""
        with self._changed:
            while self._trouble is None and self._unconfirmed > unconfirmed_max:
                before = self._unconfirmed
                if not self._changed.wait_for(lambda before=before: self._trouble or self._unconfirmed < before, PATIENCE_S):  # type: ignore[misc]
                    raise BusUnavailable(f"The broker confirmed nothing for {PATIENCE_S:.0f} s. Fix: run it again when it is well.")
            if self._trouble is not None:
                raise self._trouble

    def _hear(self, event: BusEvent) -> None:
        """On the bus's thread."""
        with self._changed:
            if isinstance(event, LinkChanged):
                self._is_up = event.publishing
            elif isinstance(event, Settled):
                self._unconfirmed -= 1
                if event.outcome == "returned":
                    self._trouble = self._trouble or not_waiting(self._participant)
                elif event.outcome != "confirmed":
                    said = f"A message of the replay was {event.outcome}: the broker does not have it. Fix: run it again when it is well."
                    self._trouble = self._trouble or BusUnavailable(said)
            self._changed.notify_all()

    def _outgoing(self, message: ReplayMessage) -> OutboxMessage:
        wire, own_id = encode_replay(message), f"{self._run_id}-{self._number}"
        return OutboxMessage(
            outbox_id=own_id,
            order_id=self._participant,
            seq=self._number,
            place=0,
            command_id=None,
            participant=self._participant,
            owner=None,
            exchange=self._exchange,
            routing_key=self._key,
            message_id=own_id,
            message_type="Replay",
            content_type=wire.content_type,
            headers=wire.headers,
            body=wire.body,
            created_at=self._now(),
            mandatory=True,
        )
