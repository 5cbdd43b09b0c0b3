"""A replay put together: the recorder, the journals, and the queue at which a participant waits that lost its state (R29)."""

from __future__ import annotations

import getpass
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from orchestrator import wiring
from orchestrator.app import past
from orchestrator.app.past import Summary
from orchestrator.app.registry import Registry
from orchestrator.bus import recorder
from orchestrator.bus.recorder import Start
from orchestrator.bus.replay import ReplayLink, attach, not_waiting
from orchestrator.config import Settings
from orchestrator.contract import Topology, decode
from orchestrator.contract.canonical import format_time
from orchestrator.contract.replay import ReplayedEvent, ReplayEnd
from orchestrator.draining import wait_until_drained
from orchestrator.errors import MessageError, NoRecorder, NotFound
from orchestrator.store import audit, upkeep
from orchestrator.store import past as journals_of
from orchestrator.store.dialect import reading
from orchestrator.store.engine import Engine
from orchestrator.store.participants import awaited_replay
from orchestrator.store.spans import quiet
from orchestrator.store.transaction import SqlStore
from orchestrator.store.upkeep import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a participant was told."""

    participant: str
    #: The types of the events of others that were looked for, and how many there were.
    hears: tuple[str, ...]
    events: int
    #: Messages of the recorder that were gone through.
    recorded: int
    #: What of them lies beyond the recorder's retention; None: nothing does.
    gap: str | None
    told: Summary

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not (self.gap or self.told.causes_unknown or self.told.damaged)

    def end(self, request_id: str) -> ReplayEnd:
        """What ends the replay that this request asked for."""
        told = self.told
        return ReplayEnd(request_id=request_id, commands=told.commands + told.undos, facts=told.facts, events=self.events)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"is_whole": self.is_whole}


def run(settings: Settings, participant: str, start: Start, events: Collection[str], progress: Progress | None) -> Replayed:
    """Tell a participant that waits for it everything from `start`: the events of others (`events`, or, when there are none, those that it
    said it hears), then what it was sent and told itself, order by order, and the end.

    A time limits both; an offset limits the recorder alone. While everything runs. It can be stopped, and run again: the participant takes
    a message twice as once, and goes on waiting until an end comes.

    Raises: SettingsError, NotFound, Conflict when it does not wait, StoreUnavailable, BusUnavailable.
    """
    settings.require("database_url", "amqp_url")
    topology = Topology(settings.namespace)
    with upkeep.opened(str(settings.database_url), wiring.now) as engine:
        store = SqlStore(engine, shard=0)
        known = store.participants()
        if participant not in known:
            raise NotFound(f"No registered definition asks {participant}: there are {', '.join(sorted(known)) or 'none'}.")
        attach(str(settings.amqp_url), topology, participant)
        # It must not make a recorder: one that was made just now knows nothing, and would be taken for one that nothing was said to.
        bus = wiring.rabbit_bus(settings.model_copy(update={"recorder": False}), frozenset())
        with ReplayLink(bus, topology, participant, new_id=wiring.new_id, now=wiring.now) as link:
            wait_until_drained(bus.inbox, store.readers, store.now)
            # After that, for its request was in the inbox, too.
            with reading(engine) as connection:
                awaited = awaited_replay(connection, participant)
            if awaited is None:
                raise not_waiting(participant)
            replayed = _send(settings, engine, link, participant, start, frozenset(events) or awaited.events, progress)
            link.end(replayed.end(awaited.request_id))
        _note(engine, store, replayed)
    return replayed


def _send(
    settings: Settings,
    engine: Engine,
    link: ReplayLink,
    participant: str,
    start: Start,
    hears: frozenset[str],
    progress: Progress | None,
) -> Replayed:
    """All but the end."""
    heard = _Heard(settings, start, hears)
    for event in heard.events():
        link.send(event)
    summary, since = Summary(), start if isinstance(start, datetime) else None
    rulebooks = Registry(SqlStore(engine, shard=0)).rulebook
    total = journals_of.moved_orders(engine, since)
    with quiet():
        for told in past.tell(journals_of.journals(engine, since), participant, rulebooks, since, summary):
            link.send(told)
            if progress is not None:
                progress(summary.orders, total)
    return Replayed(
        participant=participant, hears=tuple(sorted(hears)), events=heard.count, recorded=heard.read, gap=heard.gap, told=summary
    )


def _note(engine: Engine, store: SqlStore, replayed: Replayed) -> None:
    told = replayed.told
    detail = (
        f"{replayed.participant}: {told.commands + told.undos} commands and undos, {told.facts} facts, {replayed.events} events of others."
    )
    actor = f"{getpass.getuser()} (escrow replay)"
    audit.note(engine, at=store.now(), actor=actor, act="replay", order_id=None, outcome="done", detail=detail)


class _Heard:
    """The events of others in the recorder, and what of them is not there any more."""

    def __init__(self, settings: Settings, start: Start, types: Collection[str]) -> None:
        self._url = str(settings.amqp_url)
        self._topology = Topology(settings.namespace)
        self._start = start
        self._types = types
        self._is_on = settings.recorder
        self.read = 0
        self.count = 0
        self.gap: str | None = None

    def events(self) -> Iterator[ReplayedEvent]:
        """Those that are there, in the order of the recorder. Streams. Raises: SettingsError, BusUnavailable."""
        if not self._types:
            return
        if not self._is_on:
            self.gap = "The recorder is off (ESCROW_RECORDER=false): no event of others is replayed."
            return
        try:
            is_any = self._look()
        except NoRecorder as error:
            self.gap = f"No event of others is replayed. {error}"
            return
        for found in recorder.read(self._url, self._topology, self._start, mark=wiring.new_id()) if is_any else ():
            self.read += 1
            try:
                envelope = decode(found.wire)
            except MessageError:
                continue  # a record of ours, or what Escrow quarantined
            if envelope.type in self._types:
                self.count += 1
                yield ReplayedEvent(message=envelope)

    def _look(self) -> bool:
        """See what is there; whether anything may be."""
        if isinstance(self._start, datetime) and self._start > wiring.now():
            # Nothing is, not even a mark.
            return False
        start, oldest = self._start, self._first("first")
        if next(recorder.read(self._url, self._topology, "first", mark=wiring.new_id()), None) is None:
            # The participant's request was an event: it would be there.
            self.gap = "The recorder is empty: it was made after the participant asked, and knows no event of before."
            return False
        lacks = f"The recorder begins at offset {oldest.offset}"
        if start == "first" and oldest.offset > 0:
            self.gap = f"{lacks}: what was said before is beyond its retention."
        elif isinstance(start, int) and oldest.offset > start:
            self.gap = f"{lacks}: what it had from offset {start} on is beyond its retention."
        elif isinstance(start, datetime) and oldest.offset > 0 and self._first(start) == oldest:
            self.gap = f"{lacks}: what was said between {format_time(start)} and then may be beyond its retention."
        return True

    def _first(self, start: Start) -> recorder.Position:
        return recorder.first(self._url, self._topology, start, mark=wiring.new_id())
