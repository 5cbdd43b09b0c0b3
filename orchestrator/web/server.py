"""Serving an application with uvicorn from a thread of this process, so that one process can be API and worker."""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn

from orchestrator.errors import SettingsError


class Server:
    """One listening HTTP server. `url` is known once it is made; port 0 takes a free one."""

    def __init__(self, app: Any, *, host: str, port: int) -> None:
        """Raises: SettingsError when the address is taken or not ours."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise SettingsError(f"Cannot listen on {host}:{port}: {error}. Fix: choose another address.") from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5, server_header=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True)

    def start(self) -> None:
        """Serve; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests under way, for at most 5 s, and stop. Idempotent."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=8)
        self._socket.close()
