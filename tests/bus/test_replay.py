"""A replay is published in order and confirmed, or said not to be, on both buses (R29)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from orchestrator.app.ports import Bus, BusEvent, Settled
from orchestrator.bus import replay
from orchestrator.bus.replay import BATCH, WINDOW, ReplayLink, attach
from orchestrator.contract import REPLAY_ARGUMENTS, Envelope, Topology, Wire
from orchestrator.contract.replay import REPLAY, ReplayedCommand, ReplayedFact, ReplayEnd, ReplayMessage, decode_replay
from orchestrator.errors import BusUnavailable, Conflict
from tests.bus.conftest import LIMIT_S, MemoryWorld, RabbitWorld, World

Outcome = Literal["confirmed", "nacked"]


def link_of(bus: Bus, topology: Topology) -> ReplayLink:
    """A link to inventory."""
    ids = itertools.count()
    return ReplayLink(bus, topology, "inventory", new_id=lambda: f"run-{next(ids)}", now=lambda: datetime(2026, 11, 1, tzinfo=UTC))


def numbered(number: int) -> ReplayedFact:
    """A message that is told from the others."""
    event = Envelope(id=f"m-{number}", source="inventory", type="Counted", subject="o-1", data={"number": number})
    return ReplayedFact(message=event)


def send(world: World, count: int, *, bus: Bus | None = None, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Send so many to inventory, and the end; `meanwhile`: what happens before that."""
    with link_of(bus or world.bus(), world.topology) as link:
        for each in range(count):
            link.send(numbered(each))
        meanwhile()
        link.end(ReplayEnd(request_id="r", commands=0, facts=count, events=0))


def settling(bus: Any, becomes: Callable[[Settled], Settled | None]) -> Bus:
    """A bus of whose messages something else is said to have become; None: nothing is said."""
    start: Callable[..., None] = bus.start

    def begin(sink: Callable[[BusEvent], None], *, consume: bool) -> None:
        def tell(event: BusEvent) -> None:
            told = becomes(event) if isinstance(event, Settled) else event
            if told is not None:
                sink(told)

        start(tell, consume=consume)

    bus.start = begin
    found: Bus = bus
    return found


def wait_at(world: World) -> None:
    """Make the queue that a participant waits at, and let messages reach it."""
    topology = world.topology
    queue, key = topology.replay_queue("inventory"), topology.replay_key("inventory")
    if isinstance(world, MemoryWorld):
        world.broker.bind(queue, topology.commands, key)
    elif isinstance(world, RabbitWorld):
        world.channel.queue_declare(queue, durable=True, arguments=dict(REPLAY_ARGUMENTS))
        attach(world.url, topology, "inventory")


def take(world: World, count: int) -> list[int | str]:
    """What the participant gets, in order: the numbers, and "end"; at most so many."""
    queue = world.topology.replay_queue("inventory")
    found: list[bytes] = []
    if isinstance(world, MemoryWorld):
        found = [held.wire.body for held in iter(lambda: world.broker.take(queue), None)]
    elif isinstance(world, RabbitWorld):
        for _method, _properties, body in world.channel.consume(queue, auto_ack=True, inactivity_timeout=LIMIT_S):
            found.append(body)
            if body is None or len(found) == count:
                break
        world.channel.cancel()
        world.channel.queue_delete(queue)
    return [_told(decode_replay(Wire(content_type=REPLAY, headers={}, body=body))) for body in found if body is not None]


def _told(message: ReplayMessage) -> int | str:
    if isinstance(message, ReplayEnd):
        return "end"
    assert not isinstance(message, ReplayedCommand)
    number: int = message.message.data["number"]
    return number


@pytest.mark.real
def test_it_comes_whole_and_in_order(world: World) -> None:
    """If it failed, an undo would come before its command, or a participant go live on a part of its past."""
    wait_at(world)
    number = WINDOW + BATCH + 7
    send(world, number)
    assert take(world, number + 1) == [*range(number), "end"]


@pytest.mark.real
def test_nobody_waits(world: World) -> None:
    """If it failed, a replay would be thought to be taken that nobody has."""
    with pytest.raises(Conflict, match="inventory does not wait for a replay"):
        send(world, 3 * BATCH)


@pytest.mark.real
def test_a_queue_that_is_not_there_is_not_attached(rabbit: RabbitWorld) -> None:
    """If it failed, a replay would be made for a participant that is alive and well, and lie there until it is one day new."""
    with pytest.raises(Conflict, match="--new"):
        attach(rabbit.url, rabbit.topology, "inventory")
    with pytest.raises(BusUnavailable, match="refused"):
        attach("amqp://127.0.0.1:1/", rabbit.topology, "inventory")


def test_a_link_that_is_lost_is_said(memory: MemoryWorld) -> None:
    """If it failed, a replay would end as if it were whole when a part of it is nowhere."""
    wait_at(memory)
    with pytest.raises(BusUnavailable, match="lost"):
        send(memory, 1, meanwhile=memory.broker.close)


@pytest.mark.parametrize("count", [1, 3 * BATCH])
def test_no_end_follows_what_was_refused(memory: MemoryWorld, count: int) -> None:
    """If it failed, a participant would go live on a part of its past, and nobody could tell it the rest: it waits for none any more."""
    wait_at(memory)
    outcomes: Iterator[Outcome] = itertools.chain(["nacked"], itertools.repeat("confirmed"))
    with pytest.raises(BusUnavailable, match="nacked"):
        send(memory, count, bus=settling(memory.bus(), lambda settled: replace(settled, outcome=next(outcomes))))
    assert "end" not in take(memory, count + 1)


def test_what_is_not_ended_is_not_handed_over(memory: MemoryWorld) -> None:
    """If it failed, a replay that broke off would still tell what was made of it after the mistake."""
    wait_at(memory)
    with link_of(memory.bus(), memory.topology) as link:
        for each in range(BATCH + 1):
            link.send(numbered(each))
    assert take(memory, BATCH + 1) == list(range(BATCH))


def test_a_broker_that_is_away_or_silent_is_said(memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a replay would wait for ever."""
    monkeypatch.setattr(replay, "PATIENCE_S", 0.05)
    with pytest.raises(BusUnavailable, match="confirmed nothing"):
        send(memory, 1, bus=settling(memory.bus(), lambda _: None))
    memory.broker.close()
    with pytest.raises(BusUnavailable, match="cannot be reached"), link_of(memory.bus(), memory.topology):
        pass
