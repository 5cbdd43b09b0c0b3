"""Before journals are read for a replay: every event that came before is in them (R29).

An answer that no journal has yet would be told as missing; journaled a moment later, it is never asked for again, and the participant
lacks the effect. It may lie in the inbox, or be in the hands of a worker, of which the broker tells nothing but that it consumes. So each
worker says with every beat until when it has handled what it took. A worker that is stuck with a batch stays behind, however long that
takes; one that is frozen does not beat, while the broker still counts it as a consumer, so it is waited for until the broker has dropped
it and what it held is with others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator import wiring
from orchestrator.app.ports import CommandQueue
from orchestrator.errors import Conflict

#: How long that may take, in seconds: longer than the broker takes to drop a worker that is frozen.
_DRAINED_WITHIN_S = 60.0
#: Between two looks, in seconds.
_LOOK_EVERY_S = 0.2
#: What the broker has handed out is with the worker by then.
_ON_THE_WIRE = timedelta(seconds=2)

#: Processes that consume the inbox: until when each has handled what it took; None: it does not say.
Readers = Mapping[str, datetime | None]


@dataclass(frozen=True, slots=True)
class _Empty:
    """The inbox was seen empty, and who could have taken something before."""

    at: datetime
    readers: frozenset[str]


def wait_until_drained(look: Callable[[], CommandQueue | None], readers: Callable[[], Readers], now: Callable[[], datetime]) -> None:
    """Return when every event that is in the inbox now is journaled. `look`: at the inbox; `readers` and `now`: of the database.

    Raises: Conflict when it takes too long.
    """
    limit_s = wiring.monotonic() + _DRAINED_WITHIN_S
    empty: _Empty | None = None
    while True:
        inbox, reading = look(), readers()
        why = _why_unknown(inbox, reading)
        if why is not None:
            empty = None
        elif empty is None or empty.readers != reading.keys():
            # Of a worker that left, what it held is with another now.
            empty = _Empty(now(), frozenset(reading))
        if empty is not None:
            behind = sorted(name for name, until in reading.items() if until is None or until <= empty.at + _ON_THE_WIRE)
            if not behind:
                return
            why = f"{behind[0]} may still have events in its hands"
        if wiring.monotonic() > limit_s:
            raise Conflict(
                f"{why}: what they answer would be missing. Fix: see that RabbitMQ is well and that workers of this release run "
                "(`escrow doctor`), and run it again."
            )
        wiring.sleep(_LOOK_EVERY_S)


def _why_unknown(inbox: CommandQueue | None, readers: Readers) -> str | None:
    """Why nothing can be said of what is in workers' hands; None: it can."""
    if inbox is None:
        return "The broker does not say how many events wait in the inbox"
    if inbox.ready:
        return f"{inbox.ready} events wait in the inbox"
    # A broker whose queue has no leader says that it is empty, and that nobody consumes it.
    if not inbox.consumers:
        return "No worker consumes the inbox, where events may wait"
    if inbox.consumers != len(readers):
        return f"The inbox has {inbox.consumers} consumers and {len(readers)} workers that beat, so one may have events in its hands"
    return None
