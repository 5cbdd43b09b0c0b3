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
from functools import partial
from http.client import HTTPException
from typing import Annotated, Any, NoReturn
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
from participants.kit.stages import Stage, stages

DatabaseUrl = Annotated[
    str, typer.Option(envvar="PARTICIPANT_DATABASE_URL", help="Its own database: sqlite:///FILE or postgresql+psycopg://…")
]
AmqpUrl = Annotated[str, typer.Option(envvar="ESCROW_AMQP_URL", help="RabbitMQ.")]
Namespace = Annotated[str, typer.Option(envvar="ESCROW_NAMESPACE", help="Prefix of every exchange and queue.")]
HttpPort = Annotated[int, typer.Option(envvar="PARTICIPANT_HTTP_PORT", min=0, max=65535, help="HTTP on loopback; 0: a free port.")]

New = Annotated[
    bool,
    typer.Option(
        "--new",
        envvar="PARTICIPANT_NEW",
        help="It is new, or lost its state: with an empty ledger it takes no command before `escrow replay` has told it the past.",
    ),
]
Choreographed = Annotated[
    bool,
    typer.Option(
        "--choreographed/--by-command",
        envvar="PARTICIPANT_CHOREOGRAPHED",
        help="React to the events of others too, or act by command only.",
    ),
]

AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
NAMESPACE = "escrow"
#: How long a start waits for the link before it begins without, in seconds; a stop waits for that, too.
LINK_WITHIN_S = 1.0


class Tell(StrEnum):
    """What a participant can be told from the command line."""

    STALL = "stall"
    DOWN = "down"
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


def make_cli(name: str, *, facts: bool = False) -> typer.Typer:
    """A command line with `tell`, and `happen` when the participant has `facts`; the service adds its `run`."""
    app = typer.Typer(cls=_RunByDefault, add_completion=False, help=f"The {name} service.", pretty_exceptions_enable=False)
    app.command()(tell)
    if facts:
        app.command()(happen)
    return app


def make_plain_cli(name: str, build: Callable[[sa.Engine], Participant], serves: str, *, facts: bool = False) -> typer.Typer:
    """The whole command line of a participant without options of its own. `serves`: what its `run` says of itself."""
    app = make_cli(name, facts=facts)

    @app.command(help=serves)
    def run(
        database_url: DatabaseUrl = f"sqlite:///{name}.db",
        amqp_url: AmqpUrl = AMQP_URL,
        namespace: Namespace = NAMESPACE,
        http_port: HttpPort = 0,
        *,
        new: New = False,
    ) -> None:
        serve(build, database_url=database_url, amqp_url=amqp_url, namespace=namespace, http_port=http_port, new=new)

    return app


def tell(
    what: Annotated[Tell, typer.Argument(help="What to do from now on, instead of what it was told before.")],
    url: Annotated[str, typer.Option(envvar="PARTICIPANT_URL", help="The address that the participant printed.")],
    count: Annotated[int, typer.Option(min=0, help="With `refuse`: how many new commands; 0: all.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="With `late`: by how much.")] = 5.0,
) -> None:
    """Tell a running participant to stall, be down, refuse, answer late, twice, with a wrong order id, or normally again."""
    try:
        settings = {
            Tell.STALL: Settings(stall=True),
            Tell.DOWN: Settings(down=True),
            Tell.REFUSE: Settings(refuse=count or "all"),
            Tell.LATE: Settings(late_s=seconds),
            Tell.TWICE: Settings(twice=True),
            Tell.WRONG_ORDER: Settings(wrong_order=True),
            Tell.NORMAL: Settings(),
        }[what]
    except ValueError as error:
        _fail(str(error))
    typer.echo(_send("PUT", url, "/faults", settings.document()))


def happen(
    fact: Annotated[str, typer.Argument(help="What happened: the type of its event.")],
    order: Annotated[str, typer.Option(help="The order that it happened to.")],
    url: Annotated[str, typer.Option(envvar="PARTICIPANT_URL", help="The address that the participant printed.")],
    data: Annotated[str, typer.Option(help="What the event says: a JSON object.")] = "{}",
    fact_id: Annotated[str, typer.Option("--fact", help="The name of this fact, unique within its type. Default: the order's id.")] = "",
) -> None:
    """Tell a running participant of a fact, which it tells the bus. Told again with the same name it is the same fact."""
    try:
        content = json.loads(data)
    except ValueError as error:
        _fail(f"--data is not JSON: {error}.")
    typer.echo(_send("POST", url, "/facts", {"type": fact, "order_id": order, "data": content, "fact_id": fact_id or order}))


def _send(method: str, url: str, path: str, document: dict[str, Any]) -> str:
    """The answer of the participant's door; what goes wrong is said in one line."""
    if not url.startswith(("http://", "https://")):
        _fail(f"{url} is no http address.")
    try:
        headers = {"Content-Type": "application/json"}
        request = Request(f"{url.rstrip('/')}{path}", json.dumps(document).encode(), headers, method=method)  # noqa: S310 - http only
    except ValueError as error:
        _fail(str(error))
    try:
        with urlopen(request, timeout=5) as answer:  # noqa: S310 - http only
            said: str = answer.read().decode()
    except HTTPError as error:
        _fail(f"{url} refused: {error.code} {_detail(error)}")
    except (OSError, HTTPException) as error:
        _fail(f"{url} does not answer: {error}")
    return said


def _detail(error: HTTPError) -> str:
    """The reason that the door gave, in one line."""
    try:
        detail = json.loads(error.read())["detail"]
    except (ValueError, LookupError, TypeError):
        return str(error.reason)
    return detail if isinstance(detail, str) else json.dumps(detail)


def serve(
    build: Callable[[sa.Engine], Participant], *, database_url: str, amqp_url: str, namespace: str, http_port: int, new: bool = False
) -> None:
    """Run until SIGTERM or SIGINT, then finish the batch, ack, publish and close. Prints the address of the door.

    `new`: it lost its state; with an empty ledger it takes no live command before a replay has ended.
    """
    _log_to_stderr()
    faults = Faults()
    try:
        engine = connect(database_url)
        participant = build(engine)
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
        _fail(f"The database cannot be used: {str(error).splitlines()[0]}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    link = partial(RabbitTransport, amqp_url, Topology(namespace), participant.name, hearing=participant.hearing)
    coming = stages(participant, faults, link, new=new)
    try:
        stage = next(coming)
    except sa.exc.SQLAlchemyError as error:
        _fail(f"The database cannot be used: {str(error).splitlines()[0]}")
    except ValueError as error:
        _fail(f"The address of RabbitMQ cannot be read: {error}")
    present = [stage]
    try:
        control = Control(make_app(participant, faults, lambda: present[-1].trouble), http_port)
    except OSError as error:
        stage.transport.close()
        _fail(f"Port {http_port} cannot be used: {error}")
    typer.echo(f"{participant.name}: {control.url}")
    sys.stdout.flush()
    try:
        _run(stage, stop)
        for stage in coming:
            present.append(stage)
            _run(stage, stop)
    finally:
        control.close()
        engine.dispose()


def _run(stage: Stage, stop: threading.Event) -> None:
    """The loop begins with what the outbox held, and would call it trouble that the link is not up in its first moment."""
    stage.transport.wait_until_up(LINK_WITHIN_S)
    stage.loop.run(stop)


def _fail(message: str) -> NoReturn:
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
