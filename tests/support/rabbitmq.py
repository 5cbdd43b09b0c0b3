"""A RabbitMQ server of our own: own node name, ports, epmd, cookie and data, so that it meets no other on the machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
from pika.exceptions import AMQPError

from tests.support.postgres import unprivileged_user
from tests.support.processes import POLL_S, free_port

#: Longest start or stop, in seconds.
STARTED_WITHIN_S = 90.0

#: Shares of memory: with the first every publisher is blocked, the second is RabbitMQ's own default.
WATERMARK_BLOCKING = "0.0001"
WATERMARK_NORMAL = "0.4"

#: Where the scripts themselves are. Debian's /usr/sbin has a wrapper that changes the user and the home directory.
SCRIPT_DIRECTORIES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")


class RabbitUnavailable(Exception):
    """No `rabbitmq-server` was found, or it would not start."""


class RabbitServer:
    """One single-node broker, user guest/guest on loopback."""

    def __init__(self) -> None:
        self._scripts = scripts()
        self._user = unprivileged_user("rabbitmq")
        self._home = Path(tempfile.mkdtemp(prefix="escrow-mq-"))
        self._port = free_port()
        self._env = self._environment(free_port(), free_port())
        self._child: subprocess.Popen[bytes] | None = None
        self._make_home()

    @property
    def url(self) -> str:
        """AMQP URL."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    @property
    def port(self) -> int:
        """Its AMQP port, the same after a restart."""
        return self._port

    def start(self) -> None:
        """Start it, and return when it takes connections. Raises: RabbitUnavailable with the end of its log."""
        with (self._home / "out").open("ab") as out:
            self._child = subprocess.Popen(
                [self._scripts / "rabbitmq-server"],
                env=self._env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **self._identity(),
            )
        limit = time.monotonic() + STARTED_WITHIN_S
        while not can_connect(self.url):
            if self._child.poll() is not None or time.monotonic() > limit:
                raise RabbitUnavailable(f"rabbitmq-server did not start:\n{(self._home / 'out').read_text()[-2_000:]}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Orderly shutdown. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the node, as by a crash. Idempotent."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """`stop()`, then `start()`, on the same port with the same data."""
        self.stop()
        self.start()

    def alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm: while it is on, the broker reads nothing more from connections that publish."""
        self.ctl("set_vm_memory_high_watermark", WATERMARK_BLOCKING if on else WATERMARK_NORMAL)

    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl` on it; returns what it prints. Raises: RabbitUnavailable."""
        command: list[str | Path] = [self._scripts / "rabbitmqctl", "--quiet", "--node", self._env["RABBITMQ_NODENAME"], *args]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self._env, cwd=self._home, timeout=60, **self._identity()
        )
        if done.returncode:
            raise RabbitUnavailable(f"rabbitmqctl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def add_user(self, name: str, rights: Sequence[str], *, vhost: str = "/") -> str:
        """Make a user who may configure, write and read what these three patterns say (none: may not come in). Returns its AMQP URL."""
        self.ctl("add_user", name, name)
        if rights:
            self.ctl("set_permissions", "-p", vhost, name, *rights)
        return self.url_of(name, vhost=vhost)

    def url_of(self, user: str, *, password: str | None = None, vhost: str = "/") -> str:
        """AMQP URL of a user of `add_user`, whose password is its name unless you give another."""
        return f"amqp://{user}:{password or user}@127.0.0.1:{self._port}/{quote(vhost, safe='')}"

    def import_definitions(self, text: str) -> None:
        """Load a definitions file (JSON). Raises: RabbitUnavailable."""
        file = self._home / "definitions.json"
        file.write_text(text)
        file.chmod(0o644)
        self.ctl("import_definitions", str(file))

    def wipe(self) -> None:
        """Lose all it has: it comes back as a new broker, on the same port, without an exchange, a queue or a message."""
        self.kill()
        shutil.rmtree(self._home / "db")
        self.start()

    def remove(self) -> None:
        """Stop it and its epmd, and delete everything."""
        self.stop()
        subprocess.run(["epmd", "-kill"], check=False, capture_output=True, env=self._env, timeout=10)
        shutil.rmtree(self._home, ignore_errors=True)

    def _environment(self, distribution_port: int, epmd_port: int) -> dict[str, str]:
        # One scheduler: the tests share two cores with everything else. The distribution port would listen on all interfaces.
        erl = "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "plugins"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._home / "db"),
            "RABBITMQ_NODENAME": f"escrow_{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erl,
        }

    def _make_home(self) -> None:
        files = {
            ".erlang.cookie": f"ESCROWTEST{self._port}",
            "env.conf": "",
            "plugins": "[].\n",
            "rabbitmq.conf": "disk_free_limit.absolute = 50MB\nlog.console = true\nlog.console.level = warning\n",
        }
        for name, text in files.items():
            (self._home / name).write_text(text)
        (self._home / ".erlang.cookie").chmod(0o400)
        if self._user:
            for path in (self._home, *self._home.iterdir()):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _end(self, how: signal.Signals) -> None:
        if self._child is None:
            return
        if self._child.poll() is None:
            # The script may stand before the node: the whole group gets the signal.
            os.killpg(self._child.pid, how)
        self._child.wait(STARTED_WITHIN_S)
        self._child = None

    def _identity(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}


def can_connect(url: str) -> bool:
    """Whether a broker answers there and lets us in."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 3
    try:
        pika.BlockingConnection(parameters).close()
    except (AMQPError, OSError):
        return False
    return True


def scripts() -> Path:
    """The directory with `rabbitmq-server` and `rabbitmqctl`. Raises: RabbitUnavailable."""
    on_path = shutil.which("rabbitmq-server")
    candidates = [*map(Path, SCRIPT_DIRECTORIES), *([Path(on_path).parent] if on_path else [])]
    for directory in candidates:
        if (directory / "rabbitmq-server").exists():
            return directory
    raise RabbitUnavailable("rabbitmq-server is not installed")
