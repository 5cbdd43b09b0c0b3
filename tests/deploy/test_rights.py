"""Broker users with the rights of `deploy/rabbitmq`, with which everything works, and with fewer, who are told what to change."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pika
import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from orchestrator.contract import encode
from tests.participants.support import ask
from tests.support.processes import Process, eventually
from tests.support.rabbitmq import RabbitServer
from tests.support.services import fresh_postgres, private_postgres, private_rabbitmq

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = ROOT / "deploy" / "rabbitmq" / "definitions.json"
OPERATIONS = ROOT / "docs" / "operations.md"
PASSWORD = "local-only"
PARTICIPANTS = ("inventory", "payment", "invoice")
ORDER = {"lines": [{"sku": "TEA-1", "quantity": 1}], "amount_minor": 990, "currency": "EUR", "customer_email": "ada@example.org"}


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    """A broker with the definitions of `deploy/rabbitmq`."""
    with private_rabbitmq() as server:
        server.import_definitions(DEFINITIONS.read_text(encoding="utf-8"))
        yield server


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A migrated database."""
    with fresh_postgres() as url:
        escrow(tmp_path, {"ESCROW_DATABASE_URL": url}, "db", "upgrade")
        yield url


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """The owner of a migrated database, on a server where users can be made."""
    with private_postgres() as server:
        escrow(tmp_path_factory.mktemp("database"), {"ESCROW_DATABASE_URL": server.url}, "db", "upgrade")
        yield make_url(server.url)


def a_user(owner: URL, name: str, *, grants: str = "") -> str:
    """Make a user of the database, give it rights, and return how it comes in."""
    with psycopg.connect(owner.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"CREATE USER {name} PASSWORD '{PASSWORD}'; {grants}".encode())
    return owner.set(username=name, password=PASSWORD).render_as_string(hide_password=False)


def url_of(broker: RabbitServer, user: str) -> str:
    """How a user of the definitions comes in."""
    return broker.url_of(user, password=PASSWORD, vhost="escrow")


def escrow(home: Path, env: dict[str, str], *words: str, status: int = 0) -> str:
    """Run `escrow WORDS…` to its end; what it printed."""
    output = home / "-".join(words)
    with Process("orchestrator", *words, output=output, env=env) as process:
        assert process.wait() == status, process.text()
        text = process.text()
    output.unlink()
    return text


def doctor(home: Path, env: dict[str, str], *, status: int = 0) -> list[dict[str, Any]]:
    """The checks of `escrow doctor` that fail."""
    printed = escrow(home, env, "doctor", "-o", "json", status=status)
    checks: list[dict[str, Any]] = json.loads(printed[: printed.rindex("]") + 1])
    return [check for check in checks if not check["ok"]]


def carry_out(broker: RabbitServer, text: str) -> None:
    """Run the first `rabbitmqctl` command that a text tells to run."""
    found = re.search(r"rabbitmqctl set_permissions .*?'\S*'(?= \(it |$)", text)
    assert found, text
    broker.ctl(*shlex.split(found[0])[1:])


