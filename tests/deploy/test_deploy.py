"""The files under `deploy/`, checked without Docker: they parse, agree with the code, and the broker takes its definitions."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.bus.doctor import Rights, needed
from orchestrator.config import Settings
from orchestrator.contract import QUORUM_ARGUMENTS, Topology
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
    for name in ("postgres", "rabbitmq", "serve", "worker"):
        assert services_[name]["healthcheck"]["test"]
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


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    """The database or the broker, with passwords that stand in this file, would be open to the network."""
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}

    assert published == {"serve": ["127.0.0.1:8080:8080"]}


def test_the_broker_definitions_are_the_topology() -> None:
    """Escrow would find queues with other arguments than it declares, and the broker would refuse it."""
    topology = Topology("escrow")
    document = definitions()

    assert {one["name"] for one in document["exchanges"]} == {topology.events, topology.commands, topology.announcements}
    assert {one["name"] for one in document["queues"]} == {topology.inbox, *map(topology.command_queue, PARTICIPANTS)}
    assert all(one["arguments"] == QUORUM_ARGUMENTS and one["durable"] for one in document["queues"])
    assert {(one["source"], one["routing_key"], one["destination"]) for one in document["bindings"]} == {
        (topology.events, "#", topology.inbox),
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
    assert rights["configure"] == "^$", "it could delete what everybody uses"
    assert re.search(topics["escrow.events"]["write"], f"{participant}.Anything")
    for other in others:
        assert not re.search(rights["read"], f"escrow.commands.{other}")
        assert not re.search(topics["escrow.events"]["write"], f"{other}.Anything")


@pytest.mark.real
@pytest.mark.slow
def test_a_broker_takes_the_definitions() -> None:
    """RabbitMQ would not start with its definitions file."""
    with services.private_rabbitmq() as broker:
        broker.import_definitions((DEPLOY / "rabbitmq" / "definitions.json").read_text(encoding="utf-8"))

        queues = broker.ctl("list_queues", "--vhost", "escrow", "name", "--no-table-headers").split()

    assert sorted(queues) == sorted(["escrow.inbox", *(f"escrow.commands.{name}" for name in PARTICIPANTS)])


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_units_run_commands_and_settings_that_exist(path: Path) -> None:
    """A unit would fail at start, or run with more rights than it needs."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys are case-sensitive
    unit.read_string(path.read_text(encoding="utf-8"))
    service = unit["Service"]

    program, *command = service["ExecStart"].split()
    assert program == "/opt/escrow/bin/escrow"
    assert command[0] in {"serve", "worker", "db"}
    assert service["User"] == "escrow"
    assert service["NoNewPrivileges"] == "yes"
    assert service.get("Environment", "ESCROW_URL=").split("=")[0] in variables()


def test_the_image_is_one_and_not_root() -> None:
    """A container would run as root, or with packages that nobody locked."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")

    assert re.search(r"^USER 10001$", text, flags=re.MULTILINE)
    assert "--require-hashes --requirement requirements.lock" in text
    assert ":latest" not in text
