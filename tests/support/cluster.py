"""Three RabbitMQ nodes on loopback, made by the scripts of `deploy/rabbitmq`: own names, ports, epmd, cookie and data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.postgres import unprivileged_user
from tests.support.processes import ROOT, eventually, free_port
from tests.support.rabbitmq import RabbitUnavailable, can_connect, scripts
from tests.support.services import amqp_url

#: Longest start of the cluster's nodes, and run of a script, in seconds.
STARTED_WITHIN_S, SCRIPT_WITHIN_S = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Times of its life are the cluster's business."""

    name: str
    home: Path
    port: int
    distribution_port: int

    @property
    def url(self) -> str:
        """AMQP URL of this node alone."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"


class RabbitCluster:
    """User guest/guest on loopback; every quorum queue has a copy on each node."""

    def __init__(self) -> None:
        self._user = unprivileged_user("rabbitmq")
        self._home = Path(tempfile.mkdtemp(prefix="escrow-mqs-"))
        self._scripts = self._home / "scripts"
        shutil.copytree(ROOT / "deploy" / "rabbitmq", self._scripts)
        cookie = self._home / "cookie"
        mark = free_port()
        cookie.write_text(f"ESCROWTEST{mark}", encoding="ascii")
        self.nodes = [Node(f"mq{mark}x{n}@localhost", self._home / f"node{n}", free_port(), free_port()) for n in (1, 2, 3)]
        if self._user:
            for path in (self._home, cookie):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._env = {
            "PATH": os.environ["PATH"],
            "DEPLOY_MQ_BIN": str(scripts()),
            "DEPLOY_MQ_COOKIE": str(cookie),
            "DEPLOY_MQ_DISK_FREE": "50MB",
            "DEPLOY_MQ_ERL_ARGS": "+S 1:1",  # two cores for everything
            "ERL_EPMD_PORT": str(free_port()),
        }

    @property
    def url(self) -> str:
        """AMQP URL that names all nodes."""
        return f"amqp://guest:guest@{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/%2F"

    def start(self) -> None:
        """Make the first node, then the others join it."""
        first, *others = self.nodes
        self.start_nodes(first)
        self.start_nodes(*others)

    def start_nodes(self, *nodes: Node) -> None:
        """Start these, at the same time; returns when each takes connections."""
        for node in nodes:
            ports = (node.port, node.distribution_port)
            self._run("start.sh", node.home, node.name, *ports, self.nodes[0].name)
        for node in nodes:
            eventually(lambda node=node: can_connect(node.url), STARTED_WITHIN_S, what=f"{node.name} starts")  # type: ignore[misc]

    def kill(self, node: Node) -> None:
        """SIGKILL to a node."""
        pid = int((node.home / "pid").read_text(encoding="ascii"))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{pid}/cwd").exists(), 20, what=f"{node.name} is gone")

    def leader(self, queue: str) -> Node:
        """The node that leads a queue."""
        name = self._column(queue, "leader")
        return next(node for node in self.nodes if node.name == name)

    def wait_for_copies(self, queue: str) -> None:
        """Wait until each node has a copy of a queue that is up."""
        eventually(lambda: all(node.name in self._column(queue, "online") for node in self.nodes), 60, what=f"{queue} on three nodes")

    def remove(self) -> None:
        """Kill all, and delete everything."""
        for node in self.nodes:
            if (node.home / "pid").exists():
                self.kill(node)
        subprocess.run(["epmd", "-kill"], check=False, capture_output=True, env=self._env, timeout=10)
        shutil.rmtree(self._home, ignore_errors=True)

    def _column(self, queue: str, column: str) -> str:
        up = next(node for node in self.nodes if can_connect(node.url))
        listed = self._run("ctl.sh", up.home, "list_queues", "--no-table-headers", "name", column)
        return next((line.partition("\t")[2] for line in listed.splitlines() if line.startswith(f"{queue}\t")), "")

    def _run(self, script: str, *args: str | int | Path) -> str:
        # To a file: the node that a script starts keeps what it was given open.
        with (self._home / "out").open("w+b") as out:
            command = ["sh", str(self._scripts / script), *map(str, args)]
            done = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", env=self._env, timeout=SCRIPT_WITHIN_S,
                start_new_session=True, **self._identity(),
            )  # fmt: skip
            out.seek(0)
            said = out.read().decode(errors="replace")
        if done.returncode:
            raise RabbitUnavailable(f"{' '.join(command)}: {said[-2_000:]}")
        return said

    def _identity(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}


@contextmanager
def rabbit_cluster(*, is_started: bool = True) -> Iterator[RabbitCluster]:
    """A cluster for this test alone. Raises: RabbitUnavailable."""
    amqp_url()  # where only the distribution's package helps, this installs it
    cluster = RabbitCluster()
    try:
        if is_started:
            cluster.start()
        yield cluster
    finally:
        cluster.remove()
