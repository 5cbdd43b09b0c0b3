"""Read any bytes as a definition: `python -m tests.fuzz.fuzz_definition`.

With the fuzzer `atheris` installed it is driven by coverage, and takes that fuzzer's arguments. Without, it changes the seeds at random:
`--seconds` (10) and `--seed` (printed) may be given. It ends with a traceback at the first input that is neither read nor refused.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from importlib.util import find_spec

from orchestrator.errors import DefinitionError, Finding
from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from orchestrator.saga.explain import explain
from orchestrator.saga.graph import mermaid
from orchestrator.saga.rulebook import Rulebook
from tests.fuzz.seeds import SEEDS

#: What changed texts are made of: the marks of YAML, words of the language, values at its limits.
PIECES = [
    *(
        b":",
        b": ",
        b"- ",
        b"? ",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b"&a ",
        b"*a",
        b"!!int ",
        b"|\n",
        b">\n",
        b"'",
        b'"',
        b"#",
        b"%",
        b"@",
        b"`",
    ),
    *(
        b"\n",
        b"\n  ",
        b"\n    ",
        b"\t",
        b"\r",
        b"\0",
        b"\x07",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
        b"---\n",
        b"...\n",
        b"<<: ",
        b"=",
    ),
    *(b"0x1f", b"1:30", b"1e400", b".nan", b"-0", b"9" * 30, b"true", b"null", b"~", b"yes", b"2026-11-21", b'"\\ud800"', b"a" * 65),
    *(b"steps:", b"parallel:", b"choose:", b"repeat:", b"undo:", b"with:", b"when:", b"until:", b"1s", b"11000d", b"order.a > 1"),
    *(b"states:", b"on:", b"all_of:", b"then:", b"outcome: failed", b"policies:", b"set:", b"send: on_silence"),
]


def judge(raw: bytes) -> list[Finding] | None:
    """What is found in it, None when it is no text. Whatever is raised is a bug.

    A definition without findings is compiled, drawn and explained too: no start may fail on what the check passed.
    """
    try:
        definition = read(raw.decode("utf-8-sig"), "fuzz.yaml")
    except UnicodeDecodeError:
        return None
    except DefinitionError as error:
        return list(error.findings)
    findings = check(definition)
    if not findings:
        rulebook = Rulebook(definition.expanded)
        assert mermaid(rulebook)
        assert explain(rulebook).sections
    return findings


def change(raw: bytes, chance: random.Random) -> bytes:
    """Some pieces put in, cut out, moved, and lines said again."""
    for _ in range(chance.randint(1, 6)):
        start = chance.randint(0, len(raw))
        end = min(len(raw), start + chance.choice([0, 1, 4, 30]))
        middle = chance.choice(
            [b"", raw[end:start:-1], raw[start:end] * chance.choice([2, 40]), chance.choice(PIECES), chance.randbytes(2)]
        )
        raw = raw[:start] + middle + raw[end:]
    return raw


def main() -> None:
    """Fuzz until told to stop, or until the time is over."""
    if find_spec("atheris"):
        atheris = importlib.import_module("atheris")
        atheris.instrument_all()
        atheris.Setup(sys.argv, judge)
        atheris.Fuzz()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    chance, ends_at = random.Random(arguments.seed), time.monotonic() + arguments.seconds
    tried, worst_s = 0, 0.0
    while time.monotonic() < ends_at:
        raw = change(chance.choice(SEEDS).encode(), chance)
        began = time.process_time()
        try:
            judge(raw)
        except BaseException:
            print(raw, file=sys.stderr)
            raise
        tried, worst_s = tried + 1, max(worst_s, time.process_time() - began)
    print(f"{tried} inputs, the slowest took {worst_s:.2f} s")


if __name__ == "__main__":
    main()