def test_an_order_completes_with_the_least_rights(broker: RabbitServer, owner: URL, tmp_path: Path) -> None:
    """If it failed, the users that we tell to make could not do their work, or their events would be taken for somebody else's."""
    told = re.search(r"```sql\n(.*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    assert told
    env = {
        "ESCROW_DATABASE_URL": a_user(owner, "escrow_run", grants=told[1]),
        "ESCROW_AMQP_URL": url_of(broker, "escrow"),
        "ESCROW_REQUIRE_USER_ID": "true",
        "ESCROW_METRICS_ADDRESS": "127.0.0.1:0",
    }
    assert doctor(tmp_path, env) == []

    token = next(
        line for line in escrow(tmp_path, env, "token", "create", "me", "--role", "admin").splitlines() if line.startswith("escrow_")
    )
    processes = [
        serve := Process("orchestrator", "serve", "--port", "0", output=tmp_path / "serve", env=env),
        Process("orchestrator", "worker", output=tmp_path / "worker", env=env),
        *(_participant(broker, name, tmp_path) for name in PARTICIPANTS),
    ]
    try:
        url = serve.wait_for_line("Escrow listens on ").split()[-1]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as api:
            body = {"definition": "order", "order_id": "order-1", "data": ORDER}
            eventually(lambda: api.post("/v1/orders", json=body).is_success, 30)
            eventually(lambda: api.get("/v1/orders/order-1").json()["status"] == "completed", 30)
            assert api.get("/v1/quarantine").json()["items"] == []
    finally:
        texts = [_ended(process) for process in processes]

    assert [text for text in texts if "ACCESS_REFUSED" in text] == []
    # Rebuilding needs no more than the line does.
    assert "decided again" in escrow(tmp_path, env, "verify", "--deep")
    assert "Made anew: 0." in escrow(tmp_path, env, "rebuild")


def test_a_participant_is_told_its_past_with_the_least_rights(broker: RabbitServer, database_url: str, tmp_path: Path) -> None:
    """If it failed, whoever gave the rights that we tell could not bring back a participant that lost its database."""
    env = {
        "ESCROW_DATABASE_URL": database_url,
        "ESCROW_AMQP_URL": url_of(broker, "escrow"),
        "ESCROW_REQUIRE_USER_ID": "true",
        "ESCROW_METRICS_ADDRESS": "127.0.0.1:0",
    }
    new = _participant(broker, "inventory", tmp_path, "run", "--new")
    processes = [new, Process("orchestrator", "worker", output=tmp_path / "worker", env=env)]
    try:
        door = new.wait_for_line("inventory: http://").split()[-1]
        told = eventually(lambda: _replayed(tmp_path, env), 60)
        assert "Events of others (StockReceived)" in told
        eventually(lambda: httpx.get(f"{door}/healthz").is_success, 30)
    finally:
        texts = [_ended(process) for process in processes]
    assert "replay_ended" in texts[0]
    assert "hears_no_events" not in texts[0]
    assert "ACCESS_REFUSED" not in "".join(texts)
    queues = broker.ctl("list_queues", "--vhost", "escrow", "name", "--no-table-headers").split()
    assert "escrow.replay.inventory" not in queues


def _replayed(home: Path, env: dict[str, str]) -> str:
    """What `escrow replay` says, once the participant's request is known."""
    output = home / "replay"
    output.unlink(missing_ok=True)
    with Process("orchestrator", "replay", "--to", "inventory", "--from", "first", output=output, env=env) as process:
        status, text = process.wait(60), process.text()
    assert status in {0, 1}, text
    return text


def test_a_database_user_without_rights_is_said_by_the_doctor(broker: RabbitServer, owner: URL, tmp_path: Path) -> None:
    """If it failed, whoever forgot to give rights in the database would be told that there is a bug in Escrow."""
    env = {"ESCROW_DATABASE_URL": a_user(owner, "nobody_yet"), "ESCROW_AMQP_URL": url_of(broker, "escrow")}

    [check] = doctor(tmp_path, env, status=1)

    assert check["name"] == "database"
    assert "permission denied" in check["detail"]
    assert "docs/operations.md" in check["fix"]


def test_a_database_user_who_may_only_read_is_said_by_the_doctor_and_may_verify(broker: RabbitServer, owner: URL, tmp_path: Path) -> None:
    """If it failed, half of the GRANTs would pass for all of them, until the first order comes."""
    url = a_user(owner, "reader", grants="GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    env = {"ESCROW_DATABASE_URL": url, "ESCROW_AMQP_URL": url_of(broker, "escrow")}

    [check] = doctor(tmp_path, env, status=1)

    assert check["name"] == "database"
    assert "lacks rights: DELETE on api_tokens" in check["detail"]
    assert "docs/operations.md" in check["fix"]
    escrow(tmp_path, env, "verify")


@pytest.mark.parametrize(
    "words",
    [
        ("worker",),
        ("serve", "--port", "0"),
        ("token", "create", "me", "--role", "admin"),
        ("verify",),
        ("rebuild",),
        ("db", "check"),
        ("db", "upgrade"),
    ],
    ids=" ".join,
)
def test_a_command_without_rights_in_the_database_says_so(broker: RabbitServer, owner: URL, tmp_path: Path, words: tuple[str, ...]) -> None:
    """If it failed, a forgotten GRANT would be reported to us as a bug, and a supervisor would start the process again and again."""
    env = {
        "ESCROW_DATABASE_URL": a_user(owner, f"nobody_{'_'.join(words[:2]).replace('-', '')}"),
        "ESCROW_AMQP_URL": url_of(broker, "escrow"),
        "ESCROW_METRICS_ADDRESS": "127.0.0.1:0",
    }

    [line] = escrow(tmp_path, env, *words, status=2).splitlines()

    assert line.startswith("escrow: PostgreSQL: permission denied for table")
    assert "Fix: give the user the rights that docs/operations.md grants" in line


def test_a_worker_says_what_to_change_and_goes_on_without_a_restart(broker: RabbitServer, database_url: str, tmp_path: Path) -> None:
    """If it failed, an operator would search a log for why nothing happens, or have to restart what waits to be let in."""
    env = {
        "ESCROW_DATABASE_URL": database_url,
        "ESCROW_AMQP_URL": broker.url_of("deaf", vhost="escrow"),
        "ESCROW_METRICS_ADDRESS": "127.0.0.1:0",
        "ESCROW_LOG_FORMAT": "json",
    }
    broker.add_user("deaf", (r"^escrow\.", r"^escrow\.", r"^escrow\.(events|commands|recorder)$"), vhost="escrow")
    with Process("orchestrator", "worker", output=tmp_path / "worker", env=env) as worker:
        said = worker.wait_for_line("The broker link is down")
        assert "ACCESS_REFUSED" in said
        assert "escrow.inbox" in said
        assert "Fix: give the user that permission: `escrow doctor` prints the command" in said

        [check] = doctor(tmp_path, env, status=1)
        assert check["name"] == "permission to consume escrow.inbox"
        carry_out(broker, check["fix"])

        worker.wait_for_line('"consuming": true')
        assert doctor(tmp_path, env) == []
        assert worker.terminate() == 0
        assert "Traceback" not in worker.text()


@pytest.mark.parametrize(
    ("user", "rights", "refused"),
    [
        ("mute", ("^$", "^$", r"^escrow\.commands\.inventory$"), "exchange 'escrow.events'"),
        ("blind", ("^$", r"^escrow\.events$", "^$"), "queue 'escrow.commands.inventory'"),
        ("stranger", (), "into the virtual host escrow"),
    ],
)
def test_a_participant_says_what_to_change_and_goes_on_without_a_restart(
    broker: RabbitServer, tmp_path: Path, user: str, rights: tuple[str, ...], refused: str
) -> None:
    """If it failed, whoever runs a participant would see that it does nothing, and not why."""
    broker.add_user(user, rights, vhost="escrow")
    with _participant(broker, "inventory", tmp_path, amqp_url=broker.url_of(user, vhost="escrow")) as process:
        door = process.wait_for_line("inventory: http://").split()[-1]
        _ask_inventory(broker, f"order-{user}")
        said = eventually(lambda: _events(process, "link_down"), 20)[0]
        assert refused in said
        assert len(said.splitlines()) == 1

        carry_out(broker, said)

        eventually(lambda: httpx.get(f"{door}/totals").json()["reserved"] == 1, 30)
        eventually(lambda: f"order-{user}" in _taken(broker), 30)
        assert set(_events(process, "link_down")) == {said}
        eventually(lambda: httpx.get(f"{door}/healthz").is_success)
        assert process.terminate() == 0
        assert "Traceback" not in process.text()


def test_a_participant_that_speaks_for_another_is_told_its_topics(broker: RabbitServer, tmp_path: Path) -> None:
    """If it failed, a participant run as another's user would be refused at its first answer, and nobody be told that it is the topic."""
    broker.ctl("set_permissions", "-p", "escrow", "payment", "^$", r"^escrow\.events$", r"^escrow\.commands\.inventory$")
    with _participant(broker, "inventory", tmp_path, amqp_url=url_of(broker, "payment")) as process:
        _ask_inventory(broker, "order-topic")
        [said] = eventually(lambda: _events(process, "link_down"), 20)

    assert r"rabbitmqctl set_topic_permissions -p escrow payment escrow.events '^inventory\.' '^\*\.(StockReceived)$'" in said


def _ask_inventory(broker: RabbitServer, order_id: str) -> None:
    """Send a command as Escrow does."""
    wire = encode(ask("ReserveInventory", order_id, {"lines": ORDER["lines"]}))
    with _connected(broker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(content_type=wire.content_type, delivery_mode=2)
        channel.basic_publish("escrow.commands", "inventory", wire.body, properties, mandatory=True)


def _taken(broker: RabbitServer) -> str:
    """The next event of the inbox."""
    with _connected(broker) as connection:
        _, _, body = connection.channel().basic_get("escrow.inbox", auto_ack=True)
        return (body or b"").decode()


def _connected(broker: RabbitServer) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url_of(broker, "escrow")))


def _events(process: Process, action: str) -> list[str]:
    """What a participant has logged under this action."""
    lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["action"] == action]


def _participant(broker: RabbitServer, name: str, home: Path, *words: str, amqp_url: str | None = None) -> Process:
    env = {
        "PARTICIPANT_DATABASE_URL": f"sqlite:///{home / name}.db",
        "ESCROW_AMQP_URL": amqp_url or url_of(broker, name),
        "INVOICE_MAIL_DIR": str(home / "mail"),
    }
    return Process(f"participants.{name}", *words, output=home / f"{name}.log", env=env)


def _ended(process: Process) -> str:
    process.kill()
    return process.text()
