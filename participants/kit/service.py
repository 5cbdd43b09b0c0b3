"""A participant as a process: its command line, its logs, its signals."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from http.client import HTTPException
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import sqlalchemy as sa
import typer
from typer.core import TyperGroup

from orchestrator.contract import Topology, canonical
from participants.kit.control import Control, make_app
from participants.kit.database import connect
from participants.kit.faults import Faults, Settings
from participants.kit.participant import Participant
from participants.kit.rabbit import RabbitTransport
from participants.kit.runner import Runner

DatabaseUrl = Annotated[
    str, typer.Option(envvar="PARTICIPANT_DATABASE_URL", help="Its own database: sqlite:///FILE or postgresql+psycopg://…")
]
AmqpUrl = Annotated[str, typer.Option(envvar="ESCROW_AMQP_URL", help="RabbitMQ.")]
Namespace = Annotated[str, typer.Option(envvar="ESCROW_NAMESPACE", help="Prefix of every exchange and queue.")]
HttpPort = Annotated[int, typer.Option(envvar="PARTICIPANT_HTTP_PORT", min=0, max=65535, help="HTTP on loopback; 0: a free port.")]

AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
NAMESPACE = "escrow"


class Tell(StrEnum):
    """What a participant can be told from the command line."""

    STALL = "stall"
    REFUSE = "refuse"
    LATE = "late"
    TWICE = "twice"
    WRONG_ORDER = "wrong-order"
    NORMAL = "normal"


class _RunByDefault(TyperGroup):
    """`python -m participants.NAME --namespace x` means `… run --namespace x`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"--help", "-h"}):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def make_cli(name: str) -> typer.Typer:
    """A command line with `tell`; the service adds its `run`."""
    app = typer.Typer(cls=_RunByDefault, add_completion=False, help=f"The {name} service.", pretty_exceptions_enable=False)
    app.command()(tell)
    return app


def tell(
    what: Annotated[Tell, typer.Argument(help="What to do from now on, instead of what it was told before.")],
    url: Annotated[str, typer.Option(envvar="PARTICIPANT_URL", help="The address that the participant printed.")],
    count: Annotated[int, typer.Option(min=0, help="With `refuse`: how many new commands; 0: all.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="With `late`: by how much.")] = 5.0,
) -> None:
    """Tell a running participant to stall, refuse, answer late, twice, with a wrong order id, or normally again."""
    if not url.startswith(("http://", "https://")):
        _fail(f"{url} is no http address.")
    try:
        settings = {
            Tell.STALL: Settings(stall=True),
            Tell.REFUSE: Settings(refuse=count or "all"),
            Tell.LATE: Settings(late_s=seconds),
            Tell.TWICE: Settings(twice=True),
            Tell.WRONG_ORDER: Settings(wrong_order=True),
            Tell.NORMAL: Settings(),
        }[what]
        body = json.dumps(settings.document()).encode()
        request = Request(f"{url.rstrip('/')}/faults", body, {"Content-Type": "application/json"}, method="PUT")  # noqa: S310 - http only
    except ValueError as error:
        _fail(str(error))
    try:
        with urlopen(request, timeout=5) as answer:  # noqa: S310 - http only
            typer.echo(answer.read().decode())
    except HTTPError as error:
        _fail(f"{url} refused: {error.code} {error.reason}")
    except (OSError, HTTPException) as error:
        _fail(f"{url} does not answer: {error}")


def serve(build: Callable[[sa.Engine], Participant], *, database_url: str, amqp_url: str, namespace: str, http_port: int) -> None:
    """Run until SIGTERM or SIGINT, then finish the batch, ack, publish and close. Prints the address of the door."""
    _log_to_stderr()
    try:
        engine = connect(database_url)
        participant = build(engine)
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        _fail(f"The database cannot be used: {str(error).splitlines()[0]}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    faults = Faults()
    try:
        transport = RabbitTransport(amqp_url, Topology(namespace), participant.name)
    except ValueError as error:
        _fail(f"The address of RabbitMQ cannot be read: {error}")
    runner = Runner(participant, transport, faults=faults)

    def trouble() -> str | None:
        return transport.trouble or runner.trouble

    try:
        control = Control(make_app(participant.name, faults, participant.totals, trouble), http_port)
    except OSError as error:
        transport.close()
        _fail(f"Port {http_port} cannot be used: {error}")
    typer.echo(f"{participant.name}: {control.url}")
    sys.stdout.flush()
    try:
        runner.run(stop)
    finally:
        control.close()
        engine.dispose()


def _fail(message: str) -> Any:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(2)


class _JsonLines(logging.Formatter):
    """One JSON object a line, in the form of Escrow's own lines, so that both can be read together."""

    def format(self, record: logging.LogRecord) -> str:
        order_id = getattr(record, "order_id", None)
        line = {
            "at": canonical.format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "action": getattr(record, "action", "library"),
            **({} if order_id is None else {"order_id": order_id}),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(plain if sys.stderr.isatty() else _JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger("participants").setLevel(logging.INFO)
    # Its every word the transport says better, and once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
