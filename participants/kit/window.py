"""The publisher confirms that RabbitMQ owes: which batch waits for which of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from participants.kit.transport import Published


class Batch:
    """Messages handed to the IO thread together; `done` is set when all are confirmed or one has failed."""

    def __init__(self, messages: Sequence[Published]) -> None:
        self.messages = messages
        self.unconfirmed = len(messages)
        self.error: str | None = None
        self.done = threading.Event()

    def confirm(self) -> None:
        """One of its messages is confirmed."""
        self.unconfirmed -= 1
        if self.unconfirmed == 0:
            self.done.set()

    def fail(self, error: str) -> None:
        """One of its messages was not taken, or nobody will know."""
        self.error = self.error or error
        self.done.set()


class Window:
    """What was published on one channel and is not confirmed. Used in the IO thread only."""

    def __init__(self) -> None:
        self._unconfirmed: deque[tuple[int, Batch]] = deque()
        self._published = 0

    def add(self, batch: Batch) -> None:
        """Note one more message of a batch as published."""
        self._published += 1
        self._unconfirmed.append((self._published, batch))

    def settle(self, tag: int, *, multiple: bool, nacked: bool) -> None:
        """The broker has answered for a message, or for all up to it."""
        for batch in self._take(tag, multiple=multiple):
            if nacked:
                batch.fail("RabbitMQ refused a message (nack).")
            else:
                batch.confirm()

    def fail(self, error: str) -> None:
        """Fail every batch that waits for a confirm; the confirms may still come."""
        for batch in {id(batch): batch for _, batch in self._unconfirmed}.values():
            batch.fail(error)

    def _take(self, tag: int, *, multiple: bool) -> list[Batch]:
        if multiple:
            taken: list[Batch] = []
            while self._unconfirmed and self._unconfirmed[0][0] <= tag:
                taken.append(self._unconfirmed.popleft()[1])
            return taken
        # Single confirms may overtake one another.
        place = next((n for n, (number, _) in enumerate(self._unconfirmed) if number == tag), None)
        if place is None:
            return []
        self._unconfirmed.rotate(-place)
        _, batch = self._unconfirmed.popleft()
        self._unconfirmed.rotate(place)
        return [batch]
