"""`escrow recover`: what it says, with a recorder and without one."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest

from orchestrator import wiring
from orchestrator.app import recover
from orchestrator.app.restore import Report
from orchestrator.bus import recorder
from orchestrator.bus.topology import Retention, declare, delete
from orchestrator.cli.exits import ExitCode
from orchestrator.config import Settings
from orchestrator.contract import Envelope, Topology, Wire, command_id, encode, event_key
from orchestrator.contract.canonical import format_time
from orchestrator.contract.envelope import STRUCTURED
from orchestrator.errors import SettingsError, TemporaryError
from orchestrator.store import backup as backups
from orchestrator.store import recovery, schema, upkeep
from orchestrator.store.engine import Engine, make_engine
from orchestrator.store.recovery import Guard
from tests.app.house import House, answer, placed
from tests.bus.test_rabbitmq import RawProperties
from tests.bus.test_recorder import POISON
from tests.cli.kit import Escrow
from tests.support.services import amqp_url

pytestmark = pytest.mark.real
With = Callable[[Settings], Escrow]
PARTICIPANTS = ("inventory", "payment", "invoice")


@dataclass
class Broker:
    """A namespace on the real broker, and what a worker and participants publish there."""

    topology: Topology
    channel: Any

    def publish(self, exchange: str, key: str, wire: Wire) -> None:
        """Publish, confirmed."""
        properties = pika.BasicProperties(content_type=wire.content_type, headers=dict(wire.headers), delivery_mode=2)
        self.channel.basic_publish(exchange, key, wire.body, properties, mandatory=True)

    def live(self, house: House, *works: Any) -> None:
        """One batch as it goes in an installation with a recorder: event, commit, record."""
        for work in works:
            envelope = work.input.envelope
            self.publish(self.topology.events, event_key(envelope.source, envelope.type), encode(envelope))
        context = replace(house.context, topology=self.topology, records=True)
        for message in house.handle(*works, context=context).outbox:
            if message.exchange == self.topology.recorder:
                self.publish(message.exchange, message.routing_key, Wire(content_type=message.content_type, headers={}, body=message.body))


@pytest.fixture
def broker() -> Iterator[Broker]:
    """With a recorder."""
    topology = Topology(f"escrow-test-{uuid4().hex[:12]}")
    declare(amqp_url(), topology, PARTICIPANTS, Retention(1, 10**9))
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url()))
    channel = connection.channel()
    channel.confirm_delivery()
    yield Broker(topology, channel)
    connection.close()
    delete(amqp_url(), topology, PARTICIPANTS)


@contextmanager
def door(pages: list[dict[str, Any]]) -> Iterator[str]:
    """A participant's door that gives these pages of its ledger, one after the other."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(pages.pop(0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings_of(tmp_path: Path, broker: Broker, **more: Any) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/restored.db", amqp_url=amqp_url(), namespace=broker.topology.namespace, **more)


@pytest.fixture
def lost(tmp_path: Path, broker: Broker) -> Iterator[House]:
    """A database that is lost after it has done something."""
    house = House(f"sqlite:///{tmp_path}/lost.db")
    broker.live(house, placed("done"), placed("waits"))
    for step, event in (("reserve_inventory", "InventoryReserved"), ("take_payment", "PaymentTaken"), ("email_invoice", "InvoiceEmailed")):
        broker.live(house, answer("done", step, event))
    yield house
    house.close()


@pytest.fixture
def backup(tmp_path: Path, broker: Broker, lost: House) -> Settings:
    """The settings of a database that is not there yet; its backup is named `one`, and three orders were placed after it."""
    settings = settings_of(tmp_path, broker, backup_dir=tmp_path / "backups")
    wiring.mark(settings.model_copy(update={"database_url": lost.url}), lost.engine)
    backups.create(lost.engine, tmp_path / "backups", "one")
    broker.live(lost, *(placed(f"after-{number}") for number in range(3)))
    return settings


@contextmanager
def engine_of(settings: Settings) -> Iterator[Engine]:
    engine = make_engine(str(settings.database_url), clock=wiring.now)
    yield engine
    engine.dispose()


