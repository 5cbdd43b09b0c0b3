"""The logs: one line an event, machine-readable off a terminal, without what customers wrote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from orchestrator import logs


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Other tests look at what is logged."""
    root = logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**before)
    logging.captureWarnings(capture=False)


@pytest.fixture
def out() -> io.StringIO:
    """Where the lines go."""
    stream = io.StringIO()
    logs.configure(level="info", form="auto", stream=stream)
    return stream


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    """The lines so far, as documents."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_every_line_is_json_with_an_action(out: io.StringIO) -> None:
    """Lines could not be searched by machine: no action, no order, no time."""
    logs.get("orchestrator.app").info("Moved", action="order_moved", order_id="o-1", state="taking_payment")
    logs.get("orchestrator.app").info("order_parked", order_id="o-2")
    logging.getLogger("some.library").info("Started process [%d]", 7)

    ours, short, foreign = lines(out)
    assert (ours["action"], ours["order_id"], ours["message"], ours["level"]) == ("order_moved", "o-1", "Moved", "info")
    assert short["action"] == "order_parked"
    assert (foreign["action"], foreign["logger"], foreign["message"]) == ("library", "some.library", "Started process [7]")
    assert all(line["at"].endswith("Z") for line in (ours, short, foreign))


def test_a_line_of_a_participant_keeps_its_action_and_order(out: io.StringIO) -> None:
    """Under `escrow up` nobody could follow an order into the participants; other extras may carry what customers wrote."""
    extra = {"action": "command_failed", "order_id": "o-1", "customer": "Ada"}
    logging.getLogger("participants.invoice").warning("It failed.", extra=extra)

    [line] = lines(out)
    assert (line["action"], line["order_id"], line["message"]) == ("command_failed", "o-1", "It failed.")
    assert "Ada" not in out.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_row_that_postgresql_shows_is_left_out_above_debug(out: io.StringIO, form: Literal["json", "console"]) -> None:
    """PostgreSQL writes the whole row it refuses into its error: what customers wrote would stand in the logs."""
    logs.configure(form=form, stream=out)
    text = 'null value in column "a"\nDETAIL:  Failing row contains (1, Ada\nLovelace).'
    error = ValueError(f"PostgreSQL: {text}\nHINT:  Look.")
    error.__cause__ = LookupError(text)
    logs.get("x").error("Refused", action="input_refused", error=str(error), exc_info=error)

    said = out.getvalue()
    assert "Ada" not in said
    assert "Lovelace" not in said
    assert said.count("null value in column") == 3
    assert said.count("HINT:  Look.") == 2
    assert "direct cause" in said


def test_payloads_are_left_out_above_debug(out: io.StringIO) -> None:
    """Names and addresses of customers would stand in the logs."""
    logs.get("x").warning("Refused", action="refused", data={"name": "Ada"}, body=b"Ada", reason="guard")

    [line] = lines(out)
    assert "Ada" not in out.getvalue()
    assert line["hidden"] == ["body", "data"]
    assert line["reason"] == "guard"


def test_payloads_are_shown_at_debug(out: io.StringIO) -> None:
    """Nobody could look at a message when it matters."""
    logs.configure(level="debug", form="json", stream=out)

    logs.get("x").debug("Decided", action="decided", data={"name": "Ada"})

    assert lines(out)[0]["data"] == {"name": "Ada"}


def test_libraries_that_log_every_move_are_quiet(out: io.StringIO) -> None:
    """`transitions` logs each callback at INFO: the hot path would spend its time there."""
    for name in ("transitions.core", "apscheduler.scheduler", "alembic.runtime.migration"):
        logging.getLogger(name).info("noise")
        logging.getLogger(name).warning("signal")

    assert [line["message"] for line in lines(out)] == ["signal"] * 3


def test_an_outage_of_the_broker_is_ours_to_say(out: io.StringIO) -> None:
    """The library writes six lines of errors for every try to connect: they would hide the one that says what to do."""
    logging.getLogger("pika.adapters.utils.connection_workflow").error("AMQPConnector - reporting failure")

    assert lines(out) == []


def test_an_exception_is_one_line(out: io.StringIO) -> None:
    """A traceback would tear a JSON log apart."""
    try:
        int("broken")
    except ValueError:
        logs.get("x").exception("Handler failed", action="handler_failed")

    [line] = lines(out)
    assert "ValueError: invalid literal" in line["exception"]


def test_a_terminal_gets_readable_lines() -> None:
    """A person at a terminal would read JSON."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    logs.configure(stream=terminal)
    logs.get("x").info("Hello", action="greeted")

    assert "Hello" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
