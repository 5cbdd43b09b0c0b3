"""What the tests of the command line use: a run of it, and an API of the fixed contract that remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from orchestrator.cli.root import compose
from orchestrator.cli.session import Session
from orchestrator.config import Settings

#: Without the commands that run processes: those are the acceptance tests'.
_APP = compose({})
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

ORDER: dict[str, Any] = {
    "order_id": "order-1",
    "definition": "order",
    "version": 1,
    "state": "taking_payment",
    "status": "running",
    "seq": 7,
    "epoch": 0,
    "waiting_on": [
        {
            "participant": "payment",
            "step": "take_payment",
            "for": "PaymentTaken",
            "since": "2026-11-21T11:59:00Z",
            "attempts": 2,
            "deadline_at": "2026-11-21T12:00:30Z",
        }
    ],
    "deadline_at": "2026-11-21T12:00:30Z",
    "attempts": 2,
    "cause": None,
    "opened_at": "2026-11-21T11:58:00Z",
    "updated_at": "2026-11-21T11:59:00Z",
    "allowed_acts": ["force", "retry", "abort"],
}

PLAN: dict[str, Any] = {
    "dry_run": False,
    "from_state": "taking_payment",
    "to_state": "undoing_take_payment",
    "status": "undoing",
    "seq": 8,
    "commands": [{"participant": "payment", "type": "RefundPayment", "attempt": 1, "data": {"secret": "x"}}],
    "deadlines_armed": [{"name": "undo_reply:take_payment.0.1", "due_at": "2026-11-21T12:00:30Z"}],
    "deadlines_disarmed": ["patience"],
    "undos_skipped": [],
    "left_standing": [],
}


@dataclass
class Api:
    """The remote API: answers by method and path, and remembers what it was asked."""

    answers: dict[tuple[str, str], Callable[[httpx.Request], httpx.Response]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def on(self, method: str, path: str, body: object = None, *, status: int = 200) -> None:
        """Answer with this body from now on."""
        self.answers[method, path] = lambda _: httpx.Response(status, json=body)

    def problem(self, method: str, path: str, status: int, **members: object) -> None:
        """Answer with a problem from now on."""
        document = {"type": "/problems/x", "title": "It cannot be done", "status": status, **members}
        headers = {"Content-Type": "application/problem+json"}
        self.answers[method, path] = lambda _: httpx.Response(status, json=document, headers=headers)

    def series(self, method: str, path: str, *bodies: Mapping[str, Any] | Exception) -> None:
        """Answer with one after the other, then with the last for ever."""
        left = list(bodies)

        def answer(_: httpx.Request) -> httpx.Response:
            body = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(body, Exception):
                raise body
            return httpx.Response(200, json=body)

        self.answers[method, path] = answer

    def handle(self, request: httpx.Request) -> httpx.Response:
        """The transport's side."""
        self.requests.append(request)
        answer = self.answers.get((request.method, request.url.raw_path.decode().partition("?")[0]))
        if answer is None:
            return httpx.Response(404, json={"title": "There is no such thing here", "status": 404, "detail": "No such order."})
        return answer(request)

    @property
    def last(self) -> httpx.Request:
        """The last request."""
        return self.requests[-1]

    @property
    def last_body(self) -> Any:
        """Its JSON body."""
        return json.loads(self.last.content)


@dataclass
class Clock:
    """Time that passes only by waiting."""

    elapsed_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed_s += seconds


@dataclass
class Escrow:
    """The command line, with a world of its own."""

    session: Session
    clock: Clock

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run `escrow ARGUMENTS`. Whatever it raises but SystemExit fails the test."""
        return CliRunner().invoke(_APP, list(arguments), input=stdin, obj=self.session, prog_name="escrow", catch_exceptions=False)


def make_escrow(api: Api, settings: Settings) -> Escrow:
    """A command line with these settings, its HTTP answered by `api`, its clock at NOW."""
    clock = Clock()
    ids = iter(f"00000000-0000-4000-8000-{number:012}" for number in range(1_000_000))
    session = Session(
        settings=lambda: settings,
        now=lambda: NOW,
        monotonic=lambda: clock.elapsed_s,
        sleep=clock.sleep,
        new_id=lambda: next(ids),
        new_token=lambda: "escrow_" + "t" * 43,
        transport=httpx.MockTransport(api.handle),
    )
    return Escrow(session, clock)
