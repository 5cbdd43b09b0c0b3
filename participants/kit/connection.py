"""pika's connection, able to send much at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pika

from orchestrator.contract import each_node

#: Seconds to wait for the broker's confirm of a batch.
CONFIRM_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
#: Seconds that a node may take to let us in, before the next one is tried.
SOCKET_TIMEOUT_S = 5


def parameters(url: str) -> list[pika.URLParameters]:
    """How to reach each node that a URL names. Raises: ValueError when it is none. The password is in no message."""
    try:
        nodes = [pika.URLParameters(node) for node in each_node(url)]
    except Exception as error:  # pika raises whatever int(), ssl and its own validators raise
        raise ValueError("write amqp://USER:PASSWORD@HOST:PORT/VHOST; of a cluster HOST:PORT,HOST:PORT.") from error
    for node in nodes:
        node.heartbeat = HEARTBEAT_S
        node.blocked_connection_timeout = 4 * CONFIRM_TIMEOUT_S
        node.socket_timeout = SOCKET_TIMEOUT_S
    return nodes


class Connection(pika.SelectConnection):  # type: ignore[misc]  # pika ships no types
    """One connection to the broker."""

    _held: list[bytes] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent in this block goes out as one piece at its end.

        pika (1.4) hands every frame to the socket by itself, three a message: sent together, a batch costs the broker and us half the CPU.
        """
        held: list[bytes] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            if held and not self.is_closed:
                self._output_marshaled_frames([b"".join(held)])

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        if self._held is None:
            super()._output_marshaled_frames(marshaled_frames)
        else:
            self._held.extend(marshaled_frames)
