"""An address that can be moved from one server to another, as a proxy or a virtual address is: lines that are open stay where they are."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

_CHUNK_BYTES = 65_536


class Address(socketserver.ThreadingTCPServer):
    """A port on loopback that leads to the port `leads_to`, which may be changed; new lines go there."""

    daemon_threads = True

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to
        super().__init__(("127.0.0.1", 0), _Line)

    @property
    def port(self) -> int:
        """The port that clients are given."""
        return int(self.server_address[1])


class _Line(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        to = cast(Address, self.server).leads_to
        with suppress(OSError), socket.create_connection(("127.0.0.1", to)) as server:
            other = {self.request: server, server: self.request}
            while True:
                for end in select.select(list(other), [], [])[0]:
                    sent = end.recv(_CHUNK_BYTES)
                    if not sent:
                        return
                    other[end].sendall(sent)


@contextmanager
def address_of(port: int) -> Iterator[Address]:
    """An address that leads to this port, for this test alone."""
    with Address(port) as address:
        thread = threading.Thread(target=address.serve_forever, daemon=True)
        thread.start()
        yield address
        address.shutdown()
        thread.join()
