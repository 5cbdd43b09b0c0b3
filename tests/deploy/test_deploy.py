"""The files under `deploy/`, checked without Docker: they parse, agree with the code, and the broker takes its definitions."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from orchestrator.bus.doctor import Rights, needed
from orchestrator.bus.topology import Retention, Stream
from orchestrator.config import Settings
from orchestrator.contract import QUORUM_ARGUMENTS, Topology, event_key
from participants import inventory
from tests.support import services

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PARTICIPANTS = ("inventory", "payment", "invoice")


def compose() -> dict[str, Any]:
    """The compose file."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    return document


def definitions() -> dict[str, Any]:
    """The broker's definitions."""
    document: dict[str, Any] = json.loads((DEPLOY / "rabbitmq" / "definitions.json").read_text(encoding="utf-8"))
    return document


def variables() -> set[str]:
    """Every variable that Escrow knows."""
    return {f"ESCROW_{name.upper()}" for name in Settings.model_fields}


def test_compose_starts_everything_in_order() -> None:
    """A worker would start before its database is migrated, or a process of the story would be missing."""
    services_ = compose()["services"]

    assert set(services_) == {"postgres", "rabbitmq", "migrate", "serve", "worker", *PARTICIPANTS}
    assert services_["worker"]["deploy"]["replicas"] == 2
    for name in ("serve", "worker"):
        assert services_[name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "rabbitmq": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert all(service["healthcheck"]["test"] for name, service in services_.items() if name != "migrate")
    assert all(set(one.get("depends_on", {})) <= set(services_) for one in services_.values())


def test_compose_names_settings_that_exist_and_files_that_are_there() -> None:
    """A misspelt variable is refused at start; a missing file would be mounted as an empty directory."""
    for service in compose()["services"].values():
        ours = {name for name in service.get("environment", {}) if name.startswith("ESCROW_")}
        assert ours <= variables()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / "compose" / source).is_file()
        if "build" in service:
            assert (DEPLOY / "compose" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_compose_settings_are_accepted() -> None:
    """The containers would end at once with an error about their settings."""
    environment = compose()["services"]["worker"]["environment"]

    settings = Settings(**{name.removeprefix("ESCROW_").lower(): value for name, value in environment.items()})

    settings.require("database_url", "amqp_url")


def test_compose_runs_modules_that_exist() -> None:
    """A participant's container would end with `No module named`."""
    for name in PARTICIPANTS:
        assert compose()["services"][name]["entrypoint"] == ["python", "-m", f"participants.{name}"]
        assert importlib.util.find_spec(f"participants.{name}") is not None


@pytest.mark.parametrize("participant", PARTICIPANTS)
def test_a_participant_of_compose_can_be_asked_and_told(participant: str) -> None:
    """Its door would be on a port that nobody knows: no health, and no drill."""
    service = compose()["services"][participant]
    port = service["environment"]["PARTICIPANT_HTTP_PORT"]

    assert port != 0
    assert service["environment"]["PARTICIPANT_URL"] == f"http://127.0.0.1:{port}"
    assert f"http://127.0.0.1:{port}/healthz" in " ".join(service["healthcheck"]["test"])


def test_the_settings_of_the_participants_are_all_told() -> None:
    """`deploy/participants.env.example` would lack a setting, name one that is gone, or another default."""
    text = (DEPLOY / "participants.env.example").read_text(encoding="utf-8")
    told = dict(re.findall(r"(?m)^#([A-Z_]+)=(.*)$", text))
    known: dict[str, set[object]] = {}
    for name in PARTICIPANTS:
        commands: Any = typer.main.get_command(importlib.import_module(f"participants.{name}").cli)
        for option in (option for command in commands.commands.values() for option in command.params if option.envvar):
            known.setdefault(option.envvar, set()).add(option.default)

    assert set(told) == set(known)
    for variable, defaults in known.items():
        if len(defaults) == 1 and defaults != {None}:
            assert [told[variable]] == [str(default) for default in defaults]


def test_the_workers_can_write_backups() -> None:
    """A scheduled backup would fail each night: a read-only file system, no directory, or no pg_dump of the server's version."""
    document = compose()
    worker = document["services"]["worker"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in worker["volumes"]}
    assert mounted[worker["environment"]["ESCROW_BACKUP_DIR"]] in document["volumes"]
    image = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert worker["environment"]["ESCROW_BACKUP_DIR"] in image, "a new volume has the owner that the directory has in the image"
    server = re.search(r"postgres:(\d+)", document["services"]["postgres"]["image"])
    client = re.search(r"FROM postgres:(\d+)", image)
    assert server is not None
    assert client is not None
    assert int(client[1]) >= int(server[1])
    assert all(f"/usr/lib/postgresql/{client[1]}/bin/{tool}" in image for tool in ("pg_dump", "pg_restore"))


def test_the_unit_of_the_workers_may_write_where_the_settings_say() -> None:
    """Whoever takes the directory of the example would have no backups, and an alert each day."""
    [directory] = re.findall(r"(?m)^#?ESCROW_BACKUP_DIR=(.*)$", (DEPLOY / "env.example").read_text(encoding="utf-8"))
    unit = (DEPLOY / "systemd" / "escrow-worker@.service").read_text(encoding="utf-8")
    assert f"ReadWritePaths=-{directory}\n" in unit
    assert f"install -d -o escrow -g escrow -m 700 {directory}" in (DEPLOY.parent / "docs/how-to/back-up-and-restore.md").read_text("utf-8")


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    """The database or the broker, with passwords that stand in this file, would be open to the network."""
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}

    assert published == {"serve": ["127.0.0.1:8080:8080"]}


