"""Where the broker is: one URL that may name several nodes of a cluster."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def each_node(url: str) -> list[str]:
    """One AMQP URL for each node that `amqp://USER:PASSWORD@HOST:PORT,HOST:PORT/VHOST` names, in that order.

    All else is the same for all of them. A comma in the password is written %2C. Raises: ValueError when a node has no name.

    >>> each_node("amqp://me:secret@a:5672,b:5673/%2F?heartbeat=5")
    ['amqp://me:secret@a:5672/%2F?heartbeat=5', 'amqp://me:secret@b:5673/%2F?heartbeat=5']
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    nodes = hosts.split(",")
    if len(nodes) > 1 and not all(nodes):
        raise ValueError("a host is missing between two commas")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{node}")) for node in nodes]
