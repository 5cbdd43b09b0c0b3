"""The house rules that no linter knows (DESIGN section 3): sizes, docstrings of tests, what may not stand in a file."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: A file reads in one sitting, a function does one thing. Most are far shorter; these are the ends of the road, in lines.
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

PRODUCT = ("orchestrator", "participants", "alembic")
PYTHON = (*PRODUCT, "tests", "bench")

#: The brackets keep this file from finding itself.
FORBIDDEN = re.compile(r"\bT[O]DO\b|\bF[I]XME\b|\bX[X]X\b|mark\.(s[k]ip|x[f]ail)|pytest\.s[k]ip|/r[o]ot/|/w[o]rk/")

TEXTS = ("*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.json", "*.service", "*.lock", "Makefile", "Dockerfile", "run")


def python_files(*areas: str) -> list[Path]:
    """Every Python file below these directories."""
    return sorted(path for area in areas for path in (ROOT / area).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def where(path: Path, line: int, what: str) -> str:
    """`file:line what`, for the list that a failure shows."""
    return f"{path.relative_to(ROOT)}:{line} {what}"


WITH_EXAMPLES = [path for path in python_files("orchestrator", "participants") if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_in_docstrings_hold(path: Path) -> None:
    """The documentation of a function would show what it does not do."""
    result = doctest.testmod(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)))
    assert result.failed == 0
    assert result.attempted > 0


def test_files_and_functions_are_short() -> None:
    """A file that nobody can read in one sitting would grow further."""
    long = [
        where(path, lines, "lines")
        for path in python_files(*PRODUCT)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES_MAX
    ]
    long += [
        where(path, node.lineno, f"{node.name}: {length} lines")
        for path in python_files("orchestrator", "participants")  # a migration is one long list, and never changes
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_test_says_what_it_guards() -> None:
    """A failing test would not tell what is broken."""
    silent = [
        where(path, node.lineno, node.name)
        for path in python_files("tests")
        for node in functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_tests_do_not_sleep() -> None:
    """A test would be slow on a good day and flaky on a bad one. Poll with `tests.support.processes.eventually`, or advance a clock."""
    sleeping = [
        where(path, node.lineno, "sleep")
        for path in python_files("tests")
        if path.parent.name != "support"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"
    ]
    assert sleeping == []


def test_nothing_unfinished_and_no_machine_paths() -> None:
    """Marks of unfinished work, tests that do not run, and paths of one machine would reach whoever clones the repository."""
    files = {path for pattern in TEXTS for path in ROOT.rglob(pattern)}
    mine = {path for path in files if not any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts)}
    found = [
        where(path, number, line.strip()[:100])
        for path in sorted(mine)
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", [path for path in python_files("orchestrator", "participants") if path.name == "__init__.py"], ids=str)
def test_packages_hold_no_code(path: Path) -> None:
    """Importing a package would do work, and what belongs in a module would hide in `__init__.py`."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    assert [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, allowed)] == []


def test_the_migrations_do_not_shadow_their_library() -> None:
    """`import alembic` from the repository's root would find our directory instead of the library."""
    assert list((ROOT / "alembic").rglob("__init__.py")) == []


def test_the_lock_is_hashed_and_names_no_address() -> None:
    """A fresh machine would install what nobody tested, or ask an index that it cannot reach."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9-]+)==\S+", text, flags=re.MULTILINE)
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]

    assert "://" not in text
    assert len(pins) == len(entries)
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[\[<>=]", one)[0] for one in wanted} <= set(pins)


def test_every_relaxed_rule_has_its_reason() -> None:
    """Rules of the linter would be switched off for convenience."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("\nignore = [\n")[1].split("\n]\n")[0]

    assert [line for line in block.splitlines() if "#" not in line] == []
