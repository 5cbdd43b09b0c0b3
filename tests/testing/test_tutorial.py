"""The page on testing is followed, step by step, by somebody who starts in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from orchestrator.testing.expect import COMMAND_KEYS, Expected
from orchestrator.testing.scenario import KINDS, Act, Expect, Item
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
#: Each block, in order, with what its mark says: a file to write, a command to run, or what that prints.
BLOCKS = re.findall(r"<!-- (file: \S+|run|prints) -->\n+```[a-z]+\n(.*?)```", PAGE, re.DOTALL)


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
    block = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()[2:]]


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    """If it failed, the first definition that a newcomer tests would not do what the page shows."""
    ran = printed = ""
    for mark, text in BLOCKS:
        if mark == "run":
            ran, printed = text, shell(text, tmp_path)
        elif mark == "prints":
            assert printed == text, ran
        else:
            file = tmp_path / mark.removeprefix("file: ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    assert "3 passed" in printed


def test_every_block_is_followed() -> None:
    """If it failed, a block could stand in the page that nobody has ever tried."""
    assert len(re.findall(r"^```[a-z]+$", PAGE, re.MULTILINE)) == len(BLOCKS) == 9


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
