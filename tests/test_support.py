"""The tests' own tools: polling, processes, and how services are found."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest

from tests.support import postgres, services
from tests.support.postgres import PostgresServer
from tests.support.processes import Process, eventually, free_port
from tests.support.rabbitmq import can_connect


def test_eventually_returns_what_it_saw_and_fails_with_it() -> None:
    """A test that polls would hang, or fail without a word on what it saw last."""
    seen = iter([0, 0, 3])
    assert eventually(lambda: next(seen), 5) == 3

    with pytest.raises(AssertionError, match=r"not within 0.05 s: the impossible; last seen: 0"):
        eventually(lambda: 0, 0.05, what="the impossible")


def test_a_process_is_watched_and_killed(tmp_path: Path) -> None:
    """A process that a test started would outlive it, or a missing line would be reported without the output."""
    port = free_port()
    with Process("http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path), output=tmp_path / "out") as server:
        server.wait_for_http(f"http://127.0.0.1:{port}/", 20)
        server.wait_for_line("GET / HTTP", 20)
        with pytest.raises(AssertionError, match=r"never printed.*Its output ends:\n"):
            server.wait_for_line("never printed", 0.05)
        pid = server.pid

    assert server.status == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_early_end_is_told_at_once(tmp_path: Path) -> None:
    """A process that fails to start would be waited for until the limit, and its error lost."""
    with (
        Process("orchestrator.no_such_module", output=tmp_path / "out") as process,
        pytest.raises(AssertionError, match=r"ended with status 1 before it printed 'ready'[^$]*no_such_module"),
    ):
        process.wait_for_line("ready", 20)


def test_a_named_service_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong ESCROW_TEST_… would silently be replaced by another server: the tests would prove nothing about the one named."""
    nowhere = free_port()
    monkeypatch.setenv(services.DATABASE_VARIABLE, f"postgresql+psycopg://u@127.0.0.1:{nowhere}/d")
    monkeypatch.setenv(services.AMQP_VARIABLE, f"amqp://u:p@127.0.0.1:{nowhere}/")

    with pytest.raises(services.ServiceMissing, match=services.DATABASE_VARIABLE):
        services.postgres_admin_url.__wrapped__()
    with pytest.raises(services.ServiceMissing, match=services.AMQP_VARIABLE):
        services.amqp_url.__wrapped__()


@pytest.mark.real
def test_databases_are_fresh_and_dropped() -> None:
    """Tests would see each other's rows, or leave databases behind."""
    with services.fresh_postgres() as first, services.fresh_postgres() as second:
        assert first != second
        with psycopg.connect(first.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE t (a int)")
        left = psycopg.connect(first.replace("+psycopg", ""))

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first.replace("+psycopg", ""))
    left.close()


@pytest.mark.real
def test_a_broker_is_found() -> None:
    """The tests of the bus would have nothing to talk to."""
    assert can_connect(services.amqp_url())


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("source", ["any", "wheel"])
def test_a_private_postgres_survives_restart_and_kill(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of a database restart would have no database that they may break; a machine without PostgreSQL none at all."""
    if source == "wheel":
        monkeypatch.setattr(postgres, "binaries", postgres.wheel_binaries)
    server = PostgresServer()
    try:
        server.start()
        plain = server.url.replace("+psycopg", "")
        with psycopg.connect(plain) as connection:
            connection.execute("CREATE TABLE kept (a int)")
        server.restart()
        with psycopg.connect(plain) as connection:
            connection.execute("INSERT INTO kept VALUES (1)")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(plain)
        server.start()
        with psycopg.connect(plain) as connection:
            assert connection.execute("SELECT a FROM kept").fetchall() == [(1,)]
    finally:
        server.remove()


@pytest.mark.real
@pytest.mark.slow
def test_a_private_broker_restarts_and_blocks() -> None:
    """Tests of a broker's restart and of its alarms would have no broker that they may break."""
    with services.private_rabbitmq() as broker:
        broker.alarm(on=True)
        assert "memory" in broker.ctl("eval", "rabbit_alarm:get_alarms().")
        broker.alarm(on=False)
        assert "memory" not in broker.ctl("eval", "rabbit_alarm:get_alarms().")
        broker.kill()
        assert not can_connect(broker.url)
        broker.start()
        assert can_connect(broker.url)
