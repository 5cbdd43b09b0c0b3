"""Reading a definition: every error names file, line, path and the fix."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.saga.definition import read
from orchestrator.saga.language import parse_duration
from orchestrator.saga.source import parse
from tests.saga.world import ORDER_TEXT

#: Line numbers below count from the first line of this text.
TEXT = """definition: small
version: 1
opens_on: Placed
key: order_id
patience: 5m
steps:
  - step: one
    ask: somebody
    command: DoOne
    done_on: OneDone
    deadline: 10s
    undo: {command: UndoOne, done_on: OneUndone, deadline: 10s}
"""

HEAD = TEXT.partition("steps:")[0]

ERRORS = [
    ("version: 1\n", "version: one\n", 2, "version"),
    ("version: 1\n", "version: 0\n", 2, "version"),
    ("opens_on: Placed\n", "", 1, "opens_on"),
    ("opens_on: Placed\n", "opens_on: 7\n", 3, "opens_on"),
    ("key: order_id\n", "key: order id\n", 4, "key"),
    ("patience: 5m\n", "patience: 5\n", 5, "patience"),
    ("patience: 5m\n", "patience: 0s\n", 5, "patience"),
    ("patience: 5m\n", "patience: 11000d\n", 5, "patience"),
    ("patience: 5m\n", "patience: 5m\npatients: 5m\n", 6, "patients"),
    ("    ask: somebody\n", "    aks: somebody\n", 8, "steps[0].aks"),
    ("    ask: somebody\n", "    ask: some body\n", 8, "steps[0].ask"),
    ("    ask: somebody\n", "    ask: somebody\n    with_: [a]\n", 9, "steps[0].with_"),
    ("    ask: somebody\n", "    ask: somebody\n    with: [a b]\n", 9, "steps[0].with[0]"),
    ("    ask: somebody\n", "    ask: somebody\n    retry: {attempts: 0}\n", 9, "steps[0].retry.attempts"),
    ("    ask: somebody\n", '    ask: somebody\n    retry: {factor: "2"}\n', 9, "steps[0].retry.factor"),
    ("    ask: somebody\n", '    ask: somebody\n    pivot: "yes"\n', 9, "steps[0].pivot"),
    ("    ask: somebody\n", "    ask: somebody\n    harmless: 1\n", 9, "steps[0].harmless"),
    ("    deadline: 10s\n    undo", "    undo", 7, "steps[0].deadline"),
    ("done_on: OneUndone, ", "", 12, "steps[0].undo.done_on"),
]


@pytest.mark.parametrize(("old", "new", "line", "path"), ERRORS)
def test_an_error_of_shape_names_file_line_path_and_fix(old: str, new: str, line: int, path: str) -> None:
    """Else an author is told that something is wrong somewhere."""
    assert TEXT.count(old) == 1
    with pytest.raises(DefinitionError) as caught:
        read(TEXT.replace(old, new), "small.yaml")
    finding = next(finding for finding in caught.value.findings if finding.path == path)
    assert (finding.file, finding.line) == ("small.yaml", line)
    assert finding.message
    assert finding.fix
    assert f"small.yaml:{line}: {path}" in str(caught.value)


#: A definition of the state form around one state, and what is said of it: path, message, and a word of the fix.
STATES = HEAD + "states:\n  one: {}\n  two: {{outcome: completed}}\n"
SHAPES = [
    (HEAD, "", "either `steps` or `states`", "one of the two"),
    (HEAD + "steps: []\n", "steps", "0 stand here, and at least 1 are needed", "Add"),
    (TEXT + "begins_in: one\n", "begins_in", "`begins_in` names one of `states`", "Remove"),
    (STATES.format("5"), "states.one", "a map is needed here", "key"),
    (STATES.format("{on: {Come: 5}}"), "states.one.on.Come", "a map is needed here", "key"),
    (STATES.format("{on: {'to come': two}}"), "states.one.on.to come", "a name begins with a letter", "another name"),
    (STATES.format("{deadline: 3s}"), "states.one.deadline", "a map is needed here", "{after: 3d, then: STATE}"),
    (STATES.format("{deadline: {then: two}}"), "states.one.deadline", "either `after` or `at`", "one of the two"),
    (STATES.format("{ask: a, command: C, refused_on: R}"), "states.one.refused_on", "is not a field here", "has `done_on:`"),
    (STATES.format("{outcome: failed, then: two}"), "states.one.then", "is not a field here", "takes `undo` alone"),
    (STATES.format("{outcome: failed, undo: some}"), "states.one.undo", "this is not 'all' or 'none'", "Write 'all' or 'none'"),
    (STATES.format("{outcome: failed, undo: [1]}"), "states.one.undo[0]", "a text is needed here", "quotes"),
    (STATES.format("{remind: {every: 1d, ask: a}}"), "states.one.remind[0].command", "`command` is missing", "Add `command:`"),
]


@pytest.mark.parametrize(("text", "path", "message", "fix"), SHAPES, ids=[path or "whole" for _, path, _, _ in SHAPES])
def test_what_is_meant_to_be_one_of_several_kinds_is_told_in_words_of_the_language(text: str, path: str, message: str, fix: str) -> None:
    """Else an author reads of classes and unions, or finds no place that is wrong."""
    with pytest.raises(DefinitionError) as caught:
        read(text, "small.yaml")
    [finding] = [finding for finding in caught.value.findings if finding.path == path]
    assert message in finding.message
    assert fix in finding.fix
    assert "Input should" not in str(caught.value)


UNREADABLE = [
    ("version: 1\nversion: 2\n", 2, "twice"),
    ("a: &x 1\nb: *x\n", 1, "anchors"),
    ("- a\n- b\n", 1, "not a map"),
    ("", 1, "not a map"),
    ("a: [1\nb: }", 2, "YAML"),
    ("a: !!python/object:os.system x\n", 1, "YAML"),
    ("a: !!timestamp maybe\n", 1, "YAML"),
    ("a: !!bool maybe\n", 1, "YAML"),
    ("a: !!float ''\n", 1, "YAML"),
    ("a: 1e400\n", 1, "JSON"),
    ("a: \x07\n", 1, "YAML"),
    ("a: " + "[" * 5_000 + "]" * 5_000, 1, ""),
    ("a: " + "9" * 5_000, 1, "YAML"),
    ("a" * 262_145, 1, "characters"),
]


@pytest.mark.parametrize(("text", "line", "word"), UNREADABLE, ids=[word or "deep" for _, _, word in UNREADABLE])
def test_what_is_no_definition_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    """Else a broken file is a traceback, or a bomb goes off."""
    with pytest.raises(DefinitionError) as caught:
        read(text, "bad.yaml")
    assert caught.value.findings[0].line == line
    assert word in str(caught.value)


@given(text=st.text(max_size=200) | st.text(alphabet="abc:-[]{}!&*?|>'\"#%@ \n\t1.", max_size=80))
def test_garbage_is_a_definition_error_and_nothing_else(text: str) -> None:
    """Else some file makes the start fail with a traceback."""
    with pytest.raises(DefinitionError):
        read(text, "garbage.yaml")


@given(place=st.integers(0, len(ORDER_TEXT)), junk=st.text(max_size=6))
def test_a_damaged_definition_is_read_or_refused(place: int, junk: str) -> None:
    """Else a typing slip is a traceback."""
    with suppress(DefinitionError):
        read(ORDER_TEXT[:place] + junk + ORDER_TEXT[place:], "order.yaml")


def test_a_key_with_a_dot_is_not_taken_for_a_path() -> None:
    """Else a file is refused for a key that stands in it once."""
    raw, lines = parse("a: {b: 1}\na.b: 2\nc: [1]\nc[0]: 2\n", "dots.yaml")
    assert raw == {"a": {"b": 1}, "a.b": 2, "c": [1], "c[0]": 2}
    assert lines["a.b"] == 1


def test_plain_words_are_read_as_json_writes_them() -> None:
    """Else `on` is a key that nobody can find, `no` is no country, and 1:30 is ninety."""
    text = (
        "{on: yes, a: no, b: 1:30, c: 2026-11-21, d: 017, e: 0x1f, f: 1_000, g: .nan, h: true, i: ~, j: null, k: -1.5e3, l: 0, m: '1', n:}"
    )
    assert parse(text, "words.yaml")[0] == {
        "on": "yes",
        "a": "no",
        "b": "1:30",
        "c": "2026-11-21",
        "d": "017",
        "e": "0x1f",
        "f": "1_000",
        "g": ".nan",
        "h": True,
        "i": None,
        "j": None,
        "k": -1500.0,
        "l": 0,
        "m": "1",
        "n": None,
    }


def test_all_defaults_are_written_out() -> None:
    """Else a later default changes orders that are registered (R30)."""
    expanded = read(TEXT, "small.yaml").expanded
    step = expanded["steps"][0]
    assert expanded["stages"] == [{"stage": "one", "state": "one", "steps": ["one"]}]
    assert (step["with"], step["refused_on"], step["pivot"], step["harmless"]) == (None, [], False, False)
    assert step["retry"] == {"attempts": 3, "first_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "stuck_after": None}
    assert step["undo"]["retry"] == {"attempts": None, "first_ms": 5_000, "factor": 2.0, "max_ms": 300_000, "stuck_after": 5}
    assert (expanded["patience_ms"], expanded["abort_on"], expanded["announce"]) == (300_000, [], {})


def test_the_fingerprint_is_of_the_content() -> None:
    """Else a comment is a changed definition, or a change is none (R30)."""
    original = read(TEXT, "a.yaml")
    assert read("# a comment\n" + TEXT, "b.yaml").fingerprint == original.fingerprint
    assert read(TEXT.replace("5m", "6m"), "a.yaml").fingerprint != original.fingerprint


@pytest.mark.parametrize(("text", "ms"), [("1500ms", 1_500), ("30s", 30_000), ("1h30m", 5_400_000), ("14d", 1_209_600_000)])
def test_durations(text: str, ms: int) -> None:
    """Else a definition's times are others than written."""
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "5", "5 s", "-5s", "1.5s", "s", "0s", "4000d", "9999999999999s", "1000000000000001s", 30, None, "5S", "٣s"]
)
def test_what_is_no_duration(text: object) -> None:
    """Else a unit forgotten is a deadline of milliseconds."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
