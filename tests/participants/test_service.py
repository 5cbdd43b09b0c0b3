"""A participant as a process: what it says of wrong settings, and the form of its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from participants import inventory
from participants.kit.faults import Settings
from tests.support.processes import Process, free_port


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["late", "--seconds", "99999", "--url", "http://127.0.0.1:1"], "between 0 and 3600 seconds"),
        (["stall", "--url", "http://["], "Invalid IPv6 URL"),
        (["stall", "--url", "http://127.0.0.1:door"], "nonnumeric port"),
    ],
)
def test_what_cannot_be_told_is_one_line(arguments: list[str], what: str) -> None:
    """If it failed, whoever drills an outage would read a traceback for a typing error."""
    result = CliRunner().invoke(inventory.cli, ["tell", *arguments])
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert what in result.output


def test_the_longest_lateness_is_told() -> None:
    """If it failed, the limit would be one off."""
    assert Settings(late_s=3600).late_s == 3600


def test_an_address_that_is_none_is_one_line(tmp_path: Path) -> None:
    """If it failed, a participant with a mistyped address of the broker would end with a traceback of pika."""
    arguments = ("--database-url", "sqlite://", "--amqp-url", "nonsense")
    with Process("participants.inventory", *arguments, output=tmp_path / "log") as process:
        assert process.wait() == 2
        fix = "write amqp://USER:PASSWORD@HOST:PORT/VHOST; of a cluster HOST:PORT,HOST:PORT."
        assert process.text() == f"Error: The address of RabbitMQ cannot be read: {fix}\n"


def test_its_log_reads_as_escrows_and_says_an_outage_once(tmp_path: Path) -> None:
    """If it failed, one query could not read both logs, or an outage would fill the disk with pika's lines and still not say the cause."""
    arguments = ("--database-url", "sqlite://", "--amqp-url", f"amqp://127.0.0.1:{free_port()}/")
    with Process("participants.inventory", *arguments, output=tmp_path / "log") as process:
        process.wait_for_line("inventory: http://")
        process.wait_for_line("link_down")
        assert process.terminate() == 0
        lines = [json.loads(line) for line in process.text().splitlines() if not line.startswith("inventory: ")]

    assert [(line["action"], line["level"], line["logger"]) for line in lines] == [("link_down", "warning", "participants.rabbit")]
    assert lines[0]["message"].endswith("Connection refused")
    assert lines[0]["at"].endswith("Z")
    assert "order_id" not in lines[0]
