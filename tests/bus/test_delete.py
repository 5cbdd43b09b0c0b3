"""Deleting the topology of a namespace."""

from __future__ import annotations

import uuid

import pika.exceptions
import pytest

from orchestrator.bus import topology
from orchestrator.bus.connection import blocking, parameters
from orchestrator.contract import Topology
from tests.support.services import amqp_url


@pytest.mark.real
def test_what_was_declared_is_gone() -> None:
    """Else each `escrow demo --services` would leave queues on the broker that fill for ever."""
    names = Topology(f"test-{uuid.uuid4().hex[:8]}")
    topology.declare(amqp_url(), names, ["inventory"])
    topology.delete(amqp_url(), names, ["inventory"])
    topology.delete(amqp_url(), names, ["inventory"])
    with blocking(parameters(amqp_url())) as connection:
        for part in [*topology.inbound(names), *topology.outbound(names, ["inventory"])]:
            if isinstance(part, topology.Binding):
                continue
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
                part.verify(connection.channel())
