"""How commands end: one line and a documented code, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator import errors
from orchestrator.cli.exits import MEANINGS, ExitCode, code_of
from orchestrator.cli.main import app
from orchestrator.cli.root import compose
from orchestrator.config import Settings
from tests.cli.kit import ORDER, Api, Escrow, make_escrow

CODES: list[tuple[Exception, int]] = [
    (errors.NotFound(), 3),
    (errors.Conflict(), 4),
    (errors.Stale(), 4),
    (errors.Forbidden(), 5),
    (errors.Unprocessable(), 2),
    (errors.SettingsError(), 2),
    (errors.MalformedMessage(), 2),
    (errors.DefinitionError([]), 1),
    (errors.JournalDamaged("x", order_id="o", seq=2), 1),
    (errors.StoreUnavailable(), 6),
    (errors.StoreForbidden(), 2),
    (errors.BusUnavailable(), 6),
    (errors.DataRefused(), 70),
    (errors.InvariantViolated(), 70),
    (errors.EscrowError(), 70),
    (ZeroDivisionError("x"), 70),
    (RecursionError("x"), 70),
    (PermissionError(13, "denied"), 70),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_every_error_has_its_code(escrow: Escrow, error: Exception, code: int) -> None:
    """A script could not tell whose fault it was; a person would read a traceback."""

    def fail() -> None:
        raise error

    result = CliRunner().invoke(compose({"fail": fail}), ["fail"], obj=escrow.session)

    assert code == result.exit_code == code_of(error)
    assert "Traceback" not in result.output
    assert len(result.stderr.splitlines()) <= 1
    if not isinstance(error, errors.EscrowError):
        assert "This is a bug in Escrow" in result.stderr


def test_every_code_is_in_the_help(escrow: Escrow) -> None:
    """A code would be undocumented."""
    result = escrow("--help")

    assert set(ExitCode) == set(MEANINGS)
    for code, meaning in MEANINGS.items():
        assert f"{code.value}  {meaning}" in result.stdout


def test_debug_shows_the_traceback(escrow: Escrow) -> None:
    """A bug could not be reported with what is needed to find it."""

    def fail() -> None:
        raise ZeroDivisionError("deep inside")

    result = CliRunner().invoke(compose({"fail": fail}), ["--debug", "fail"], obj=escrow.session)

    assert "Traceback" in result.stderr
    assert result.exit_code == 70


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(32, "gone"), 141)])
def test_interrupts_are_no_bugs(escrow: Escrow, error: BaseException, code: int) -> None:
    """Ctrl-C, or `| head`, would print a traceback."""

    def stop() -> None:
        raise error

    result = CliRunner().invoke(compose({"stop": stop}), ["stop"], obj=escrow.session)

    assert code == result.exit_code
    assert "Traceback" not in result.output


def test_settings_errors_are_a_line_each(escrow: Escrow) -> None:
    """Several wrong variables would run together into one line nobody reads."""

    def refuse() -> Settings:
        raise errors.SettingsError("ESCROW_A is wrong.\nESCROW_B is wrong.")

    escrow.session.settings = refuse

    result = escrow("order", "list")

    assert (result.exit_code, result.stderr) == (2, "escrow: ESCROW_A is wrong.\nESCROW_B is wrong.\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "escrow up"),
        (httpx.ConnectTimeout("slow"), "ESCROW_URL"),
        (httpx.ReadTimeout("slow"), "may have been done"),
        (httpx.RemoteProtocolError("cut"), "broke the connection off"),
    ],
)
def test_an_api_that_does_not_answer(api: Api, escrow: Escrow, error: Exception, words: str) -> None:
    """A newcomer whose Escrow is not running would read a traceback, not what to start."""
    api.series("GET", "/v1/orders/order-1", error)

    result = escrow("order", "show", "order-1")

    assert result.exit_code == 6
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(200, text="<html>"), 6),
        (httpx.Response(200, json=[1]), 6),
        (httpx.Response(302, headers={"Location": "https://elsewhere/"}), 6),
        (httpx.Response(404, text="nginx"), 6),
        (httpx.Response(404, json={"detail": "Not Found"}), 3),
        (httpx.Response(401, text="who are you"), 5),
        (httpx.Response(502, text="bad gateway"), 6),
        (httpx.Response(200, content=b"\xff\xfe{"), 6),
    ],
)
def test_an_answer_that_is_not_escrows(api: Api, escrow: Escrow, response: httpx.Response, code: int) -> None:
    """Another server at ESCROW_URL would be a traceback, or look like a missing order."""
    api.answers["GET", "/v1/orders/order-1"] = lambda _: response

    result = escrow("order", "show", "order-1")

    assert code == result.exit_code
    assert len(api.requests) == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_token_says_what_to_set(api: Api, escrow_with: Callable[[Settings], Escrow]) -> None:
    """Nobody would know that ESCROW_TOKEN is missing."""
    api.problem("GET", "/v1/orders", 401, detail="No valid token.")

    result = escrow_with(Settings())("order", "list")

    assert result.exit_code == 5
    assert "ESCROW_TOKEN" in result.stderr
    assert "Authorization" not in api.last.headers


@pytest.mark.parametrize("token", ["a\nb", "tökën", " x", "x" * 300])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(api: Api, escrow_with: Callable[[Settings], Escrow], token: str) -> None:
    """A mangled token would inject a header, be a traceback, or be printed."""
    result = escrow_with(Settings(token=token))("order", "list")

    assert result.exit_code == 2
    assert token.strip() not in result.output
    assert api.requests == []


def test_the_findings_of_a_problem_are_told(api: Api, escrow: Escrow) -> None:
    """The API says which field is wrong, and nobody would read it."""
    findings = [{"location": "body.data", "message": "Field required"}]
    api.problem("GET", "/v1/orders", 422, detail="Two things are wrong.", errors=findings)

    assert "body.data: Field required." in escrow("order", "list").stderr


_NOUNS = ("order", "participant", "quarantine", "definition", "db", "token", "--version", "--debug", "nothing")
_VERBS = (
    "list",
    "show",
    "history",
    "create",
    "wait",
    "force",
    "retry",
    "hold",
    "deadline",
    "check",
    "graph",
    "sql",
    "revoke",
    "-o",
    "--help",
)
_WORDS = (
    "json",
    "--reason",
    "--limit",
    "--until",
    "--data",
    "--if-match",
    "--timeout",
    "--cursor",
    "--order-id",
    "--idempotency-key",
    "order-1",
)
_TEXT = st.text(max_size=12) | st.text(st.characters(codec=None), max_size=4) | st.integers().map(str) | st.sampled_from(_WORDS)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(_NOUNS), st.sampled_from(_VERBS), st.lists(_TEXT, max_size=6))
def test_no_argument_is_ever_a_traceback(noun: str, verb: str, rest: list[str]) -> None:
    """Some argument, however strange, would end in a traceback or an undocumented code."""
    api = Api()
    api.on("GET", "/v1/orders", {"items": [ORDER], "next_cursor": None})
    api.on("GET", "/v1/orders/order-1", ORDER)
    escrow = make_escrow(api, Settings(token="t"))

    result = escrow(noun, verb, *rest)

    assert result.exit_code in set(ExitCode) - {ExitCode.BUG}, result.output
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_the_process_ends_quietly_when_its_reader_goes_away() -> None:
    """`escrow … | head` would end with "Exception ignored … BrokenPipeError"."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "orchestrator", "db", "sql", "--url", "postgresql+psycopg://nowhere/x"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writer)

    assert (run.returncode, run.stderr) == (141, b"")


def test_the_whole_command_line_has_every_command() -> None:
    """A command of the documentation would not exist."""
    result = CliRunner().invoke(app, ["--help"])

    for name in ("demo", "up", "serve", "worker", "order", "participant", "quarantine", "definition", "db", "doctor", "token", "verify"):
        assert f" {name} " in result.stdout
