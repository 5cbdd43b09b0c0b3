"""The relay: what this worker has published and the broker has not yet confirmed. Bookkeeping only; the line does the sending.

Rows are deleted once confirmed, with the next batch. A command confirmed more than 1 s after its commit becomes an input `SentLate` (R5). A
message that was returned, refused or lost stays in the outbox and is sent again with capped backoff (R17).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.app.ports import OutboxMessage, Settled
from orchestrator.app.work import Work
from orchestrator.saga.inputs import SentLate

#: A confirm later than this after the commit re-arms the deadline, in seconds.
LATE_AFTER_S = 1.0
#: Waits before sending again what came back: the first and the longest, in seconds.
AGAIN_FIRST_S, AGAIN_MAX_S = 0.5, 30.0


@dataclass(slots=True)
class _Sent:
    message: OutboxMessage
    committed_s: float
    failures: int = 0
    again_s: float | None = None


class Relay:
    """Not thread-safe: it belongs to the handler thread. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}
        self._confirmed: list[str] = []
        self._late: list[Work] = []

    def __len__(self) -> int:
        return len(self._sent)

    def sending(self, messages: Iterable[OutboxMessage], at_s: float) -> None:
        """These are handed to the bus now; their transaction was committed at `at_s`."""
        for message in messages:
            known = self._sent.get(message.outbox_id)
            if known is None:
                self._sent[message.outbox_id] = _Sent(message, at_s)
            else:
                known.again_s = None

    def settle(self, settled: Settled, at_s: float) -> bool:
        """Note what became of a message. Returns whether the broker took it."""
        sent = self._sent.get(settled.outbox_id)
        if sent is None:
            return settled.outcome == "confirmed"
        if settled.outcome != "confirmed":
            sent.failures += 1
            sent.again_s = at_s + min(AGAIN_MAX_S, AGAIN_FIRST_S * 2 ** (sent.failures - 1))
            return False
        del self._sent[settled.outbox_id]
        self._confirmed.append(settled.outbox_id)
        command_id = sent.message.command_id
        if command_id is not None and at_s - sent.committed_s > LATE_AFTER_S:
            self._late.append(Work(order_id=sent.message.order_id, input=SentLate(command_id=command_id)))
        return True

    def take_confirmed(self) -> list[str]:
        """Outbox ids to delete, each once."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def put_back_confirmed(self, confirmed: Iterable[str]) -> None:
        """The transaction that was to delete them failed."""
        self._confirmed.extend(confirmed)

    def take_late(self) -> list[Work]:
        """`SentLate` inputs, each once."""
        late, self._late = self._late, []
        return late

    def due_again(self, at_s: float) -> list[OutboxMessage]:
        """What came back and whose wait is over, in journal order per order."""
        due = [sent.message for sent in self._sent.values() if sent.again_s is not None and sent.again_s <= at_s]
        return sorted(due, key=lambda message: (message.order_id, message.seq, message.place))

    def came_back(self) -> list[str]:
        """Outbox ids of everything that is waiting to be sent again."""
        return [outbox_id for outbox_id, sent in self._sent.items() if sent.again_s is not None]

    def forget(self, outbox_ids: Iterable[str]) -> None:
        """These are somebody else's now, or were answered."""
        for outbox_id in outbox_ids:
            self._sent.pop(outbox_id, None)
