from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestrator.config import Settings
from orchestrator.testing.coverage import coverage, guard_coverage
from orchestrator.testing.play import Result, play_file
from orchestrator.testing.scenario import scenario_files
from tests.cli.kit import Api, Escrow, make_escrow
from tests.testing.kit import SCENARIOS

FILES = scenario_files(SCENARIOS)
HEAD = "definition: order\ngiven: {order_id: o1}\n"


@pytest.fixture
def command_line() -> Escrow:
    """The command line, which needs no API here."""
    return make_escrow(Api(), Settings())


def played(directory: Path, text: str) -> Result:
    """A scenario with this text, played."""
    file = directory / "scenario.yaml"
    file.write_text(text)
    result = play_file(file)
    assert result is not None
    return result


def told(directory: Path, text: str) -> list[str]:
    """The failures of a scenario, from the line number on."""
    return [str(failure).partition(".yaml:")[2] for failure in played(directory, text).failures]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_shipped_definitions_do_as_their_scenarios_say(file: Path) -> None:
    """If it failed, a shipped definition would not do what its author promised."""
    result = play_file(file)
    assert result is not None
    assert [str(failure) for failure in result.failures] == []


def test_the_scenarios_try_everything_of_the_shipped_definitions() -> None:
    """If it failed, a step's refusal, silence or undo, or what a guard can say, would be tried by no scenario."""
    results = [play_file(file) for file in FILES]
    harnesses = [result.harness for result in results if result is not None and result.harness is not None]
    lines = coverage(harnesses)
    assert {line.definition for line in lines} == {"order", "order_watched", "house_closing"}
    assert {(line.definition, line.step): line.never for line in lines if line.never} == {}
    guards = guard_coverage(harnesses)
    assert [(line.definition, line.guard, line.at) for line in guards] == [
        ("house_closing", "event.amount_minor >= order.price_minor", ("FundsReceived in awaiting_funds",))
    ]
    assert [line.never for line in guards] == [[]]


GUARDED = """
definition: guarded
version: 1
opens_on: GuardedOpened
key: order_id
patience: 1h
steps:
  - choose: size
    cases:
      - {when: order.size > 5, steps: [{step: big, ask: p, command: Big, done_on: BigDone, deadline: 1s, harmless: true}]}
      - {when: order.size < 0, steps: [{step: odd, ask: p, command: Odd, done_on: OddDone, deadline: 1s, harmless: true}]}
  - repeat: trying
    until: replies.attempt.ok
    at_most: 2
    steps: [{step: attempt, ask: p, command: Try, done_on: Tried, done_when: order.size > 5, deadline: 1s, harmless: true}]
"""


def test_coverage_says_of_every_guard_what_it_was_seen_to_say(tmp_path: Path) -> None:
    """If it failed, an author would believe a guard tried both ways that was asked once, or never."""
    (tmp_path / "guarded.yaml").write_text(GUARDED)
    head = "definition: guarded.yaml\ngiven: {order_id: o1, data: {size: 9}}\nwhen:\n  - reply: big\n"
    first = played(tmp_path, head)
    second = played(tmp_path, head + "  - {reply: {step: attempt, data: {ok: false}}}\n")
    assert (first.failures, second.failures) == ((), ())
    assert first.harness is not None
    assert second.harness is not None
    large, small, until = guard_coverage([first.harness, second.harness])
    assert (large.guard, large.at, large.true, large.false) == ("order.size > 5", ("choose size", "step attempt"), 2, 0)
    assert (small.guard, small.at, small.true, small.false, small.never) == ("order.size < 0", ("choose size",), 0, 0, ["true", "false"])
    assert (until.at, until.true, until.false, until.never) == (("repeat trying",), 0, 1, ["true"])


def test_the_command_tells_guards_that_were_never_asked_and_does_not_fail_for_them(command_line: Escrow, tmp_path: Path) -> None:
    """If it failed, CI would pass untried guards without a word, or fail definitions whose scenarios all pass."""
    (tmp_path / "guarded.yaml").write_text(GUARDED)
    (tmp_path / "one.yaml").write_text("definition: guarded.yaml\ngiven: {order_id: o1, data: {size: 9}}\n")
    result = command_line("definition", "test", str(tmp_path))
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["guarded", "1", "order.size", ">", "5", "choose", "size,", "step", "attempt", "1", "never"] in rows
    assert ["guarded", "1", "order.size", "<", "0", "choose", "size", "never", "never"] in rows


