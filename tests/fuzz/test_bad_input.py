"""Any bytes that are read as a definition give findings or a definition: no traceback, no bomb, in bounded time."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import Settings
from tests.cli.kit import Api, Escrow, make_escrow
from tests.fuzz.fuzz_definition import PIECES, change, judge
from tests.fuzz.seeds import SEEDS

#: Processor time for one file. The slowest of the bombs below took 0.7 s on a quiet core of the machine this was written on.
SECONDS_MAX = 10
SIZE = 262_144
HEAD = "definition: d\nversion: 1\nopens_on: O\nkey: k\npatience: 1h\nsteps:\n"
STEP = "{{step: s{0}, ask: a, command: C, done_on: D{0}, deadline: 1s, harmless: true}}"

SOUP = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=40).map(b"".join)
CHANGED = st.builds(lambda seed, text: change(text.encode(), random.Random(seed)), st.integers(0, 2**32), st.sampled_from(SEEDS))


def _loops(depth: int) -> str:
    heads = "".join(f"[{{repeat: r{number}, at_most: 1000, until: 'true', steps: " for number in range(depth))
    return heads + f"[{STEP.format(1)}]" + "}]" * depth


def _choices(count: int, steps: int) -> str:
    numbers = [[one * steps + two for two in range(steps)] for one in range(count)]
    inner = (", ".join(STEP.format(number) for number in row) for row in numbers)
    return "[" + ",\n".join(f"{{choose: c{n}, cases: [{{when: 'true', steps: [{row}]}}]}}" for n, row in enumerate(inner)) + "]"


def _nested(depth: int, first: int = 0) -> str:
    """A choice of two ways, each of which is one, and so on: every step is named by its place in the tree."""
    if depth == 0:
        return f"[{STEP.format(first)}]"
    one, two = (_nested(depth - 1, first + way * 2 ** (depth - 1)) for way in (0, 1))
    return f"[{{choose: c{depth}-{first}, cases: [{{when: 'true', steps: {one}}}], otherwise: {two}}}]"


#: Each with a word of what is found; None: no finding, or any.
BOMBS = {
    "brackets": ("a: " + "[" * (SIZE - 3), "too deep"),
    "closed brackets": ("a: " + "[" * 131_000 + "]" * 131_000, "too deep"),
    "braces": ("a: " + "{" * (SIZE - 3), "too deep"),
    "dashes": ("- " * (SIZE // 2), "too deep"),
    "keys in keys": ("? " * (SIZE // 2), "too deep"),
    "laughs": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors"),
    "many values": ("a: [" + "1," * 131_000 + "1]", "20000 values"),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(23_000)), "20000 values"),
    "a long key above many values": ("? " + "a" * 100_000 + "\n: [" + "1," * 15_000 + "1]", "too long"),
    "keys that are lists": ("? [a, b]\n: 1\n", "no text"),
    "a key that is a number": ("1: 2\n", "no text"),
    "a number to the base of 60": ("version: " + "1:" * 131_000 + "1", "integer"),
    "a hexadecimal key": ("? 0x" + "f" * 5_000 + "\n: 1\n", "missing"),
    "a long number": ("version: " + "9" * 260_000, "YAML"),
    "a tag": ("a: !!python/name:os.system\n", "tags"),
    "a set": ("a: !!set {b, c}\n", "tags"),
    "a long tag": ("a: !!" + "x" * 260_000, "tags"),
    "a long name": (HEAD.replace(": d\n", f": {'d' * 200_000}\n"), "64 letters"),
    "a long duration": (HEAD.replace(": 1h\n", f": {'1s' * 120_000}\n"), "steps"),
    "a long expression": (HEAD.replace("steps:\n", f"steps: [{{repeat: r, at_most: 1, until: '{'(' * 200_000}', steps: []}}]"), "500"),
    "comments": ("#\n" * 131_000, "not a map"),
    "documents": ("---\n" * 65_000, "another document"),
    "a block": ("a: |\n" + " x\n" * 87_000, "missing"),
    "a text on many lines": ("a:\n" + " b\n" * 87_000, "missing"),
    "escapes": ('a: "' + "\\x41" * 65_000 + '"', "missing"),
    "a lone surrogate": ('a: "\\ud800"\n', "surrogate"),
    "a large file": ("a" * (SIZE + 1), "characters"),
    "loops in loops": (HEAD.replace("steps:\n", f"steps: {_loops(14)}\n"), "patience"),
    "ways past steps": (HEAD.replace("steps:\n", f"steps: {_choices(100, 1)}\n"), None),
    "ways in ways": (HEAD.replace("steps:\n", f"steps: {_nested(7)}\n"), None),
    "many steps": (HEAD.replace("steps:\n", f"steps: {_choices(80, 15)}\n"), "split the definition"),
    "more steps": (HEAD.replace("steps:\n", f"steps: {_choices(100, 28)}\n"), "20000 values"),
    "expressions": (
        HEAD + "".join(f"  - {STEP.format(n)[:-1]}, with: {{a: 'order.a.all(x, {'x + ' * 110}x > 1)'}}}}\n" for n in range(99)),
        None,
    ),
    "attempts": (
        HEAD + "".join(f"  - {STEP.format(n)[:-1]}, retry: {{attempts: 1000, factor: 10, max: 3660d}}}}\n" for n in range(99)),
        "patience",
    ),
}


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Escrow, Path]:
    """The command line, and a file for it to read."""
    return make_escrow(Api(), Settings()), tmp_path_factory.mktemp("fuzz") / "definition.yaml"


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=200) | SOUP | CHANGED)
def test_any_bytes_give_findings_or_a_definition(raw: bytes) -> None:
    """If it failed, some file would make the start end in a traceback."""
    findings = judge(raw)
    assert findings is None or all(finding.line >= 1 and finding.message and finding.fix for finding in findings)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200) | SOUP | CHANGED)
def test_any_file_is_checked_without_a_traceback(command_line: tuple[Escrow, Path], raw: bytes) -> None:
    """If it failed, an author would see a traceback in place of what is wrong, or CI would pass what is."""
    escrow, file = command_line
    file.write_bytes(raw)
    findings = judge(raw)
    assert escrow("definition", "check", str(file)).exit_code == (2 if findings is None else 1 if findings else 0)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_not_go_off(name: str) -> None:
    """If it failed, one file would stop a start, or a machine, for as long as its author likes."""
    text, word = BOMBS[name]
    began = time.process_time()
    findings = judge(text.encode())
    assert time.process_time() - began < SECONDS_MAX
    assert word is None or any(word in str(finding) for finding in findings or []), findings
