"""What waits in the inbox, looked at without taking it."""

from __future__ import annotations

from datetime import datetime

import pika.exceptions

from orchestrator.bus.connection import addresses, blocking, parameters
from orchestrator.bus.trouble import explain
from orchestrator.bus.wire import wire_of
from orchestrator.contract import Topology, decode
from orchestrator.errors import MessageError

#: Messages that are looked at.
LOOK_MAX = 1_000


def newest(url: str, topology: Topology) -> datetime | None:
    """When the youngest of the first messages was said, by its sender's clock; None: none waits, or none says. They stay where they are.

    Raises: SettingsError, BusUnavailable.
    """
    nodes = parameters(url)
    times = []
    try:
        with blocking(nodes) as connection:
            channel = connection.channel()
            for _ in range(LOOK_MAX):
                method, properties, body = channel.basic_get(topology.inbox)
                if method is None:
                    break
                try:
                    times.append(decode(wire_of(properties, body)).time)
                except MessageError:
                    continue
    except (pika.exceptions.AMQPError, OSError) as error:
        raise explain(error, addresses(nodes)).as_error() from error
    return max((time for time in times if time is not None), default=None)
