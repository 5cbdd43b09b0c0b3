"""Publish a few events and wait for the broker's word, for a command line: no queue, no outbox, no thread."""

from __future__ import annotations

from collections.abc import Sequence

import pika
from pika import exceptions

from orchestrator.contract import Envelope, Topology, encode, event_key
from participants.kit.connection import parameters
from participants.kit.trouble import explain

#: Seconds that the broker may take for anything.
TIMEOUT_S = 10


def say(url: str, topology: Topology, source: str, events: Sequence[Envelope]) -> None:
    """Publish events as `source`, persistent and confirmed. Returns when the broker has all of them.

    Raises: ConnectionError, in words with the fix: some of them may be published; saying them again under the same ids does no harm.
    ValueError when the URL is none. The password is in no message.
    """
    nodes = parameters(url)
    for node in nodes:
        node.blocked_connection_timeout = node.stack_timeout = TIMEOUT_S
    # The broker vouches for it: it refuses any name but the user's own.
    user_id = source if nodes[0].credentials.username == source else None
    try:
        with pika.BlockingConnection(nodes) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for event in events:
                wire = encode(event)
                properties = pika.BasicProperties(
                    content_type=wire.content_type,
                    delivery_mode=2,
                    message_id=event.id,
                    type=event.type,
                    correlation_id=event.subject,
                    app_id=source,
                    user_id=user_id,
                )
                channel.basic_publish(topology.events, event_key(source, event.type), wire.body, properties, mandatory=True)
    except exceptions.UnroutableError as error:
        raise ConnectionError("No queue takes the event. Fix: start a worker of Escrow, which declares its inbox.") from error
    except (exceptions.AMQPError, OSError) as error:
        raise ConnectionError(explain(error, nodes[0], topology, source)) from error
