"""The composition root: which definitions a start registers, and who opens on an event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.bus.memory import MemoryBroker, MemoryBus
from orchestrator.config import Settings
from orchestrator.contract import Topology, Wire
from orchestrator.errors import DefinitionError, RequestError, SettingsError
from orchestrator.files import shipped_definition
from orchestrator.loading import load_definitions, participants_of
from orchestrator.saga.source import FILE_BYTES_MAX
from orchestrator.store import schema
from orchestrator.wiring import Process, make_process, new_token, open_database
from tests.support.processes import eventually

ORDER = Path(shipped_definition("order").file).read_text()


def test_the_shipped_definitions_open_and_name_their_participants() -> None:
    """If it failed, Escrow would not know its own definition."""
    registrations = load_definitions(None)
    assert [(r.name, r.is_opener) for r in registrations] == [("order", True)]
    assert participants_of(registrations) == {"inventory", "payment", "invoice"}


def test_one_in_the_directory_replaces_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    """If it failed, nobody could change the shipped definition."""
    (tmp_path / "mine.yaml").write_text(ORDER.replace("version: 1", "version: 7"))
    assert [(r.name, r.version, r.is_opener) for r in load_definitions(tmp_path)] == [("order", 7, True)]


def test_the_shipped_one_steps_back_before_one_that_opens_on_the_same_event(tmp_path: Path) -> None:
    """If it failed, the demo's orders would be opened twice, or start would be refused."""
    (tmp_path / "demo.yaml").write_text(ORDER.replace("definition: order", "definition: order_demo"))
    assert {r.name: r.is_opener for r in load_definitions(tmp_path)} == {"order": False, "order_demo": True}


def test_two_definitions_for_one_event_are_refused_naming_both_files(tmp_path: Path) -> None:
    """If it failed, which definition an order gets would be chance (R30)."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(ORDER.replace("definition: order", f"definition: {name}"))
    with pytest.raises(SettingsError, match=r"one\.yaml and .*two\.yaml"):
        load_definitions(tmp_path)


def test_every_version_in_the_directory_is_registered_and_the_highest_opens(tmp_path: Path) -> None:
    """If it failed, which of two files counts would be a matter of their names, and the other be dropped in silence (R30)."""
    for file, version in (("a", 9), ("b", 8)):
        (tmp_path / f"{file}.yaml").write_text(ORDER.replace("version: 1", f"version: {version}"))
    assert {(r.name, r.version): r.is_opener for r in load_definitions(tmp_path)} == {("order", 9): True, ("order", 8): False}


def test_one_version_given_twice_is_refused_naming_both_files(tmp_path: Path) -> None:
    """If it failed, one of two files that both mean to be the version would be dropped in silence."""
    (tmp_path / "one.yaml").write_text(ORDER)
    (tmp_path / "two.yml").write_text(ORDER.replace("patience: 30m", "patience: 31m"))
    with pytest.raises(SettingsError, match=r"one\.yaml and .*two\.yml both are order version 1"):
        load_definitions(tmp_path)


@pytest.mark.parametrize("event", ["PaymentTaken", "InventoryRejected", "PaymentRefunded", "OrderCancelRequested"])
def test_an_event_that_opens_one_and_is_awaited_by_another_is_refused(tmp_path: Path, event: str) -> None:
    """If it failed, the answer of a participant would be taken for an opening of an order that exists, and quarantined."""
    other = ORDER.replace(event, "SomethingElse").replace("definition: order", "definition: other").replace("OrderPlaced", event)
    (tmp_path / "other.yaml").write_text(other)
    with pytest.raises(SettingsError, match=rf"other\.yaml opens on {event}, which .*order\.yaml awaits"):
        load_definitions(tmp_path)


@contextmanager
def running(directory: Path, *, role: str, consume: bool) -> Iterator[tuple[Process, MemoryBus, MemoryBroker]]:
    """A process on a bus in memory."""
    settings = Settings(database_url=f"sqlite:///{directory}/escrow.db")
    schema.upgrade(str(settings.database_url))
    registrations = load_definitions(None)
    broker = MemoryBroker(Topology(settings.namespace))
    bus = MemoryBus(broker, participants_of(registrations))
    process = make_process(settings, open_database(settings), registrations, bus, role=role, consume=consume)
    process.start()
    try:
        yield process, bus, broker
    finally:
        process.stop()
        broker.close()


def test_a_worker_that_cannot_consume_is_not_ready(tmp_path: Path) -> None:
    """If it failed, a worker that takes no event would look healthy for ever (section 10: both links)."""
    with running(tmp_path, role="worker", consume=True) as (process, bus, _):
        eventually(lambda: process.services.readiness().missing == [])
        bus.pause()
        eventually(lambda: process.services.readiness().missing == ["broker"])
        bus.resume()
        eventually(lambda: process.services.readiness().missing == [])


def test_the_api_is_ready_without_the_broker_and_shows_it(tmp_path: Path) -> None:
    """If it failed, a load balancer would turn orders away that would have been taken, while the broker is away."""
    with running(tmp_path, role="serve", consume=False) as (process, _, broker):
        eventually(lambda: process.services.readiness().checks == {"database": True, "broker": True, "ticking": True})
        broker.close()
        eventually(lambda: process.services.readiness().checks == {"database": True, "broker": False, "ticking": True})
        assert process.services.readiness().missing == []


def test_an_open_quarantine_is_a_level(tmp_path: Path) -> None:
    """If it failed, nobody would see after a restart that messages wait for a decision: the counter begins anew."""
    with running(tmp_path, role="worker", consume=True) as (process, _, broker):
        assert "escrow_quarantine_open 0.0" in process.metrics.render()[0].decode()
        broker.route("escrow.events", "inventory.Nonsense", Wire(content_type="application/json", headers={}, body=b"{"))
        eventually(lambda: "escrow_quarantine_open 1.0" in process.metrics.render()[0].decode())


def test_a_definition_that_fails_its_checks_does_not_start(tmp_path: Path) -> None:
    """If it failed, orders would run on a definition that cannot end (R31)."""
    (tmp_path / "bad.yaml").write_text(ORDER.replace("patience: 30m", "patience: 1s").replace("definition: order", "definition: bad"))
    with pytest.raises(DefinitionError, match="patience"):
        load_definitions(tmp_path)


def test_a_definition_that_cannot_be_read_is_refused_naming_its_file(tmp_path: Path) -> None:
    """If it failed, a file in another encoding, or one that is no definition at all, would end the start with a traceback."""
    (tmp_path / "latin.yaml").write_bytes(b"definition: caf\xe9")
    with pytest.raises(RequestError, match=r"latin\.yaml is not text in UTF-8"):
        load_definitions(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(RequestError, match=r"latin\.yaml has more than"):
        load_definitions(tmp_path)


def test_a_shipped_definition_is_found_by_its_name_and_no_other() -> None:
    """If it failed, a typing error would be a traceback, or a name stand for another definition in tests than at the start."""
    assert shipped_definition("order").name == "order"
    with pytest.raises(RequestError, match="No definition ordre comes with Escrow"):
        shipped_definition("ordre")


def test_tokens_are_long_and_differ() -> None:
    """If it failed, a token could be guessed."""
    assert len(new_token()) > 40
    assert new_token() != new_token()
