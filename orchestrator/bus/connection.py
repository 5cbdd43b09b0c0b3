"""Making connections to RabbitMQ: their settings, and what pika's own connection class lacks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
import pika.exceptions
from pika import frame, spec
from pika.adapters.select_connection import SelectConnection

from orchestrator.contract import each_node
from orchestrator.errors import SettingsError

#: A link that is dead is noticed within two of these.
HEARTBEAT_S = 10
#: How long the broker may refuse to read (an alarm) before we let the connection go and report its messages as lost.
BLOCKED_CONNECTION_TIMEOUT_S = 15
SOCKET_TIMEOUT_S = 5
#: For the whole of opening: name, TCP, TLS, AMQP.
STACK_TIMEOUT_S = 10

#: The header that stands for headers that no reader can decode.
UNREADABLE_HEADERS = "escrow-unreadable-headers"


def parameters(
    url: str, *, heartbeat_s: int = HEARTBEAT_S, blocked_connection_timeout_s: float = BLOCKED_CONNECTION_TIMEOUT_S
) -> list[pika.URLParameters]:
    """The settings of one connection, for each node that the URL names; `amqp://` or `amqps://`.

    Raises: SettingsError. The password is in no message.
    """
    try:
        nodes = [pika.URLParameters(node) for node in each_node(url)]
    except Exception as error:  # pika raises whatever int(), ssl and its own validators raise
        raise SettingsError(
            "ESCROW_AMQP_URL is not an AMQP URL. Fix: write amqp://USER:PASSWORD@HOST:PORT/VHOST; of a cluster HOST:PORT,HOST:PORT."
        ) from error
    for settings in nodes:
        settings.heartbeat = heartbeat_s
        settings.blocked_connection_timeout = blocked_connection_timeout_s
        settings.socket_timeout = SOCKET_TIMEOUT_S
        settings.stack_timeout = STACK_TIMEOUT_S
    return nodes


def addresses(nodes: Sequence[pika.connection.Parameters]) -> str:
    """Where the nodes are, for a person: `a:5672, b:5672`."""
    return ", ".join(f"{node.host}:{node.port}" for node in nodes)


@contextmanager
def blocking(nodes: Sequence[pika.connection.Parameters]) -> Iterator[pika.BlockingConnection]:
    """A blocking connection to the first node that answers, for set-up and examination; never on the line. Raises what pika raises.

    Message properties that cannot be decoded end it no more than they end a link (`Connection`).
    """
    connection = pika.BlockingConnection(nodes, _impl_class=Connection)
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def hang_up(connection: pika.BlockingConnection) -> None:
    """Close a blocking connection that reads a stream, politely.

    pika's own closing hands back what it has received and not given out, which a stream refuses (540); so this uses what pika keeps
    private (1.4).
    """
    if connection.is_open:
        connection._impl.close()  # noqa: SLF001 - see above
        connection._flush_output(connection._closed_result.is_ready)  # noqa: SLF001


class Connection(SelectConnection):  # type: ignore[misc]  # pika ships no types
    """pika's connection with two repairs and a way to send much at once, all on methods that pika keeps private (1.4)."""

    _held: list[bytes] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent in this block goes out as one piece at its end.

        pika hands every frame to the socket by itself, three a message: sent together, a batch costs the broker and us half the CPU.
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

    def abort(self) -> None:
        """Let the socket go at once, without a word to the broker. Its callbacks are still called."""
        self._terminate_stream(pika.exceptions.StreamLostError("given up"))

    def _read_frame(self) -> tuple[int, Any]:
        """Read a frame; message properties that cannot be decoded become a header that says so.

        pika raises on a header table with, say, a time after the year 9999 or a thousand nested lists. RabbitMQ takes such a message
        and would deliver it again on each new connection, so one sender could stop every worker.
        """
        try:
            return super()._read_frame()  # type: ignore[no-any-return]  # as above
        except pika.exceptions.InvalidFrameError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever decoding may raise
            return self._unreadable_header(error)

    def _unreadable_header(self, error: Exception) -> tuple[int, Any]:
        frame_type, channel_number, size = struct.unpack_from(">BHL", self._frame_buffer)
        if frame_type != spec.FRAME_HEADER:
            raise error
        (body_size,) = struct.unpack_from(">Q", self._frame_buffer, spec.FRAME_HEADER_SIZE + 4)
        properties = pika.BasicProperties(headers={UNREADABLE_HEADERS: f"{type(error).__name__}: {error}"[:200]})
        return spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE, frame.Header(channel_number, body_size, properties)