def test_the_broker_definitions_are_the_topology() -> None:
    """Escrow would find queues with other arguments than it declares, and the broker would refuse it."""
    topology = Topology("escrow")
    document = definitions()

    exchanges = {topology.events, topology.commands, topology.announcements, topology.recorder}
    assert {one["name"] for one in document["exchanges"]} == exchanges
    queues = {one["name"]: one["arguments"] for one in document["queues"]}
    kept = queues.pop(topology.recorder)
    assert set(queues) == {topology.inbox, topology.heard_queue("inventory"), *map(topology.command_queue, PARTICIPANTS)}
    assert all(arguments == QUORUM_ARGUMENTS for arguments in queues.values())
    assert all(one["durable"] for one in document["queues"])
    fields = Settings.model_fields
    assert kept == Stream("", Retention(fields["recorder_keep_h"].default, fields["recorder_bytes_max"].default)).arguments
    assert {(one["source"], one["routing_key"], one["destination"]) for one in document["bindings"]} == {
        (topology.events, "#", topology.inbox),
        (topology.events, "#", topology.recorder),
        *((topology.events, event_key("*", each), topology.heard_queue("inventory")) for each in inventory.HEARD),
        (topology.recorder, "#", topology.recorder),
        *((topology.commands, name, topology.command_queue(name)) for name in PARTICIPANTS),
    }


def test_escrow_has_the_rights_that_the_doctor_asks_for() -> None:
    """The doctor would be content with what does not suffice, or the file give more than is needed."""
    [rights] = [one for one in definitions()["permissions"] if one["user"] == "escrow"]

    assert Rights(rights["configure"], rights["write"], rights["read"]) == needed(Topology("escrow"))
    assert not re.search(rights["write"], "escrow.events"), "it could speak for a participant"


@pytest.mark.parametrize("participant", PARTICIPANTS)
def test_a_participant_speaks_for_itself_only(participant: str) -> None:
    """The payment service could publish `inventory.InventoryReserved`, or read another's commands."""
    others = [name for name in PARTICIPANTS if name != participant]
    [rights] = [one for one in definitions()["permissions"] if one["user"] == participant]
    topics = {one["exchange"]: one for one in definitions()["topic_permissions"] if one["user"] == participant}

    assert re.search(rights["read"], f"escrow.commands.{participant}")
    assert re.search(rights["write"], "escrow.events")
    assert not re.search(rights["write"], "escrow.commands")
    assert rights["configure"] == rf"^escrow\.replay\.{participant}$", "it could delete what everybody uses"
    assert re.search(rights["read"], f"escrow.replay.{participant}")
    assert re.search(topics["escrow.events"]["write"], f"{participant}.Anything")
    for other in others:
        assert not re.search(rights["read"], f"escrow.commands.{other}")
        assert not re.search(rights["read"], f"escrow.replay.{other}")
        assert not re.search(topics["escrow.events"]["write"], f"{other}.Anything")


@pytest.mark.real
@pytest.mark.slow
def test_a_broker_takes_the_definitions() -> None:
    """RabbitMQ would not start with its definitions file."""
    with services.private_rabbitmq() as broker:
        broker.import_definitions((DEPLOY / "rabbitmq" / "definitions.json").read_text(encoding="utf-8"))

        queues = broker.ctl("list_queues", "--vhost", "escrow", "name", "--no-table-headers").split()

    own = ("escrow.inbox", "escrow.recorder", "escrow.heard.inventory")
    assert sorted(queues) == sorted([*own, *(f"escrow.commands.{name}" for name in PARTICIPANTS)])


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_units_run_commands_and_settings_that_exist(path: Path) -> None:
    """A unit would fail at start, or run with more rights than it needs."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys are case-sensitive
    unit.read_string(path.read_text(encoding="utf-8"))
    service = unit["Service"]

    settings, [program, *command] = _split(service["ExecStart"])
    assert program == "/opt/escrow/bin/escrow"
    assert command[0] in {"serve", "worker", "db"}
    assert set(settings) <= variables()
    assert ("ESCROW_METRICS_ADDRESS" in settings) == (command[0] != "db"), "the file's would win, and two processes want one port"
    assert service["User"] == "escrow"
    assert service["NoNewPrivileges"] == "yes"
    assert "Environment" not in service, "what is in the file of EnvironmentFile= would win over it"


def _split(command: str) -> tuple[list[str], list[str]]:
    """The variables that `env` sets, and the command itself."""
    words = command.removeprefix("/usr/bin/env ").split()
    settings = [word for word in words if word.startswith("ESCROW_")]
    return [word.partition("=")[0] for word in settings], words[len(settings) :]


def test_the_image_is_one_and_not_root() -> None:
    """A container would run as root, or with packages that nobody locked."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")

    assert re.search(r"^USER 10001$", text, flags=re.MULTILINE)
    assert "--require-hashes --requirement requirements.lock" in text
    assert ":latest" not in text
