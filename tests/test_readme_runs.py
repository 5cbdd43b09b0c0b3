"""The README's commands are run as they stand, each in a shell; what they print is compared with what it shows, in shape."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.bus.topology import delete
from orchestrator.contract import Topology
from tests.support.processes import ROOT, Process, eventually, free_port
from tests.support.services import amqp_url

README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Every block of shell commands, with the mark that stands before it.
BLOCKS = re.findall(r"(?:<!-- ([a-z: ]*) -->\n+)?```sh\n(.*?)```", README, re.DOTALL)

#: The marks of the blocks that are run here.
RUN = {"demo", "run: up", "run: client", "run: services"}

#: The blocks that are not run, each with its reason.
NOT_RUN = {"make test\n": "it would run this test, and every other, inside itself"}

#: Commands that stay until they are told to end, and what they print when they work.
STAYING = {"escrow worker": "started", "escrow serve": "Escrow listens on", "python -m participants.inventory": "inventory: http://"}


def blocks(mark: str) -> list[str]:
    """The shell blocks with this mark."""
    return [text for found, text in BLOCKS if found == mark]


def shown(language: str, mark: str) -> str:
    """The output that the README shows after a mark, or after the shell block with that mark."""
    found = re.search(rf"<!-- {mark} -->\n+(?:```sh\n[^`]*```\n+)?```{language}\n(.*?)```", README, re.DOTALL)
    assert found, mark
    return found[1]


def shell(script: str, home: Path, env: Mapping[str, str]) -> str:
    """Run a script in bash, `escrow` and `python` being ours; what it prints to stdout. It must succeed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ESCROW_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={**inherited, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **env},
        timeout=60,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def on_port(text: str, port: int) -> str:
    """The text with our port in place of the README's, which may be taken."""
    assert "8080" in text
    return text.replace("8080", str(port))


def answers(text: str) -> list[Any]:
    """The JSON documents in a text, one after another."""
    decoder, found, place = json.JSONDecoder(), [], text.find("{")
    while place >= 0:
        document, place = decoder.raw_decode(text, place)
        found.append(document)
        place = text.find("{", place)
    return found


def commands(text: str) -> Iterator[str]:
    """The lines of a block, without comments and blank ones."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield shlex.join(words)


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    """If it failed, a command could stand in the README that nobody has ever run."""
    assert {text for mark, text in BLOCKS if mark not in RUN} == set(NOT_RUN)
    assert {mark for mark, _ in BLOCKS} >= RUN


@pytest.mark.slow
def test_the_commands_without_services(tmp_path: Path) -> None:
    """If it failed, the first order that a newcomer places, or the first request by curl, would not be answered as shown."""
    port = free_port()
    [up] = blocks("run: up")
    _, *words = shlex.split(on_port(up, port))
    first, rest, act = blocks("run: client")
    with Process("orchestrator", *words, output=tmp_path / "up.log", cwd=tmp_path) as process:
        process.wait_for_http(f"http://127.0.0.1:{port}/readyz")
        exports = on_port("\n".join(line for line in first.splitlines() if line.startswith("export ")), port)
        history = shell(on_port(first, port), tmp_path, {}).splitlines()
        placed, one, page, entries = answers(shell(f"{exports}\n{rest}", tmp_path, {}))
        shell(f"{exports}\nescrow order wait order-8413 --until completed", tmp_path, {})
        [refused] = answers(shell(f"{exports}\n{act}", tmp_path, {}))
        assert process.terminate() == 0

    assert any("InvoiceEmailed" in line for line in history)
    assert placed["order_id"] == one["order_id"] == "order-8413"
    assert {"items", "next_cursor"} == set(page) == set(entries)
    assert entries["items"][0]["name"] == "OrderPlaced"
    documented = json.loads(shown("json", "answer"))
    assert list(refused) == list(documented)
    assert {name: refused[name] for name in ("type", "status", "code")} == {name: documented[name] for name in ("type", "status", "code")}


@pytest.mark.real
@pytest.mark.slow
def test_the_commands_with_services(tmp_path: Path, postgres_url: str) -> None:
    """If it failed, whoever follows the README from a database and a broker on would not come to a running installation."""
    [text] = blocks("run: services")
    told = dict(shlex.split(line)[1].split("=", 1) for line in commands(text) if line.startswith("export "))
    make_token = told.pop("ESCROW_TOKEN")
    assert set(told) == {"ESCROW_DATABASE_URL", "ESCROW_AMQP_URL", "ESCROW_METRICS_ADDRESS"}
    namespace = f"readme-{uuid4().hex[:10]}"
    env = {**told, "ESCROW_DATABASE_URL": postgres_url, "ESCROW_AMQP_URL": amqp_url(), "ESCROW_NAMESPACE": namespace}
    stayed: list[Process] = []
    try:
        for line in commands(on_port(text, free_port())):
            ready = next((said for start, said in STAYING.items() if line.startswith(start)), None)
            if ready is not None:
                module, *words = line.removeprefix("python -m ").replace("escrow", "orchestrator", 1).split()
                stayed.append(Process(module, *words, output=tmp_path / f"{len(stayed)}.log", env=env, cwd=tmp_path))
                stayed[-1].wait_for_line(ready)
            elif line.startswith("escrow doctor"):
                eventually(partial(shell, line, tmp_path, env), 30)
            elif "ESCROW_TOKEN" in line:
                assert shell(f"echo {make_token}", tmp_path, env).startswith("escrow_")
            elif not line.startswith("export "):
                shell(line, tmp_path, env)
        assert [process.terminate() for process in stayed] == [0] * len(STAYING)
    finally:
        for process in stayed:
            process.kill()
        delete(amqp_url(), Topology(namespace), ("inventory", "payment", "invoice"))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_prints_what_is_shown(tmp_path: Path) -> None:
    """If it failed, the first thing a newcomer compares would not be what the README shows."""
    assert blocks("demo") == ["make demo\n"]
    # Without what `make test` hands down, which makes an inner make say where it is.
    outer = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    recipe = subprocess.run(["make", "--dry-run", "demo"], check=True, capture_output=True, text=True, cwd=ROOT, env=outer).stdout
    assert recipe.splitlines()[-1] == ".venv/bin/escrow demo"
    with Process("orchestrator", "demo", output=tmp_path / "demo.txt", env={"TMPDIR": str(tmp_path)}) as demo:
        assert demo.wait(150) == 0, demo.text()
        assert _shape(demo.text()) == _shape(shown("text", "demo"))


def _shape(text: str) -> list[str]:
    """The lines of the story and of its end, without numbers. The tables show what was so at that moment: only their head stays."""
    lines = [" ".join(re.sub(r"[0-9]+(\.[0-9]+)?", "N", line).split()) for line in text.splitlines()]
    told = [line for line in lines if line and not re.match(r"(reserving|taking|emailing|undoing|compensated|completed)", line)]
    return [line for line in told if not line.startswith("state status")]
