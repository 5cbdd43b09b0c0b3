"""The tutorial is followed, step by step, by somebody who starts in an empty directory."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from orchestrator.testing.expect import COMMAND_KEYS, Expected
from orchestrator.testing.scenario import KINDS, Act, Expect, Item
from tests.support.processes import ROOT, Process, free_port

TUTORIAL = (ROOT / "docs" / "tutorial" / "first-escrow.md").read_text(encoding="utf-8")
SCENARIO_FILES = (ROOT / "docs" / "reference" / "scenarios.md").read_text(encoding="utf-8")
#: What stands before a block: a file to write, a command to run (or to leave running, or to run beside that one), or what one prints.
MARKS = (r"file: \S+", "run", "up", "ask", "prints", "prints, among others")
BLOCKS = re.findall(rf"<!-- ({'|'.join(MARKS)}) -->\n+```[a-z]+\n(.*?)```", TUTORIAL, re.DOTALL)


def shell(script: str, home: Path) -> str:
    """Run a script in bash, `escrow` and `python` being ours; what it prints. It must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def table(head: str) -> list[list[str]]:
    """The cells of the table that begins with this head."""
    block = SCENARIO_FILES.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()[2:]]


def follow(mark: str, text: str, home: Path, printed: str) -> str:
    """Do what one block says; what was printed last."""
    match mark:
        case "run" | "ask":
            return shell(text, home)
        case "prints":
            assert printed == text
        case "prints, among others":
            assert set(text.splitlines()) <= set(printed.splitlines())
        case _:
            file = home / mark.removeprefix("file: ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    return printed


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    """If it failed, the first definition that a newcomer tests would not do what the page shows."""
    printed = ""
    for mark, text in BLOCKS:
        if mark not in {"up", "ask"}:
            printed = follow(mark, text, tmp_path, printed)
    assert "3 passed" in printed


@pytest.mark.slow
def test_the_definition_of_the_tutorial_runs(tmp_path: Path) -> None:
    """If it failed, the first order that a newcomer places would not come to the end that the page shows."""
    [definition] = [text for mark, text in BLOCKS if mark == "file: gift.yaml"]
    [up] = [text for mark, text in BLOCKS if mark == "up"]
    setting, _, *words = shlex.split(up)
    port = free_port()
    asked = "".join(text for mark, text in BLOCKS if mark == "ask").replace("8080", str(port))
    (tmp_path / "gift.yaml").write_text(definition)
    arguments = [word.replace("8080", str(port)) for word in words]
    env = dict([setting.split("=", 1)])
    with Process("orchestrator", *arguments, output=tmp_path / "up.log", env=env, cwd=tmp_path) as process:
        process.wait_for_http(f"http://127.0.0.1:{port}/readyz")
        printed = shell(asked, tmp_path)
        assert process.terminate() == 0
    assert re.findall(r"(\S+) +moved", printed) == ["GiftOrdered", "InventoryReserved", "PaymentDeclined", "InventoryReleased"]


def test_every_block_is_followed() -> None:
    """If it failed, a block could stand in the page that nobody has ever tried."""
    assert len(re.findall(r"^```[a-z]+$", TUTORIAL, re.MULTILINE)) == len(BLOCKS)
    assert {mark.partition(":")[0] for mark, _ in BLOCKS} == {mark.partition(":")[0] for mark in MARKS}


def test_the_items_are_those_of_the_code() -> None:
    """If it failed, an author would use an item that is refused, or not know one that is taken."""
    rows = table("item | means | long form")
    assert tuple(row[0].strip("`").partition(":")[0] for row in rows) == KINDS
    keys = {row[0].strip("`").partition(":")[0]: set(re.findall(r"[a-z_]+", row[2])) if len(row) > 2 else set() for row in rows}
    assert keys["act"] == set(Act.model_fields)
    for kind in ("reply", "refusal", "undone", "event", "silence"):
        model = get_type_hints(Item)[kind].__args__[0]
        assert keys[kind] == set(model.model_fields), kind


def test_what_can_be_expected_is_what_the_code_compares() -> None:
    """If it failed, an author would expect what is refused, or a test in Python and a scenario would have different words."""
    told = [name for row in table("`expect` | compares") for name in re.findall(r"`([a-z]+)`", row[0])]
    assert sorted(told) == sorted(Expected.__annotations__) == sorted(Expect.model_fields)
    [commands] = [row[1] for row in table("`expect` | compares") if row[0] == "`commands`"]
    assert re.findall(r"\{(.*?)\}", commands) == [", ".join(COMMAND_KEYS)]
