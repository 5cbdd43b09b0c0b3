"""The runner: nothing lost at any crash, and every fault that can be told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestrator.contract import Envelope
from participants import inventory
from participants.kit.control import Control, make_app
from participants.kit.faults import Faults, Settings
from participants.kit.runner import Runner
from participants.kit.transport import Received
from tests.participants.support import MemoryTransport, ask, running, undo_of
from tests.support.processes import eventually

LINES = {"lines": [{"sku": "apple", "quantity": 1}]}


def orders(count: int) -> list[Envelope]:
    """One command each for so many orders."""
    return [ask("ReserveInventory", f"o-{n}", LINES) for n in range(count)]


def test_commands_are_answered_acked_and_forgotten(engine: sa.Engine) -> None:
    """The straight line of a participant; replies left in the outbox would be published again at every start."""
    transport = MemoryTransport()
    participant = inventory.build(engine)
    transport.send(*orders(30))
    with running(Runner(participant, transport, batch_max=7)):
        answers = transport.wait_for(30)
        eventually(lambda: not participant.unsent())
    assert [answer.subject for answer in answers] == [f"o-{n}" for n in range(30)]
    assert not transport.unacked
    assert transport.closed


def test_a_crash_between_commit_and_publish_loses_no_reply(engine: sa.Engine) -> None:
    """The reply is committed with its effect; if the next start did not publish it, Escrow would have to ask again."""
    transport = MemoryTransport()
    transport.send(*orders(3))
    transport.down = True
    with pytest.raises(ConnectionError):
        Runner(inventory.build(engine), transport).turn()
    assert not transport.unacked  # acked: nobody will deliver these again
    transport.down = False
    with running(Runner(inventory.build(engine), transport)):
        assert [answer.type for answer in transport.wait_for(3)] == ["InventoryReserved"] * 3


def test_a_crash_between_commit_and_ack_applies_nothing_twice(engine: sa.Engine) -> None:
    """The commands come again, and must meet their rows."""
    transport = MemoryTransport()
    transport.send(*orders(3))
    participant = inventory.build(engine)
    participant.handle([received.wire for received in transport.consume(10, 0)])
    transport.redeliver()
    with running(Runner(inventory.build(engine), transport)):
        answers = transport.wait_for(6)
    assert {answer.id for answer in answers[:3]} == {answer.id for answer in answers[3:]}
    assert participant.totals()["reserved"] == 3
    assert not transport.unacked


def test_a_link_that_is_down_is_waited_out(sqlite_engine: sa.Engine) -> None:
    """Replies must leave when the broker is back, without a restart, and `trouble` must say what is wrong meanwhile."""
    transport = MemoryTransport()
    transport.down = True
    runner = Runner(inventory.build(sqlite_engine), transport)
    transport.send(*orders(2))
    with running(runner):
        assert "down" in str(eventually(lambda: runner.trouble))
        transport.down = False
        transport.wait_for(2)
        eventually(lambda: runner.trouble is None)


def test_a_database_that_is_away_is_waited_out(sqlite_engine: sa.Engine) -> None:
    """A batch that could not be committed is neither acked nor lost."""
    participant = inventory.build(sqlite_engine)
    transport = MemoryTransport()
    ledger, away = participant.ledger.commands.name, "away"
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql(f'ALTER TABLE "{ledger}" RENAME TO {away}')
    runner = Runner(participant, transport)
    transport.send(*orders(2))
    with running(runner):
        eventually(lambda: runner.trouble)
        assert len(transport.unacked) == 2
        with sqlite_engine.begin() as connection:
            connection.exec_driver_sql(f'ALTER TABLE {away} RENAME TO "{ledger}"')
        assert len(transport.wait_for(2)) == 2
    assert not transport.unacked


def test_replies_wait_for_the_effects_outside_the_database(sqlite_engine: sa.Engine) -> None:
    """`InvoiceEmailed` must not be said while the mail cannot be written."""
    participant = inventory.build(sqlite_engine)
    full = threading.Event()
    full.set()

    @participant.settled_by
    def write() -> None:
        if full.is_set() and transport.unacked:
            raise OSError("the disk is full")

    transport = MemoryTransport()
    runner = Runner(participant, transport)
    transport.send(*orders(1))
    with running(runner):
        assert "full" in str(eventually(lambda: runner.trouble))
        assert transport.answers() == []
        full.clear()
        assert len(transport.wait_for(1)) == 1


def test_stall_and_back(sqlite_engine: sa.Engine) -> None:
    """A stalled participant must be silent and take nothing, and carry on when told to."""
    transport = MemoryTransport()
    faults = Faults(Settings(stall=True))
    participant = inventory.build(sqlite_engine)
    runner = Runner(participant, transport, faults=faults)
    transport.send(*orders(2))
    runner.turn()
    assert (len(transport.waiting), transport.published) == (2, [])
    with running(runner):
        faults.set(Settings())
        assert len(transport.wait_for(2)) == 2


def test_a_stall_told_while_waiting_for_a_command(sqlite_engine: sa.Engine) -> None:
    """From the moment it is told nothing is done any more, or a drill would begin with an order that slips through."""

    class Telling(MemoryTransport):
        def consume(self, max_count: int, timeout_s: float) -> list[Received]:
            batch = super().consume(max_count, timeout_s)
            faults.set(Settings(stall=True))
            return batch

    faults, transport = Faults(), Telling()
    participant = inventory.build(sqlite_engine)
    runner = Runner(participant, transport, faults=faults)
    transport.send(*orders(1))
    runner.turn()
    assert (participant.totals()["reserved"], transport.published, len(transport.unacked)) == (0, [], 1)
    faults.set(Settings())
    runner.turn()
    assert len(transport.published) == 1
    assert not transport.unacked


def test_down_and_up(sqlite_engine: sa.Engine) -> None:
    """As if it were dead: the link is let go, nothing is published, and when it is up again it goes on with what waits for it."""
    transport, faults = MemoryTransport(), Faults()
    participant = inventory.build(sqlite_engine)
    runner = Runner(participant, transport, faults=faults)
    with running(runner):
        faults.set(Settings(down=True))
        assert runner.trouble == "It was told to be down."
        eventually(lambda: transport.paused)
        transport.send(*orders(2))
        faults.set(Settings())
        assert len(transport.wait_for(2)) == 2
    assert not transport.paused
    assert not transport.unacked


def test_down_told_while_waiting_for_a_command(sqlite_engine: sa.Engine) -> None:
    """What was taken and not done goes back: a command of a process that is dead is delivered again, and done once."""

    class Telling(MemoryTransport):
        def consume(self, max_count: int, timeout_s: float) -> list[Received]:
            batch = super().consume(max_count, timeout_s)
            if not batch[0].redelivered:
                faults.set(Settings(down=True))
            return batch

    faults, transport = Faults(), Telling()
    participant = inventory.build(sqlite_engine)
    runner = Runner(participant, transport, faults=faults)
    transport.send(*orders(1))
    runner.turn()
    assert (participant.totals()["reserved"], len(transport.unacked)) == (0, 1)
    runner.turn()
    assert (transport.paused, len(transport.waiting), transport.published) == (True, 1, [])
    faults.set(Settings())
    runner.turn()
    assert (participant.totals()["reserved"], len(transport.published), transport.unacked) == (1, 1, {})


def test_refuse_the_next(sqlite_engine: sa.Engine) -> None:
    """`refuse` counts new commands, not copies, and never refuses an undo."""
    transport = MemoryTransport()
    faults = Faults(Settings(refuse=2))
    first, second, third = orders(3)
    transport.send(first, undo_of("ReleaseInventory", third), first, second, ask("ReserveInventory", "o-9", LINES))
    Runner(inventory.build(sqlite_engine), transport, faults=faults).turn()
    types = [answer.type for answer in transport.answers()]
    assert types == ["InventoryRejected", "InventoryReleased", "InventoryRejected", "InventoryRejected", "InventoryReserved"]
    assert faults.settings.refuse == 0


def test_refuse_all(sqlite_engine: sa.Engine) -> None:
    """Until told otherwise."""
    transport = MemoryTransport()
    transport.send(*orders(5))
    Runner(inventory.build(sqlite_engine), transport, faults=Faults(Settings(refuse="all"))).turn()
    assert {answer.data["reason"] for answer in transport.answers()} == {"told_to_refuse"}


def test_late(sqlite_engine: sa.Engine) -> None:
    """The effect happens at once and the reply comes later: silence with the work done, which is what undo must cope with."""
    now = [0.0]
    transport = MemoryTransport()
    participant = inventory.build(sqlite_engine)
    runner = Runner(participant, transport, faults=Faults(Settings(late_s=5)), monotonic=lambda: now[0])
    transport.send(*orders(1))
    runner.turn()
    assert participant.totals()["reserved"] == 1
    now[0] = 4.9
    runner.turn()
    assert transport.answers() == []
    now[0] = 5.0
    runner.turn()
    assert [answer.type for answer in transport.answers()] == ["InventoryReserved"]


def test_twice(sqlite_engine: sa.Engine) -> None:
    """The same message two times, as a broker may deliver it."""
    transport = MemoryTransport()
    transport.send(*orders(2))
    Runner(inventory.build(sqlite_engine), transport, faults=Faults(Settings(twice=True))).turn()
    assert [answer.subject for answer in transport.answers()] == ["o-0", "o-0", "o-1", "o-1"]


def test_wrong_order(sqlite_engine: sa.Engine) -> None:
    """A lie on the wire only: told to work again, the participant answers the next copy with the truth."""
    transport = MemoryTransport()
    faults = Faults(Settings(wrong_order=True))
    runner = Runner(inventory.build(sqlite_engine), transport, faults=faults)
    transport.send(*orders(1))
    runner.turn()
    faults.set(Settings())
    transport.send(ask("ReserveInventory", "o-0", LINES, attempt=2))
    runner.turn()
    lie, truth = transport.answers()
    assert (lie.subject, truth.subject) == ("wrong-o-0", "o-0")
    assert lie.commandid == truth.commandid
    assert transport.published[0].order_id == "wrong-o-0"


@pytest.fixture
def control(sqlite_engine: sa.Engine) -> Iterator[tuple[str, Faults]]:
    """A door on loopback."""
    faults = Faults()
    participant = inventory.build(sqlite_engine)
    door = Control(make_app(participant, faults, lambda: "down" if faults.settings.twice else None))
    yield door.url, faults
    door.close()


def test_the_door(control: tuple[str, Faults]) -> None:
    """Demos and drills tell participants what to do over HTTP; a typing error must not pass for an order."""
    url, faults = control
    assert httpx.put(f"{url}/faults", json={"stall": True, "refuse": "all"}).status_code == 200
    assert faults.settings == Settings(stall=True, refuse="all")
    for wrong in ({"stal": True}, {"refuse": -1}, {"late_s": -1}, {"late_s": 1e9}, {"refuse": "some"}):
        assert httpx.put(f"{url}/faults", json=wrong).status_code == 422
    assert httpx.get(f"{url}/faults").json()["stall"] is True
    assert httpx.put(f"{url}/faults", json={}).json() == Settings().document()
    assert httpx.get(f"{url}/totals").json()["reserved"] == 0
    assert httpx.get(f"{url}/healthz").status_code == 200
    httpx.put(f"{url}/faults", json={"twice": True})
    assert httpx.get(f"{url}/healthz").status_code == 503


def test_the_door_is_shut_to_other_names(control: tuple[str, Faults]) -> None:
    """A web page that points a name of its own at loopback must not stall the warehouse."""
    url, _ = control
    assert httpx.get(f"{url}/faults", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["stall"], Settings(stall=True)),
        (["down"], Settings(down=True)),
        (["refuse"], Settings(refuse="all")),
        (["refuse", "--count", "3"], Settings(refuse=3)),
        (["late", "--seconds", "2"], Settings(late_s=2)),
        (["twice"], Settings(twice=True)),
        (["wrong-order"], Settings(wrong_order=True)),
        (["normal"], Settings()),
    ],
)
def test_tell(control: tuple[str, Faults], arguments: list[str], expected: Settings) -> None:
    """The command line says the same as HTTP, and replaces what was told before."""
    url, faults = control
    faults.set(Settings(twice=True))
    result = CliRunner().invoke(inventory.cli, ["tell", *arguments, "--url", url])
    assert result.exit_code == 0, result.output
    assert faults.settings == expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc", "nonsense"])
def test_tell_nobody(url: str) -> None:
    """One clear line, no traceback."""
    result = CliRunner().invoke(inventory.cli, ["tell", "stall", "--url", url])
    assert result.exit_code == 2
    assert "Error" in result.output
    assert "Traceback" not in result.output
