"""The embedded installation of `escrow up`: SQLite, the in-process bus, the sample participants and the API in one process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer

from orchestrator import loading, logs, wiring
from orchestrator.bus.memory import MemoryBroker, MemoryBus
from orchestrator.bus.memory_transport import MemoryParticipantTransport
from orchestrator.config import load
from orchestrator.contract import Topology
from orchestrator.errors import SettingsError
from orchestrator.store import schema
from orchestrator.web.app import create_app
from orchestrator.web.server import Server

#: Files in the data directory: the database, the token of the API, the doors of the participants, and what the running process locks.
DATABASE, TOKEN, DOORS, LOCK = "escrow.sqlite3", "token", "participants.json", "lock"


def run(*, host: str, port: int, data_dir: Path) -> None:
    """Run everything in this process until SIGTERM. Raises: SettingsError, also when another process has the data directory."""
    data_dir = _made(data_dir)
    with _alone(data_dir):
        _run(host, port, data_dir)


def _run(host: str, port: int, data_dir: Path) -> None:
    settings = load(database_url=f"sqlite:///{data_dir / DATABASE}")
    logs.configure(level=settings.log_level, form=settings.log_format)
    stop = wiring.stop_on_signals()
    schema.upgrade(str(settings.database_url))
    registrations = loading.load_definitions(settings.definitions, shipped=settings.shipped_names)
    names = loading.participants_of(registrations)
    broker = MemoryBroker(Topology(settings.namespace))
    engine = wiring.open_database(settings)
    bus = MemoryBus(broker, names)
    process = wiring.make_process(settings, engine, registrations, bus, role="up", consume=True)
    token = _token(data_dir, process.services.tokens)
    server = Server(create_app(process.services), host=host, port=port)
    broker.declare(names)
    samples = start_samples(data_dir, broker, names, choreographed=loading.is_choreographed(registrations))
    process.start()
    server.start()
    typer.echo(f"Escrow listens on {server.url}")
    typer.echo(f"Token: {token}")
    try:
        process.run(stop)
    finally:
        server.stop()
        process.stop()
        samples.stop()
        broker.close()


def _made(data_dir: Path) -> Path:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{data_dir} cannot be made: {error}. Fix: name another --data-dir.") from error
    return data_dir.resolve()


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: its bus lives in one process, so a second would never hear of the first one's orders.

    The lock is the operating system's and ends with the process, however that ends. The file stays.
    """
    with (data_dir / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"Another `escrow up` runs on {data_dir}. Fix: stop it, or name another --data-dir.") from error
        yield


def start_samples(data_dir: Path, broker: MemoryBroker, names: Collection[str], *, choreographed: bool) -> Any:
    """Start the sample participants of these names, and write down their doors. Escrow itself does not know them: found by entry point."""
    for entry in entry_points(group="escrow.participants", name="samples"):
        start: Callable[..., Any] = entry.load()
        samples = start(data_dir, partial(MemoryParticipantTransport, broker), names=names, choreographed=choreographed)
        _write(data_dir / DOORS, json.dumps(samples.urls))
        return samples
    raise SettingsError("The sample participants are not installed. Fix: install Escrow with pip, as `make setup` does.")


def _token(data_dir: Path, tokens: Any) -> str:
    """The admin token of this data directory, kept readable for its owner alone."""
    file = data_dir / TOKEN
    if file.exists() and tokens.check(known := file.read_text().strip()) is not None:
        return known
    token = wiring.new_token()
    tokens.create(f"up-{wiring.new_id()[:8]}", "admin", token)
    _write(file, token)
    return token


def _write(file: Path, text: str) -> None:
    """Replace a file whole, readable for its owner alone."""
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    new.replace(file)
