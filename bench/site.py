"""What is measured: databases and a namespace of its own, workers and participants as processes. Everything is removed at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import pika
from sqlalchemy.engine import make_url

from orchestrator.contract import Topology
from orchestrator.store import schema
from tests.support.processes import Process, free_port
from tests.support.services import amqp_url, fresh_postgres, postgres_admin_url

PARTICIPANTS = ("inventory", "payment", "invoice")


class Site:
    """A running installation. Raises: ServiceMissing, AssertionError (a process did not start; with its output)."""

    def __init__(self, scratch: str, *, workers: int, recorder: bool = True) -> None:
        self.amqp_url = amqp_url()
        self.admin_url = postgres_admin_url()
        self.topology = Topology(f"escrow-bench-{uuid4().hex[:8]}")
        self.processes: dict[str, Process] = {}
        #: The names of all databases: Escrow's first.
        self.databases: list[str] = []
        self._workers = workers
        self._recorder = recorder
        self._scratch = Path(scratch)
        self._stack = ExitStack()

    @property
    def database(self) -> str:
        """The name of Escrow's database."""
        return self.databases[0]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers."""
        return [process.pid for name, process in self.processes.items() if name.startswith("worker")]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _start(self) -> None:
        url = self._fresh_database()
        schema.upgrade(url)
        self._stack.callback(self._remove_topology)
        addresses = [self._start_worker(number, url) for number in range(1, self._workers + 1)]
        for name in PARTICIPANTS:
            self._start_participant(name)
        for process, address in zip(self.processes.values(), addresses, strict=False):
            process.wait_for_http(f"http://{address}/readyz")
        for name in PARTICIPANTS:
            self._wait_for_participant(name)

    def _start_worker(self, number: int, database_url: str) -> str:
        address = f"127.0.0.1:{free_port()}"
        env = {
            "ESCROW_DATABASE_URL": database_url,
            "ESCROW_AMQP_URL": self.amqp_url,
            "ESCROW_NAMESPACE": self.topology.namespace,
            "ESCROW_METRICS_ADDRESS": address,
            "ESCROW_RECORDER": str(self._recorder).lower(),
        }
        self._run(f"worker {number}", "orchestrator", "worker", env=env)
        return address

    def _start_participant(self, name: str) -> None:
        where = ("--database-url", self._fresh_database(), "--amqp-url", self.amqp_url, "--namespace", self.topology.namespace)
        more = ("--mail-dir", str(self._scratch / "mail")) if name == "invoice" else ()
        self._run(name, f"participants.{name}", "run", *where, "--http-port", "0", *more)

    def _wait_for_participant(self, name: str) -> None:
        process = self.processes[name]
        door = process.wait_for_line(f"{name}: http").split()[-1]
        process.wait_for_http(f"{door}/healthz")

    def _run(self, name: str, module: str, *args: str, env: dict[str, str] | None = None) -> None:
        output = self._scratch / f"{name}.log"
        self.processes[name] = self._stack.enter_context(Process(module, *args, output=output, env=env))

    def _fresh_database(self) -> str:
        url = self._stack.enter_context(fresh_postgres())
        self.databases.append(str(make_url(url).database))
        return url

    def _remove_topology(self) -> None:
        topology = self.topology
        with pika.BlockingConnection(pika.URLParameters(self.amqp_url)) as connection:
            channel = connection.channel()
            for queue in (topology.inbox, topology.recorder, *topology.queues_of(PARTICIPANTS)):
                channel.queue_delete(queue)
            for exchange in (topology.events, topology.commands, topology.announcements, topology.recorder):
                channel.exchange_delete(exchange)