def test_the_recorder_alone_brings_everything_back(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, a database that is lost before its first backup would be lost for good."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    assert escrow("db", "upgrade").exit_code == 0
    result = escrow("recover", "-o", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["gap"], told["opened"], told["folded"], told["findings"]) == (None, 2, 5, 0)
    assert told["outstanding"] == {"inventory": 1}
    assert told["messages"] == {"duplicate": 5}
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.order("done") == lost.order("done")
    house.close()


def test_a_second_run_has_nothing_to_do_and_says_so(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, an operator who is not sure would do everything twice."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    assert escrow("recover").exit_code == 0
    result = escrow("recover")
    assert result.exit_code == 0
    assert "Folded in: 0 journal entries; 0 orders opened, 0 moved on." in result.stdout
    assert "Now 2 orders, 5 journal entries; before 2, 5." in result.stdout
    assert lost.order("waits").state == "reserving_inventory"


def test_without_a_recorder_the_window_of_possible_loss_is_told(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, an operator would believe that a restored backup is everything."""
    said_at = datetime(2026, 11, 21, 13, tzinfo=UTC)
    late = Envelope(id="m1", source="inventory", type="InventoryReserved", subject="waits", time=said_at, data={})
    broker.publish(broker.topology.events, "inventory.InventoryReserved", encode(late))
    escrow = escrow_with(settings_of(tmp_path, broker, recorder=False))
    escrow("db", "upgrade")
    asked = command_id("done", 0, "reserve_inventory", 1)
    row = {"command_type": "ReserveInventory", "order_id": "done", "state": "done", "answered_at": "2026-11-21T12:30:00.000000Z"}
    ledger: list[dict[str, Any]] = [
        {"participant": "inventory", "rows": [{"command_id": asked, **row}]},
        {"participant": "inventory", "rows": []},
    ]
    with door(ledger) as url:
        result = escrow("recover", "--ledger", url)
    assert result.exit_code == 1
    assert "There is no recorder" in result.stderr
    assert "What was accepted between the beginning and 2026-11-21T13:00:00.000000Z may be lost." in result.stderr
    assert "1 commands are known to participants and not to Escrow." in result.stderr
    assert asked in result.stdout
    assert lost.order("done").state == "completed"


def test_a_recorder_that_was_made_anew_is_told_from_the_one_that_is_named(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, a recovery would begin in the middle of another stream, and be content."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    house = House(f"sqlite:///{tmp_path}/restored.db")
    recovery.keep(house.engine, recovery.MARK, {"offset": 2, "sha256": "0" * 64})
    house.close()
    result = escrow("recover")
    assert result.exit_code == 1
    assert "The recorder does not hold what the database was last marked at (offset 2)" in result.stderr
    assert "2 orders opened" in result.stdout, "what it has is folded in all the same"
    assert lost.order("waits").seq == 1


def test_while_a_process_runs_it_refuses(escrow_with: With, tmp_path: Path, broker: Broker) -> None:
    """If it failed, a worker would decide on an order that is being folded."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    house = House(f"sqlite:///{tmp_path}/restored.db")
    house.clock = datetime.now(UTC)
    house.store.beat("worker-1", "worker", None)
    house.close()
    result = escrow("recover")
    assert (result.exit_code, "Escrow is running: worker-1" in result.stderr) == (4, True)


def test_a_damaged_record_is_told_and_the_rest_is_recovered(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, one bad record would cost all the others."""
    broker.publish(broker.topology.recorder, "Recorded", Wire(content_type="application/vnd.escrow.record+zlib", headers={}, body=b"?"))
    stray = Wire(content_type=STRUCTURED, headers={}, body=b"{")
    broker.publish(broker.topology.events, "shop.Stray", stray)
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    told = json.loads((result := escrow("recover", "-o", "json")).stdout)
    assert result.exit_code == 1
    assert (told["opened"], told["messages"]) == (2, {"duplicate": 5, "quarantined": 1})
    assert [one["what"].partition(":")[0] for one in told["uncertain"]] == [
        "the record at offset 9 is damaged",
        "a message was quarantined",
    ]
    assert lost.order("done").seq == 4


def test_a_record_that_a_participant_published_is_a_message_that_nobody_can_read(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, any participant could write orders and their history into a database that is recovered."""
    forger = House(f"sqlite:///{tmp_path}/forger.db")
    [record] = forger.handle(placed("forged"), context=replace(forger.context, topology=broker.topology, records=True)).outbox[:1]
    forger.close()
    assert record.exchange == broker.topology.recorder
    broker.publish(broker.topology.events, "inventory.Any", Wire(content_type=record.content_type, headers={}, body=record.body))
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    told = json.loads(escrow("recover", "-o", "json").stdout)
    assert (told["opened"], told["messages"]) == (2, {"duplicate": 5, "quarantined": 1})
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.queries.order("forged") is None
    assert house.order("done") == lost.order("done")
    house.close()


def test_an_order_of_a_definition_that_is_not_loaded_is_waited_for(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, the events of an order that was deployed after the backup would be quarantined as bugs of ours."""
    escrow = escrow_with(settings_of(tmp_path, broker, shipped="house_closing"))
    escrow("db", "upgrade")
    result = escrow("recover")
    assert (result.exit_code, "not loaded: order version 1" in result.stderr) == (2, True)
    assert escrow_with(settings_of(tmp_path, broker))("recover").exit_code == 0
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.order("done") == lost.order("done")
    assert house.queries.quarantine_count() == 0
    house.close()


def test_a_recovery_begins_at_the_mark_whoever_restored_the_database(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, a recovery would read a week of events, or begin after what the database lacks."""
    settings = settings_of(tmp_path, broker)
    wiring.mark(settings.model_copy(update={"database_url": lost.url}), lost.engine)
    copied = sqlite3.connect(f"{tmp_path}/restored.db")
    with sqlite3.connect(f"{tmp_path}/lost.db") as source:
        source.backup(copied)
    copied.close()
    source.close()
    broker.live(lost, answer("waits", "reserve_inventory", "InventoryReserved"))
    result = escrow_with(settings)("recover", "-o", "json")
    told = json.loads(result.stdout)
    assert (told["gap"], told["folded"], told["moved"], told["entries"]) == (None, 1, 1, 6)
    assert told["read"] <= 3, "the message at the mark, an event and its record"


def test_a_backup_of_a_restored_database_hides_nothing_from_the_recovery(escrow_with: With, backup: Settings) -> None:
    """If it failed, a backup that is made to be safe, before recovering, would cost all that was accepted since the first one."""
    escrow = escrow_with(backup)
    assert escrow("restore", "--backup", "one").exit_code == 0
    with engine_of(backup) as engine:
        assert wiring.mark(backup, engine) is None
    assert escrow("backup", "create", "--name", "to-be-safe").exit_code == 0
    told = json.loads((result := escrow("recover", "-o", "json")).stdout)
    assert (result.exit_code, told["gap"], told["opened"]) == (0, None, 3)


def test_nor_does_one_of_a_database_that_another_tool_restored(escrow_with: With, tmp_path: Path, backup: Settings) -> None:
    """If it failed, only who restores by `escrow restore` could be safe before recovering."""
    escrow = escrow_with(backup)
    shutil.copyfile(tmp_path / "backups" / "one" / "escrow.sqlite3", tmp_path / "restored.db")
    assert escrow("backup", "create", "--name", "to-be-safe").exit_code == 0
    told = json.loads(escrow("recover", "-o", "json").stdout)
    assert (told["gap"], told["opened"]) == (None, 3)


def test_a_database_that_lacks_what_is_recorded_is_told_from_one_that_has_it(
    escrow_with: With, tmp_path: Path, backup: Settings, lost: House
) -> None:
    """If it failed, a worker that starts on a database restored by another tool, or on an empty one, would move the mark past the rest."""
    whole = backup.model_copy(update={"database_url": lost.url})
    assert not wiring.lacks_what_is_recorded(whole, lost.engine)
    escrow = escrow_with(backup)
    with engine_of(backup) as engine:
        schema.upgrade(str(backup.database_url))
        assert wiring.lacks_what_is_recorded(backup, engine)
    shutil.copyfile(tmp_path / "backups" / "one" / "escrow.sqlite3", tmp_path / "restored.db")
    with engine_of(backup) as engine:
        assert wiring.lacks_what_is_recorded(backup, engine)
        assert escrow("recover").exit_code == 0
        assert not wiring.lacks_what_is_recorded(backup, engine)


def test_a_backup_after_a_recovery_that_was_killed_hides_nothing_from_the_next(
    escrow_with: With, backup: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, a recovery that was killed before its first page would make everything after it unrecoverable."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with monkeypatch.context() as patched:
        patched.setattr(recovery, "standing", _die)
        assert escrow("recover").exit_code == ExitCode.INTERRUPTED
    escrow("backup", "create", "--name", "to-be-safe")
    told = json.loads(escrow("recover", "-o", "json").stdout)
    assert (told["gap"], told["opened"]) == (None, 3)


def _die(*_: object, **_more: object) -> None:
    raise KeyboardInterrupt


def test_no_process_starts_on_a_restored_database_until_it_is_recovered(escrow_with: With, backup: Settings) -> None:
    """If it failed, a worker that is started again by itself would go on with the state of the backup, and move the mark past the rest."""
    escrow = escrow_with(backup)
    restored = escrow("restore", "--backup", "one")
    assert "no process starts before that" in restored.stdout
    with engine_of(backup) as engine:
        with pytest.raises(SettingsError, match="Fix: run `escrow recover`"):
            upkeep.refuse_unfinished(engine)
        assert escrow("recover").exit_code == 0
        upkeep.refuse_unfinished(engine)
        assert wiring.mark(backup, engine) is not None


def test_who_has_no_recorder_restores_and_starts(escrow_with: With, backup: Settings) -> None:
    """If it failed, an installation without a recorder would stand still after a restore; or be told that everything is there."""
    without = backup.model_copy(update={"recorder": False})
    escrow = escrow_with(without)
    assert "the processes may start" in escrow("restore", "--backup", "one").stdout
    with engine_of(without) as engine:
        upkeep.refuse_unfinished(engine)
    result = escrow("recover")
    assert (result.exit_code, "There is no recorder" in result.stderr, "may be lost" in result.stderr) == (1, True, True)


def test_a_shell_that_does_not_name_the_broker_does_not_unlock_what_has_a_recorder(escrow_with: With, backup: Settings) -> None:
    """If it failed, a restore by an operator whose shell has the database's address only would let the workers go on with the backup."""
    escrow_with(backup.model_copy(update={"amqp_url": None}))("restore", "--backup", "one")
    with engine_of(backup) as engine, pytest.raises(SettingsError):
        upkeep.refuse_unfinished(engine)


def test_a_database_whose_mark_was_moved_is_rescued_from_the_first(escrow_with: With, backup: Settings) -> None:
    """If it failed, one worker that ran on a restored database for a minute would cost all that was accepted since the backup."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with engine_of(backup) as engine:
        Guard(engine, None).finish(None)
        wiring.mark(backup, engine)
    assert json.loads(escrow("recover", "-o", "json").stdout)["opened"] == 0
    assert escrow("recover", "--from", "100000").exit_code == ExitCode.USAGE
    assert escrow("recover", "--from", "yesterday").exit_code == ExitCode.USAGE
    told = json.loads((result := escrow("recover", "--from", "first", "-o", "json")).stdout)
    assert (result.exit_code, told["gap"], told["opened"]) == (0, None, 3)


def test_where_to_begin_is_remembered_by_the_run_after_one_that_was_killed(
    escrow_with: With, backup: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, the second run would begin at the mark that the operator knew to be wrong."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with engine_of(backup) as engine:
        Guard(engine, None).finish(None)
        wiring.mark(backup, engine)
    with monkeypatch.context() as patched:
        patched.setattr(recorder, "read", _die)
        assert escrow("recover", "--from", "3").exit_code == ExitCode.INTERRUPTED
    assert json.loads(escrow("recover", "-o", "json").stdout)["opened"] == 3


def test_a_broker_that_is_slow_ends_it_and_the_next_run_recovers(
    escrow_with: With, backup: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, a recovery would read nothing from a broker that works hard, be content, and let the processes start."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with monkeypatch.context() as patched:
        patched.setattr(recorder, "_PATIENCE_S", 1e-9)
        assert escrow("recover").exit_code == ExitCode.UNAVAILABLE
    assert json.loads(escrow("recover", "-o", "json").stdout)["opened"] == 3


def test_who_is_not_let_in_by_the_broker_has_not_recovered(escrow_with: With, backup: Settings) -> None:
    """If it failed, a wrong password would be taken for the want of a recorder, and the processes go on with the backup."""
    escrow_with(backup)("restore", "--backup", "one")
    wrong = re.sub(r":[^:/@]*@", ":wrong@", str(backup.amqp_url))
    result = escrow_with(backup.model_copy(update={"amqp_url": wrong}))("recover")
    assert (result.exit_code, "refuses the user name or password" in result.stderr) == (ExitCode.USAGE, True)
    result = escrow_with(backup.model_copy(update={"amqp_url": None}))("recover")
    assert (result.exit_code, "ESCROW_RECORDER=false" in result.stderr) == (ExitCode.USAGE, True)
    with engine_of(backup) as engine, pytest.raises(SettingsError):
        upkeep.refuse_unfinished(engine)


def test_a_recorder_that_was_deleted_is_told_and_what_there_is_goes_on(escrow_with: With, backup: Settings, broker: Broker) -> None:
    """If it failed, an installation whose broker was lost, too, could not start again; or would be told to make an empty recorder."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    broker.channel.queue_delete(broker.topology.recorder)
    result = escrow("recover")
    assert (result.exit_code, "it was deleted, or never made" in result.stderr, "may be lost" in result.stderr) == (1, True, True)
    with engine_of(backup) as engine:
        upkeep.refuse_unfinished(engine)


def test_a_recorder_made_anew_between_two_runs_is_told_from_the_one_that_was_read(
    escrow_with: With, backup: Settings, broker: Broker, lost: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, the second run would go on in the middle of another stream, read nothing, or lose what the first had laid down."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with monkeypatch.context() as patched:
        patched.setattr(recover, "fold_in", _die)
        assert escrow("recover").exit_code == ExitCode.INTERRUPTED
    broker.channel.queue_delete(broker.topology.recorder)
    declare(amqp_url(), broker.topology, PARTICIPANTS, Retention(1, 10**9))
    broker.live(lost, *(placed(f"anew-{number}") for number in range(9)))
    told = json.loads((result := escrow("recover", "-o", "json")).stdout)
    assert (result.exit_code, told["opened"]) == (1, 3 + 9)
    assert "does not hold what the run before had read" in told["gap"]


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_message_with_properties_that_nobody_can_read_costs_only_itself(
    escrow_with: With, backup: Settings, broker: Broker, lost: House, poison: tuple[bytes, bytes]
) -> None:
    """If it failed, one message of anybody's would make the recovery impossible, run after run, and no process could start."""
    broker.channel.basic_publish(broker.topology.events, "inventory.X", b"poison", RawProperties(*poison), mandatory=True)
    broker.live(lost, placed("last"))
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    told = json.loads((result := escrow("recover", "-o", "json")).stdout)
    assert (result.exit_code, told["opened"], told["messages"]["quarantined"]) == (1, 4, 1)


def test_the_window_and_what_is_uncertain_outlive_a_run_that_was_killed(
    escrow_with: With, backup: Settings, broker: Broker, lost: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it failed, the second run would tell a window that begins too late, and be silent of what a human should look at."""
    stray = Wire(content_type=STRUCTURED, headers={}, body=b"{")
    broker.publish(broker.topology.events, "shop.Stray", stray)
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    with engine_of(backup) as engine:
        before = recovery.standing(engine)
        recovery.keep(engine, recovery.MARK, {"offset": 2, "sha256": "0" * 64})
    with monkeypatch.context() as patched:
        patched.setattr(Guard, "finish", _die)
        assert escrow("recover").exit_code == ExitCode.INTERRUPTED
    broker.live(lost, placed("later"))
    told = json.loads(escrow("recover", "-o", "json").stdout)
    assert before.last_entry_at is not None
    assert told["window"]["from"] == format_time(before.last_entry_at)
    assert "last marked at (offset 2)" in told["gap"]
    assert [one["what"].partition(":")[0] for one in told["uncertain"]] == ["a message was quarantined"]


def test_a_ledger_that_cannot_be_read_is_told_before_anything_is_recovered(escrow_with: With, backup: Settings) -> None:
    """If it failed, a mistyped address would cost the report of a recovery, which no second run can give."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    result = escrow("recover", "--ledger", "http://127.0.0.1:1")
    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)
    assert json.loads(escrow("recover", "-o", "json").stdout)["opened"] == 3


@pytest.mark.parametrize("fails", ["ledger", "verification"])
@pytest.mark.parametrize("output", ["table", "json"])
def test_the_report_is_told_whatever_fails_after_the_recovery(escrow_with: With, backup: Settings, fails: str, output: str) -> None:
    """If it failed, a participant that stops, or a machine that is too small to verify, would cost the report of a recovery."""
    escrow = escrow_with(backup)
    escrow("restore", "--backup", "one")
    row = {
        "command_id": "c",
        "command_type": "ReserveInventory",
        "order_id": "lost-1",
        "state": "done",
        "answered_at": "2026-11-21T12:30:00.000000Z",
    }
    pages: list[dict[str, Any]] = [{"participant": "inventory", "rows": [row]}]
    if fails == "verification":
        pages.append({"participant": "inventory", "rows": []})
        escrow.session.verify = _too_small
    with door(pages) as url:
        result = escrow("recover", "--ledger", url, "-o", output)
    assert result.exit_code not in (ExitCode.OK, ExitCode.FINDINGS)
    if output == "json":
        told = json.loads(result.stdout)
        assert (told["opened"], told["findings"]) == (3, None)
    else:
        assert "3 orders opened" in result.stdout
        assert "it was not verified" in result.stderr
    with engine_of(backup) as engine:
        upkeep.refuse_unfinished(engine)


def _too_small(*_: object, **_more: object) -> Report:
    raise TemporaryError("no memory")
