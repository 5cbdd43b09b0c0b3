"""What this worker sends: what it has just committed, what came back, and what others left behind (R17). On the handler thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from orchestrator import logs
from orchestrator.app.fleet import Fleet
from orchestrator.app.ports import Bus, OutboxMessage, Settled
from orchestrator.app.protection import Protection
from orchestrator.app.relay import Relay
from orchestrator.app.work import Work
from orchestrator.errors import TemporaryError

#: More than this between a commit and its publishing, in seconds, and another worker may have taken the messages over.
_OURS_FOR_S = 1.0
#: Messages that are handed to the bus and not confirmed, at most: while the broker takes nothing, the others wait in the outbox alone.
ON_THE_WAY_MAX = 10_000

_log = logs.get(__name__)

#: Ask the database until it answers; raises TemporaryError when this process is to stop before that.
Persist = Callable[[Callable[[], Any]], Any]


class Sending:
    """Times are monotonic seconds."""

    def __init__(self, bus: Bus, fleet: Fleet, protection: Protection, *, batch_count_max: int, monotonic: Callable[[], float]) -> None:
        self._bus = bus
        self._fleet = fleet
        self._protection = protection
        self._relay = Relay()
        self._batch_count_max = batch_count_max
        self._monotonic = monotonic

    def publish(self, messages: Sequence[OutboxMessage], committed_s: float, owner: str, persist: Persist) -> None:
        """Publish what `owner` has just committed; after a pause of more than 1 s only what is still its own (R17).

        What is too much to be on the way is left to whoever sends again first.
        """
        if not messages:
            return
        if len(self._relay) + len(messages) > ON_THE_WAY_MAX:
            left = [message.outbox_id for message in messages]
            persist(lambda: self._fleet.release(owner, left))
            self._leave(left)
            return
        if self._monotonic() - committed_s > _OURS_FOR_S:
            outbox_ids = [message.outbox_id for message in messages]
            still = set(persist(lambda: self._fleet.owned(owner, outbox_ids)))
            self._leave([outbox_id for outbox_id in outbox_ids if outbox_id not in still])
            messages = [message for message in messages if message.outbox_id in still]
        self._relay.sending(messages, committed_s)
        self._bus.publish(messages)

    def adopt(self, owner: str | None, by: str, now: datetime) -> None:
        """Send what a dead worker left behind, or what was kept back, unless too much is on the way. What lay long is sent late (R5)."""
        if len(self._relay) >= ON_THE_WAY_MAX:
            return
        messages = self._fleet.adopt(owner, by, self._batch_count_max)
        if messages:
            _log.info("messages adopted", action="outbox_adopted", owner=owner, count=len(messages))
            now_s = self._monotonic()
            for message in messages:
                self._relay.sending([message], now_s - max(0.0, (now - message.created_at).total_seconds()))
            self._bus.publish(messages)

    def send_again(self, owner: str) -> None:
        """Send again what came back, is due, and is still `owner`'s."""
        due = self._relay.due_again(self._monotonic())
        if not due:
            return
        still = set(self._fleet.owned(owner, [message.outbox_id for message in due]))
        self._leave([message.outbox_id for message in due if message.outbox_id not in still])
        again = [message for message in due if message.outbox_id in still]
        self._relay.sending(again, self._monotonic())
        self._bus.publish(again)

    def leave_to_others(self, owner: str) -> None:
        """Leave what came back to the workers."""
        if waiting := self._relay.came_back():
            self._fleet.release(owner, waiting)
            self._leave(waiting)

    def settle(self, settled: Settled) -> None:
        """Note what became of a message."""
        self._relay.settle(settled, self._monotonic())
        if settled.outcome == "confirmed":
            self._protection.confirmed(settled.outbox_id)

    def late(self) -> list[Work]:
        """`SentLate` inputs, each once."""
        return self._relay.take_late()

    def confirmed(self) -> list[str]:
        """Outbox ids to delete, each once."""
        return self._relay.take_confirmed()

    def put_back_confirmed(self, confirmed: Sequence[str]) -> None:
        """The transaction that was to delete them failed."""
        self._relay.put_back_confirmed(confirmed)

    def tidy(self) -> None:
        """Delete the confirmed rows. Raises: TemporaryError: the next call tries again."""
        confirmed = self._relay.take_confirmed()
        if not confirmed:
            return
        try:
            self._fleet.forget_outbox(confirmed)
        except TemporaryError:
            self._relay.put_back_confirmed(confirmed)
            raise

    def _leave(self, outbox_ids: Sequence[str]) -> None:
        self._relay.forget(outbox_ids)
        self._protection.left_to_others(outbox_ids)
