"""What a link hears beside its main queue: each source is made on a channel of its own, and one that is refused harms no other."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pika.adapters.select_connection import IOLoop

#: Seconds after which a source that was refused is tried again.
RESUBSCRIBE_S = 10.0

_log = logging.getLogger("participants.rabbit")


class Source(Protocol):
    """A queue of events."""

    #: Its name; None while there is none.
    queue: str | None
    #: Whether it is consumed, or only made.
    is_consumed: bool
    #: What the participant lacks without it.
    lack: str

    def make(self, connection: Any, then: Callable[[BaseException | None], None]) -> None:
        """Make it; `then` is called once, with the reason when it cannot be used. A connection that is lost calls nobody."""


class Sources:
    """The sources of one participant. Used in the IO thread, but for `trouble`."""

    def __init__(self, participant: str, sources: Sequence[Source], loop: IOLoop, explain: Callable[[BaseException], str]) -> None:
        self._participant = participant
        self._sources = sources
        self._loop = loop
        self._explain = explain
        self._lock = threading.Lock()
        #: By what is lacking: why.
        self._refused: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """What is not heard, and why."""
        with self._lock:
            return next(iter(self._refused.values()), None)

    def consume(self, connection: Any, channel: Any, on_message: Callable[..., None]) -> list[Callable[[Callable[[Any], None]], None]]:
        """The steps that make each source and consume it on a channel; every step calls its argument, whether it succeeded or not."""

        def begin(source: Source, then: Callable[[Any], None]) -> None:
            def made(reason: BaseException | None) -> None:
                if not channel.is_open:
                    return  # the link is lost; the next one begins anew
                self._note(source, reason)
                if reason is not None:
                    self._loop.call_later(RESUBSCRIBE_S, lambda: begin(source, lambda _frame: None) if channel.is_open else None)
                    then(None)
                elif source.is_consumed:
                    channel.basic_consume(source.queue, on_message, callback=then)
                else:
                    then(None)

            source.make(connection, made)

        return [lambda then, source=source: begin(source, then) for source in self._sources]  # type: ignore[misc]

    def _note(self, source: Source, reason: BaseException | None) -> None:
        """Note, and say once, whether it is heard."""
        with self._lock:
            was = self._refused.pop(source.lack, None)
            if reason is not None:
                # The broker gives a queue of its own another name at each attempt.
                text = re.sub(r"'amq\.gen-[^']*'", "of its own", self._explain(reason))
                self._refused[source.lack] = f"{source.lack}: {text}"
            now = self._refused.get(source.lack)
        if now is not None and now != was:
            _log.warning("%s: %s", self._participant, now, extra={"action": "hears_no_events"})
        elif now is None and was is not None:
            _log.info("%s hears events.", self._participant, extra={"action": "hears_events"})
