"""A replay is published in order and confirmed, or said not to be, on both buses (R29)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.app.ports import Bus, BusEvent, Settled
from orchestrator.bus import replay
from orchestrator.bus.replay import BATCH, WINDOW, ReplayLink, attach
from orchestrator.contract import REPLAY_ARGUMENTS, Topology, Wire
from orchestrator.contract.replay import ReplayEnd, decode_replay
from orchestrator.errors import BusUnavailable, Conflict
from tests.bus.conftest import LIMIT_S, MemoryWorld, RabbitWorld, World


def link_of(bus: Bus, topology: Topology) -> ReplayLink:
    """A link to inventory."""
    ids = itertools.count()
    return ReplayLink(bus, topology, "inventory", new_id=lambda: f"run-{next(ids)}", now=lambda: datetime(2026, 11, 1, tzinfo=UTC))


def numbered(number: int) -> ReplayEnd:
    """A message that is told from the others."""
    return ReplayEnd(request_id="r", commands=number, facts=0, events=0)


def send(world: World, count: int, *, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Send so many to inventory, and wait until the broker has them; `meanwhile`: what happens before that."""
    with link_of(world.bus(), world.topology) as link:
        for each in range(count):
            link.send(numbered(each))
        meanwhile()


def wait_at(world: World) -> None:
    """Make the queue that a participant waits at, and let messages reach it."""
    topology = world.topology
    queue, key = topology.replay_queue("inventory"), topology.replay_key("inventory")
    if isinstance(world, MemoryWorld):
        world.broker.bind(queue, topology.commands, key)
    elif isinstance(world, RabbitWorld):
        world.channel.queue_declare(queue, durable=True, arguments=dict(REPLAY_ARGUMENTS))
        attach(world.url, topology, "inventory")


def take(world: World, count: int) -> list[int]:
    """The numbers of what the participant gets, in order."""
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
    messages = [decode_replay(Wire(content_type="application/vnd.escrow.replay+json", headers={}, body=body)) for body in found]
    return [message.commands for message in messages if isinstance(message, ReplayEnd)]


@pytest.mark.real
def test_it_comes_whole_and_in_order(world: World) -> None:
    """If it failed, an undo would come before its command, or a participant go live on a part of its past."""
    wait_at(world)
    number = WINDOW + BATCH + 7
    send(world, number)
    assert take(world, number) == list(range(number))


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


def test_a_broker_that_is_away_or_silent_is_said(memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a replay would wait for ever."""
    monkeypatch.setattr(replay, "PATIENCE_S", 0.05)
    bus: Any = memory.bus()
    start: Callable[..., None] = bus.start

    def deaf(sink: Callable[[BusEvent], None], *, consume: bool) -> None:
        start(lambda event: None if isinstance(event, Settled) else sink(event), consume=consume)

    bus.start = deaf
    with pytest.raises(BusUnavailable, match="confirmed nothing"), link_of(bus, memory.topology) as link:
        link.send(numbered(1))
    memory.broker.close()
    with pytest.raises(BusUnavailable, match="cannot be reached"), link_of(memory.bus(), memory.topology):
        pass
