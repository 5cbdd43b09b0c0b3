"""A worker that is stopped in the middle of a transaction, for longer than anything waits for it, and then wakes up (R9)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.stories import ORDER
from tests.chaos.load import Load, assert_all_completed, present, steady
from tests.support import services
from tests.support.processes import Process, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Longer than the timeouts of the database's sessions (2 s), the silence of a worker (1.5 s), a deadline (20 s), and the heartbeats after
#: which the broker gives a link up (2 of 10 s, and what it allows besides). Until then the worker sits on the replies that it was given:
#: a definition that gave a step up sooner would undo it for a silence of ours.
FROZEN_S = 35.0


@pytest.fixture
def escrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two workers, the API and the real participants."""
    home = tmp_path_factory.mktemp("frozen")
    with services.fresh_postgres() as url, steady(home, database_url=url, amqp_url=services.amqp_url()) as installation:
        yield installation


@pytest.mark.timeout(180)
def test_a_worker_that_slept_through_every_timeout_changes_nothing_it_should_not(escrow: Installation) -> None:
    """It would commit what others have decided since, keep orders locked, or send commands that were answered long ago as if new."""
    before = escrow.totals("inventory")["reserved"]
    with Load(escrow, ORDER) as load:
        load.wait_for_ends()
        frozen = escrow.workers[0]
        session = stop_in_a_transaction(escrow, frozen)
        stopped_at = present()
        eventually(lambda: not is_there(escrow, session), 10, what="the database ends the session of the stopped worker")
        load.wait_for_ends()  # the other worker continues, those orders too that the stopped one had locked
        assert_all_completed(escrow, list(load.accepted[:-5]), reserved_before=None)
        eventually(lambda: present() - stopped_at > FROZEN_S, FROZEN_S + 10, what="everybody has given it up")
        os.kill(frozen.pid, signal.SIGCONT)
        load.wait_for_ends()
        frozen.wait_for_http(escrow.ready_url(frozen))
    assert_all_completed(escrow, load.accepted, reserved_before=before)
    assert all(worker.status is None for worker in escrow.workers)
    assert frozen.terminate() == 0
    escrow.workers.remove(frozen)


def stop_in_a_transaction(escrow: Installation, worker: Process) -> tuple[int, str]:
    """Stop a worker while a transaction of its own is open; returns its session: the process id of its backend and when that began."""

    def stop() -> list[tuple[int, str]]:
        os.kill(worker.pid, signal.SIGSTOP)
        ports = local_ports(worker.pid)
        for pid, began, port in sessions(escrow, "AND state IN ('idle in transaction', 'active')"):
            # What was under way when it was stopped comes to an end; what then stays open is ours.
            if port in ports and is_open(escrow, (pid, began)):
                return [(pid, began)]
        os.kill(worker.pid, signal.SIGCONT)
        return []

    return eventually(stop, 60, what="the worker is stopped in a transaction")[0]


def sessions(escrow: Installation, condition: str = "") -> list[tuple[int, str, int]]:
    """The sessions of Escrow with its database: process id of the backend, when it began, port of the client."""
    statement = (
        "SELECT pid, backend_start::text, client_port FROM pg_stat_activity "
        f"WHERE datname = current_database() AND application_name = 'escrow' {condition}"
    )
    with psycopg.connect(escrow.database_url.replace("+psycopg", "")) as connection:
        return [(pid, began, port) for pid, began, port in connection.execute(statement.encode())]


def is_open(escrow: Installation, session: tuple[int, str]) -> bool:
    """Whether this session waits in a transaction, for a client that says nothing."""
    return any((pid, began) == session for pid, began, _ in sessions(escrow, "AND state = 'idle in transaction'"))


def is_there(escrow: Installation, session: tuple[int, str]) -> bool:
    """Whether this session is still with the database."""
    return any((pid, began) == session for pid, began, _ in sessions(escrow))


def local_ports(pid: int) -> set[int]:
    """The ports of a process's TCP connections, as Linux tells them."""
    process = Path("/proc") / str(pid)
    sockets = {str(one.readlink()) for one in (process / "fd").iterdir()}
    lines = [line.split() for table in ("tcp", "tcp6") for line in (process / "net" / table).read_text(encoding="ascii").splitlines()[1:]]
    return {int(line[1].rpartition(":")[2], 16) for line in lines if f"socket:[{line[9]}]" in sockets}