def test_coverage_counts_scenarios_and_knows_what_cannot_be(tmp_path: Path) -> None:
    """If it failed, an author would believe a path tried that never was, or look for one that is not there."""
    one = played(tmp_path, HEAD + "when:\n  - reply: reserve_inventory\n  - silence: reply:take_payment\n  - silence: retry:take_payment\n")
    two = played(tmp_path, HEAD + "when:\n  - reply: reserve_inventory\n")
    assert (one.failures, two.failures) == ((), ())
    assert one.harness is not None
    assert two.harness is not None
    reserve, pay, email = coverage([one.harness, two.harness])
    assert (reserve.done, reserve.refused, reserve.silent, reserve.undone) == (2, 0, 0, 0)
    assert (pay.done, pay.refused, pay.silent, pay.undone) == (0, 0, 1, 0)
    assert (email.done, email.refused, email.silent, email.undone) == (0, 0, 0, None)
    assert email.never == ["done", "refused", "silent"]


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("  - reply: take_payment", "4: when[0]: take_payment was not asked; reserve_inventory.0.1 were."),
        (
            "  - reply: reserve_inventory\n    expect: {state: completed}",
            "5: when[0].expect.state: expected completed, found taking_payment",
        ),
        (
            "  - reply: reserve_inventory\n    expect:\n      commands: [TakePayment, EmailInvoice]",
            "6: when[0].expect.commands: expected [TakePayment, EmailInvoice], found [TakePayment]",
        ),
        (
            "  - event: OrderPlaced",
            "4: when[0].expect.verdict: expected moved, found refused (order_exists: the order was opened with other data)",
        ),
        ("  - act: release", "4: when[0].expect.verdict: expected moved, found refused (The order is not held.)"),
        ("  - duplicate: 3", "4: when[0]: Item 3 of `when` is no message that came before; 0 is the opening, 1 the first item."),
        ("  - silence: alert", "4: when[0]: alert is not running; reply:reserve_inventory.0.1, patience are."),
        ("  - advance: 1s\nthen:\n  cause: silence", "6: then.cause: expected silence, found none"),
    ],
)
def test_a_failure_names_line_and_both_values(tmp_path: Path, when: str, says: str) -> None:
    """If it failed, an author would look for what differs, and where."""
    assert told(tmp_path, f"{HEAD}when:\n{when}\n") == [says]


def test_nothing_is_played_after_a_failure(tmp_path: Path) -> None:
    """If it failed, one slip would be told as a dozen."""
    result = played(tmp_path, HEAD + "when:\n  - reply: email_invoice\n  - reply: reserve_inventory\nthen: {state: completed}\n")
    assert len(result.failures) == 1
    assert result.harness is not None
    assert len(result.harness.turns) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("given: {order_id: o1}", "1: definition: `definition` is missing. Fix: Add `definition:`."),
        ("definition: nothing\ngiven: {order_id: o1}", "1: definition: "),
        (
            "definition: ../../x\ngiven: {order_id: o1}",
            "1: definition: '../../x' is neither the name of a shipped definition nor a .yaml file.",
        ),
        (HEAD + "when:\n  - replay: x", "4: when[0].replay: `replay` is not a field here."),
        (HEAD + "when:\n  - {reply: a, undone: b}", "4: when[0]: an item says one of reply, refusal, undone,"),
        (HEAD + "when:\n  - {expect: {}}", "4: when[0]: an item says one of"),
        (HEAD + "when:\n  - advance: soon", "4: when[0].advance: a duration is a number with a unit"),
        (HEAD + "when:\n  - act: dance", "4: when[0].act.act: it must be one of force, retry"),
        (HEAD + "then: {verdict: good}", "3: then.verdict: it must be one of moved, duplicate"),
        (HEAD + "then: {commands: [{name: x}]}", "3: then.commands: commands are a list of names, or of maps"),
        (HEAD + "then: {deadlines: patience}", "3: then.deadlines: deadlines are a list of names"),
        (HEAD + "then: {deadlines: {patience: soon}}", "3: then.deadlines: a duration is a number with a unit"),
        ("definition: order\ngiven: {order_id: a b}", "2: given.order_id: an order id has 1 to 128"),
        (HEAD + "then: {data: {x: 1e400}}", "1: (document): The scenario holds what JSON cannot"),
        ("- 1", "1: (document): The document is not a map."),
        ("a: [", "1: (document): Not readable as YAML"),
    ],
)
def test_what_is_no_scenario_is_told_with_line_and_fix(tmp_path: Path, text: str, says: str) -> None:
    """If it failed, a typing error would be a traceback, or an expectation that is never looked at."""
    first = told(tmp_path, text)[0]
    assert first.startswith(says)
    assert "Fix: " in first


