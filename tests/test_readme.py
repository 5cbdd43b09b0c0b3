"""The README says nothing that is not so: its diagram, its definition, its participant, its commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from orchestrator.bus.memory import MemoryBroker
from orchestrator.bus.memory_transport import MemoryParticipantTransport
from orchestrator.cli.exits import MEANINGS
from orchestrator.cli.main import app
from orchestrator.contract import Envelope, Topology, command_id, decode, encode
from orchestrator.files import shipped_definition
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from orchestrator.saga.graph import mermaid
from orchestrator.saga.rulebook import Rulebook
from participants.kit.database import connect
from participants.kit.runner import Runner
from participants.kit.transport import Received

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, mark: str) -> str:
    """The fenced block after the comment `<!-- mark -->`."""
    found = re.search(rf"<!-- {mark} -->\n+```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no ```{language} after <!-- {mark} -->"
    return found[1]


def shell_commands() -> Iterator[list[str]]:
    """Every command in the `sh` blocks, and in the table of the command line."""
    for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in text.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


def test_diagram_is_that_of_the_shipped_definition() -> None:
    """Otherwise the README would show states that the machine does not have."""
    assert block("mermaid", "graph") == mermaid(Rulebook(shipped_definition("order").expanded))


def test_definition_is_right_and_short() -> None:
    """Otherwise the first definition that a newcomer copies would be refused, or the format would have outgrown its promise."""
    text = block("yaml", "definition")
    assert check(read(text, "README.md")) == []
    assert len(text.splitlines()) < 30


def test_participant_runs_and_is_short(tmp_path: Path) -> None:
    """Otherwise the first participant that a newcomer copies would not answer."""
    text = block("python", "participant")
    assert len([line for line in text.splitlines() if line.strip()]) < 15
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), names)  # runs what the README tells to run
    engine = connect(f"sqlite:///{tmp_path / 'wrapping.db'}")
    broker = MemoryBroker(Topology())
    runner = Runner(names["build"](engine), MemoryParticipantTransport(broker, "wrapping", Received))
    broker.route(broker.topology.commands, "wrapping", encode(a_command("WrapGift", {"order_id": "gift-1", "paper": "red"})))
    runner.turn()
    answer = broker.take(broker.topology.inbox)
    broker.close()
    engine.dispose()
    assert answer is not None
    envelope = decode(answer.wire)
    assert (envelope.type, envelope.subject, envelope.data) == ("GiftWrapped", "gift-1", {"paper": "red"})


def test_participant_and_definition_speak_of_the_same() -> None:
    """Otherwise the two examples would not work together."""
    steps = read(block("yaml", "definition"), "README.md").raw["steps"]
    text = block("python", "participant")
    undo = steps[0]["undo"]
    for name in (steps[0]["ask"], steps[0]["command"], steps[0]["done_on"], undo["command"], undo["done_on"]):
        assert f'"{name}"' in text


def test_exit_codes_are_all_told() -> None:
    """Otherwise scripts would rely on codes that mean something else."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README.partition("<!-- exit codes -->")[2].partition("\n## ")[0], re.MULTILINE)
    assert rows == [(str(code.value), meaning) for code, meaning in MEANINGS.items()]


@pytest.mark.parametrize("words", [words for words in shell_commands() if words[:1] == ["escrow"]], ids=" ".join)
def test_shell_command_is_understood(words: list[str]) -> None:
    """Otherwise a command that a newcomer types would be refused: a verb or an option that is not there."""
    command, arguments, parent = get_command(app), words[1:], None
    while hasattr(command, "commands"):
        parent = command.make_context(arguments[0], [], parent=parent, resilient_parsing=True)
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(words[1], arguments, parent=parent)


def test_table_names_every_command() -> None:
    """Otherwise a command would be hidden from whoever reads the README, or named and not there."""
    rows = re.findall(r"^\| (`escrow [^|]*) \|", README, re.MULTILINE)
    told = set()
    for row in rows:
        first, *others = re.findall(r"`([^`]*)`", row)
        nouns = first.split()[1:-1]
        told |= {tuple(first.split()[1:])}
        told |= {tuple(name.split()[1:]) if name.startswith("escrow ") else (*nouns, name) for name in others}
    root = get_command(app)
    there = {
        (name, verb) if hasattr(command, "commands") else (name,)
        for name, command in root.commands.items()  # type: ignore[attr-defined]
        for verb in getattr(command, "commands", [""])
    }
    assert {words for words in told if not words[-1].startswith("--")} == there


def test_make_targets_exist() -> None:
    """Otherwise `make` would say that there is no rule."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = set(re.findall(r"\bmake ([a-z]+)`", README)) | {words[1] for words in shell_commands() if words[:1] == ["make"]}
    assert told >= {"demo", "test"}
    assert told <= targets


def test_links_lead_somewhere() -> None:
    """Otherwise a link in the README would lead nowhere."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def a_command(name: str, data: dict[str, str]) -> Envelope:
    """As Escrow sends it."""
    own_id = command_id(data["order_id"], 0, "wrap_gift", 1)
    return Envelope(id="m-1", source="escrow", type=name, subject=data["order_id"], data=data, commandid=own_id, attempt=1)
