"""`escrow demo` as a newcomer runs it: the whole story, in real processes that are really killed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.support.processes import Process, eventually
from tests.support.services import amqp_url

#: Twice what the story takes on a busy machine.
WITHIN_S = 150.0

HELD = (
    "every order is at a right end",
    "no order is lost",
    "came back in time",
    "ran out of attempts and were undone",
    "refused by payment and undone",
    "nothing was applied twice",
    "the stock adds up",
    "the money adds up",
    "an invoice for each completed order",
    "every history folds to what is stored",
)
WATCHED_HELD = (
    "the same orders both times",
    "without Escrow what a service missed is lost",
    "and some of it is half done",
    "with Escrow none is lost",
    "every order is completed",
    "nothing was applied twice",
    "one update and one invoice for each",
    "every history folds to what is stored",
)


def _demo(output: Path, directory: Path, *args: str, **settings: str) -> Process:
    directory.mkdir()
    return Process("orchestrator", "demo", *args, output=output, env={"TMPDIR": str(directory), **settings})


def _assert_all_held(demo: Process, directory: Path, held: tuple[str, ...] = HELD, said: str = "kill -9") -> None:
    status = demo.wait(WITHIN_S)
    text = demo.text()
    assert status == 0, text
    assert said in text
    for what in held:
        assert f"yes  {what}" in text
    assert "All of it held, in " in text.splitlines()[-1]
    assert not list(directory.iterdir()), "the demo left something behind"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_outage_story_ends_well(tmp_path: Path) -> None:
    """If it fails, an order was lost, stuck or done twice in an outage with a kill -9; or the first thing a newcomer sees is broken."""
    with _demo(tmp_path / "demo.txt", tmp_path / "work") as demo:
        _assert_all_held(demo, tmp_path / "work")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_outage_story_ends_well_on_real_services(tmp_path: Path, postgres_url: str) -> None:
    """If it fails, PostgreSQL or RabbitMQ behave otherwise than the embedded ones, or the demo leaves its schema in a shared database."""
    settings = {"ESCROW_DATABASE_URL": postgres_url, "ESCROW_AMQP_URL": amqp_url()}
    with _demo(tmp_path / "demo.txt", tmp_path / "work", "--services", **settings) as demo:
        _assert_all_held(demo, tmp_path / "work")
    with psycopg.connect(make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'escrow_demo_%'").fetchall()
    assert left == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_choreography_loses_nothing_that_is_watched(tmp_path: Path) -> None:
    """If it fails, Escrow does not notice what a service missed, asks for what was done already, or the demo proves nothing."""
    with _demo(tmp_path / "demo.txt", tmp_path / "work", "--watched") as demo:
        _assert_all_held(demo, tmp_path / "work", WATCHED_HELD, "it lets go of the bus")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_choreography_loses_nothing_on_real_services(tmp_path: Path, postgres_url: str) -> None:
    """If it fails, the queues of services that are killed do not vanish as they do here, or a watched order is lost on a real broker."""
    settings = {"ESCROW_DATABASE_URL": postgres_url, "ESCROW_AMQP_URL": amqp_url()}
    with _demo(tmp_path / "demo.txt", tmp_path / "work", "--watched", "--services", **settings) as demo:
        _assert_all_held(demo, tmp_path / "work", WATCHED_HELD)


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Else Ctrl-C would leave a process that holds a port, and a directory, behind."""
    with _demo(tmp_path / "demo.txt", tmp_path / "work") as demo:
        demo.wait_for_line("Escrow listens on", 60)
        url = demo.wait_for_line("Escrow listens on").split()[-1]
        os.kill(demo.pid, signal.SIGINT)
        assert demo.wait() == 130
        assert demo.text().splitlines()[-1] == "escrow: Interrupted."
    assert not list((tmp_path / "work").iterdir())
    port = int(url.rpartition(":")[2])
    eventually(lambda: _is_closed(port), what=f"{url} still answers")


@pytest.mark.slow
def test_services_says_what_is_not_set(tmp_path: Path) -> None:
    """Else whoever tries `--services` would have to read the code."""
    with _demo(tmp_path / "demo.txt", tmp_path / "work", "--services") as demo:
        assert demo.wait() == 2
        assert "ESCROW_DATABASE_URL is not set. Fix:" in demo.text()
        assert "ESCROW_AMQP_URL is not set. Fix:" in demo.text()


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