def test_a_definition_that_would_not_start_is_not_tested(tmp_path: Path) -> None:
    """If it failed, a scenario could pass on a definition that the check refuses."""
    (tmp_path / "bad.yaml").write_text(
        (SCENARIOS.parents[1] / "orchestrator/definitions/order.yaml").read_text().replace("patience: 30m", "patience: 1s")
    )
    [failure] = played(tmp_path, "definition: bad.yaml\ngiven: {order_id: o1}").failures
    assert (failure.file, failure.path) == (str(tmp_path / "bad.yaml"), "patience")


@hypothesis_settings(max_examples=150, deadline=None)
@given(raw=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_a_result(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    """If it failed, one bad file would hide the results of all others behind a traceback."""
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(raw)
    result = play_file(file)
    assert result is None or result.failures


KEYS = st.sampled_from(
    ["definition", "given", "when", "then", "reply", "act", "expect", "order_id", "data", "step", "commands", "deadlines", "x"]
)
VALUES: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["order", "abort", "30s", "reserve_inventory", "moved"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(when=VALUES, then=VALUES)
def test_any_document_gives_a_result(tmp_path_factory: pytest.TempPathFactory, when: Any, then: Any) -> None:
    """If it failed, a file that is nearly a scenario would be a traceback."""
    file = tmp_path_factory.getbasetemp() / "document.yaml"
    file.write_text(json.dumps({"definition": "order", "given": {"order_id": "o1"}, "when": when, "then": then}))
    assert isinstance(play_file(file), Result)


def test_the_command_ends_with_1_when_a_scenario_fails(command_line: Escrow, tmp_path: Path) -> None:
    """If it failed, CI would pass a definition that does not do as promised."""
    (tmp_path / "good.yaml").write_text(HEAD)
    (tmp_path / "bad.yaml").write_text(HEAD + "then: {state: completed}\n")
    (tmp_path / "order.yaml").write_text("opens_on: OrderPlaced\n")
    (tmp_path / "notes.txt").write_text("no scenario")
    result = command_line("definition", "test", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == "escrow: 1 of 2 scenarios failed.\n"
    bad, why, _, opened, good = result.stdout.splitlines()[:5]
    assert bad == f"failed  {tmp_path}/bad.yaml: bad"
    assert why == f"  {tmp_path}/bad.yaml:3: then.state: expected completed, found reserving_inventory"
    assert "OrderPlaced" in opened
    assert good == f"passed  {tmp_path}/good.yaml: good"
    assert command_line("definition", "test", str(tmp_path / "good.yaml")).exit_code == 0


def test_the_command_speaks_json(command_line: Escrow) -> None:
    """If it failed, a program could not read what was tried, or what failed and where."""
    result = command_line("definition", "test", str(SCENARIOS), "-o", "json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert len(document["scenarios"]) == len(FILES)
    assert document["scenarios"][0].keys() == {"file", "title", "passed", "failures", "story"}
    assert document["coverage"][0].keys() == {"definition", "version", "step", "done", "refused", "silent", "undone", "never"}
    assert document["guards"][0].keys() == {"definition", "version", "guard", "at", "true", "false", "never"}


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_play_is_no_success(command_line: Escrow, tmp_path: Path, there: bool) -> None:
    """If it failed, a directory whose name was mistyped would pass in CI for ever."""
    place = tmp_path if there else tmp_path / "nowhere"
    assert command_line("definition", "test", str(place)).exit_code == 2


def test_a_bug_of_ours_fails_one_scenario_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If it failed, a defect of the core would end the run, and the trace that shows it would be a traceback."""

    def broken(*_: object) -> None:
        raise KeyError("take_payment")

    monkeypatch.setattr("orchestrator.testing.harness.decide_all", broken)
    assert told(tmp_path, HEAD) == ["2: given: Escrow itself failed: KeyError: 'take_payment'"]
