"""One installation of Escrow for the acceptance tests: a database, a namespace, and real processes, asked through its API."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from orchestrator import config, wiring
from orchestrator.contract import Envelope
from tests.acceptance.played import Played
from tests.acceptance.stories import CALM, CLOSING, DATA, PLAYED, REAL, STORIES, Story
from tests.support.processes import Process, eventually, free_port

#: Longest wait for anything, in seconds: many times what it takes on an idle machine.
PATIENCE_S = 30.0


class Installation:
    """Made and ended by `installed`. Times are seconds."""

    def __init__(self, home: Path, *, database_url: str, amqp_url: str, settings: Mapping[str, str]) -> None:
        self.home = home
        self.namespace = f"acceptance-{uuid4().hex[:10]}"
        self.database_url = database_url
        definitions = home / "definitions"
        definitions.mkdir()
        for story in STORIES:
            story.write(definitions)
        self._env = {
            "ESCROW_DATABASE_URL": database_url,
            "ESCROW_AMQP_URL": amqp_url,
            "ESCROW_NAMESPACE": self.namespace,
            "ESCROW_DEFINITIONS": str(definitions),
            "ESCROW_LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "",  # many processes: compile once
            **settings,
        }
        self._amqp_url = amqp_url
        self._numbers = itertools.count(1)
        self._processes: list[Process] = []
        self._doors: dict[str, str] = {}
        self._ready: dict[int, str] = {}
        self.participants: dict[str, Process] = {}
        self.workers: list[Process] = []
        self.played = Played(amqp_url, self.namespace)
        self.token = ""
        self._port = 0

    # --- processes

    def start(self, *, workers: int = 2, participants: tuple[str, ...] = REAL) -> None:
        """Migrate, make a token, and start everything; returns when all are ready."""
        self.command("db", "upgrade")
        printed = self.command("token", "create", "tester", "--role", "admin")
        self.token = next(line for line in printed.splitlines() if line.startswith("escrow_"))
        for name in participants:
            self._spawn_participant(name)
        self._start_escrow(workers)
        for name in participants:
            self._open_door(name)

    def die(self) -> None:
        """SIGKILL to the API and every worker; the participants go on."""
        for process in (self.serve, *self.workers):
            process.kill()

    def come_back(self) -> None:
        """Start the API, where it was, and as many workers as there were; returns when all are ready."""
        number = len(self.workers)
        self.workers.clear()
        self._start_escrow(number)

    def _start_escrow(self, workers: int) -> None:
        where = {"ESCROW_METRICS_ADDRESS": "127.0.0.1:0"}
        self.serve = self._process("orchestrator", "serve", "--port", str(self._port), name="serve", env=where)
        started = [self._spawn_worker() for _ in range(workers)]
        url = self.serve.wait_for_line("Escrow listens on ").split()[-1]
        if not self._port:
            self.api = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
            self._port = self.api.base_url.port or 0
        self.serve.wait_for_http(f"{url}/readyz")
        for worker, ready in started:
            worker.wait_for_http(ready)

    def start_worker(self, *, failpoint: str | None = None) -> Process:
        """One more worker; returns when it is ready. `failpoint`: where it kills itself."""
        worker, ready = self._spawn_worker(failpoint)
        worker.wait_for_http(ready)
        return worker

    def ready_url(self, worker: Process) -> str:
        """Where a worker says whether it is ready."""
        return self._ready[worker.pid]

    def start_participant(self, name: str) -> None:
        """Start a participant on the tables it has, if any; returns when it is up."""
        self._spawn_participant(name)
        self._open_door(name)

    def start_new(self, name: str) -> Process:
        """Start a participant as new; returns when its door is open, for it is not well before it was told its past."""
        self._spawn_participant(name, "--new")
        process = self.participants[name]
        self._doors[name] = process.wait_for_line(f"{name}: http").split()[-1]
        return process

    def database_of(self, name: str) -> Path:
        """A participant's own database."""
        return self.home / f"{name}.db"

    def run_module(self, module: str, *args: str) -> str:
        """Run `python -m MODULE ARGS…` to its end in the installation's environment; returns what it printed."""
        process = self._process(module, *args, name=module)
        assert process.wait(PATIENCE_S) == 0, process.text()
        return process.text()

    def command(self, *args: str, status: int = 0, timeout_s: float = PATIENCE_S) -> str:
        """Run `escrow ARGS…` to its end; returns what it printed."""
        process = self._process("orchestrator", *args, name=args[0])
        assert process.wait(timeout_s) == status, process.text()
        return process.text()

    def begin(self, *args: str) -> Process:
        """Begin `escrow ARGS…`, and do not wait for it."""
        return self._process("orchestrator", *args, name=args[0])

    def stop(self) -> None:
        """Kill everything, and take the names off the broker."""
        if hasattr(self, "api"):
            self.api.close()
        for process in self._processes:
            process.kill()
        self.played.delete_all((*REAL, *PLAYED, *CLOSING, *self.participants))

    # --- orders

    def new_id(self, name: str = "o") -> str:
        """An order id that no other test uses."""
        return f"{name}-{next(self._numbers)}"

    def place(self, story: Story, order_id: str | None = None, **data: Any) -> str:
        """Place an order through the API; returns its id."""
        order_id = order_id or self.new_id(story.name)
        answer = self.api.post("/v1/orders", json={"definition": story.name, "order_id": order_id, "data": DATA | data})
        assert answer.status_code == 201, answer.text
        return order_id

    def opening(self, story: Story, order_id: str, **data: Any) -> Envelope:
        """The event that opens an order, not yet published."""
        return Envelope(id=uuid4().hex, source="shop", type=story.opens_on, subject=order_id, data={**DATA, "order_id": order_id, **data})

    def order(self, order_id: str) -> dict[str, Any]:
        """The order, as the API shows it."""
        answer = self.api.get(f"/v1/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, order_id: str, status: str, *, state: str | None = None, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The order, once it has this status, and state."""

        def look() -> dict[str, Any]:
            order = self.order(order_id)
            assert order["status"] == status, order
            assert state in {None, order["state"]}, order
            return order

        return eventually(look, timeout_s, what=f"{order_id} {status}")

    def wait_state(self, order_id: str, state: str) -> dict[str, Any]:
        """The order, once it is in this state."""
        return self.wait(order_id, self._status_of(state), state=state)

    def history(self, order_id: str) -> list[dict[str, Any]]:
        """All entries of its history."""
        answer = self.api.get(f"/v1/orders/{order_id}/history", params={"limit": 200})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def verdicts(self, order_id: str, name: str) -> list[str]:
        """The verdicts of the entries of this name, in order."""
        return [entry["verdict"] for entry in self.history(order_id) if entry["name"] == name]

    def wait_verdicts(self, order_id: str, name: str, *verdicts: str) -> None:
        """Wait until the entries of this name have exactly these verdicts."""

        def look() -> bool:
            found = self.verdicts(order_id, name)
            assert found == list(verdicts), found
            return True

        eventually(look, PATIENCE_S, what=f"{name} of {order_id}: {verdicts}")

    def sendings(self, order_id: str) -> list[tuple[str, int, datetime]]:
        """Every command the history shows as sent: name, attempt, when it was committed."""
        return [
            (command["name"], command["attempt"], datetime.fromisoformat(entry["at"]))
            for entry in self.history(order_id)
            for command in (entry["effects"] or {}).get("commands", [])
        ]

    def act(self, order_id: str, act: str, *, seq: int | None = None, **body: Any) -> httpx.Response:
        """Do an act on the order as it stands now, or as it stood at `seq`."""
        seen = self.order(order_id)["seq"] if seq is None else seq
        body.setdefault("reason", "an acceptance test")
        return self.api.post(f"/v1/admin/orders/{order_id}/{act}", json=body, headers={"If-Match": f'"{seen}"'})

    def do(self, order_id: str, act: str, **body: Any) -> None:
        """Do an act on an order that moves meanwhile: look and try again while the answer is "stale", or it is not there yet."""

        def look() -> bool:
            answer = self.act(order_id, act, **body)
            assert answer.status_code == 200, answer.text
            return True

        eventually(look, 10, what=f"{act} of {order_id}")

    def quarantined(self, **filters: str) -> list[dict[str, Any]]:
        """Open and resolved rows of the quarantine."""
        items: list[dict[str, Any]] = self.api.get("/v1/quarantine", params={"limit": 200, **filters}).json()["items"]
        return items

    def play_through(self, order_id: str, *names: str) -> None:
        """Answer these commands as they come; without names: those of the whole saga."""
        for name in names or ("ReserveInventory", "TakePayment", "EmailInvoice"):
            self.played.answer(name, order_id)

    def calm_order_at_payment(self) -> tuple[str, Envelope]:
        """An order whose stock is reserved, and the command for its payment, not answered yet."""
        order_id = self.place(CALM)
        self.play_through(order_id, "ReserveInventory")
        return order_id, self.played.asked("TakePayment", order_id)

    # --- participants

    def tell(self, participant: str, **faults: Any) -> None:
        """Tell a real participant what to do wrong from now on; nothing: to work."""
        httpx.put(f"{self._doors[participant]}/faults", json=faults).raise_for_status()

    def door(self, participant: str) -> str:
        """The address of a real participant."""
        return self._doors[participant]

    def totals(self, participant: str) -> Mapping[str, int]:
        """What a real participant's own tables add up to."""
        found: dict[str, int] = httpx.get(f"{self._doors[participant]}/totals").raise_for_status().json()
        return found

    def assert_nothing_twice(self) -> None:
        """No real participant has carried anything out twice, and its sums are true."""
        for name in self._doors:
            assert self.totals(name)["applied_twice"] == 0, (name, self.totals(name))
        if "inventory" in self._doors:
            stock = self.totals("inventory")
            assert stock["stock_initial"] == stock["stock_available"] + stock["stock_held"]

    # --- the database

    def assert_verified(self) -> None:
        """Every journal folds to what is stored. Orders may still move: what is found must go away."""
        settings = config.load(database_url=self.database_url)

        def look() -> bool:
            report = wiring.verify(settings)
            assert not report.findings, asdict(report)
            return True

        eventually(look, 10, what="verify is clean")

    # --- inside

    def _spawn_worker(self, failpoint: str | None = None) -> tuple[Process, str]:
        port = free_port()
        env = {"ESCROW_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        if failpoint is not None:
            env["ESCROW_FAILPOINT"] = failpoint
        worker = self._process("orchestrator", "worker", name="worker", env=env)
        self.workers.append(worker)
        self._ready[worker.pid] = f"http://127.0.0.1:{port}/readyz"
        return worker, self._ready[worker.pid]

    def _spawn_participant(self, name: str, *more: str) -> None:
        database = f"sqlite:///{self.database_of(name)}"
        args = ["run", "--database-url", database, "--amqp-url", self._amqp_url, "--namespace", self.namespace, *more]
        self.participants[name] = self._process(f"participants.{name}", *args, name=name)

    def _open_door(self, name: str) -> None:
        process = self.participants[name]
        self._doors[name] = process.wait_for_line(f"{name}: http").split()[-1]
        process.wait_for_http(f"{self._doors[name]}/healthz")

    def _process(self, module: str, *args: str, name: str, env: Mapping[str, str] | None = None) -> Process:
        output = self.home / f"{name}-{len(self._processes)}.log"
        process = Process(module, *args, output=output, env={**self._env, **(env or {})}, cwd=self.home)
        self._processes.append(process)
        return process

    @staticmethod
    def _status_of(state: str) -> str:
        ends = {"completed", "compensated", "abandoned"}
        return state if state in ends else "undoing" if state.startswith("undoing_") else "running"


@contextmanager
def installed(home: Path, *, database_url: str, amqp_url: str, settings: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """An installation that is not started yet; `settings` are added to its environment.

    At its end `escrow verify` must be clean, and everything is taken away.
    """
    installation = Installation(home, database_url=database_url, amqp_url=amqp_url, settings=settings or {})
    try:
        yield installation
        installation.command("verify", timeout_s=4 * PATIENCE_S)
    finally:
        installation.stop()
