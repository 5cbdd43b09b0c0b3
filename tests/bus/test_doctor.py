"""`escrow doctor` on the broker: finds what is wrong, and disturbs nothing."""

from __future__ import annotations

from orchestrator.bus.doctor import Check, examine
from orchestrator.contract import Topology, Wire
from tests.bus.conftest import PARTICIPANTS, RabbitWorld
from tests.support.processes import free_port


def _failed(checks: list[Check]) -> dict[str, Check]:
    assert all(bool(check.fix) is not check.ok for check in checks), "a fix for what is wrong, and only for that"
    return {check.name: check for check in checks if not check.ok}


def test_healthy_broker_passes(rabbit: RabbitWorld) -> None:
    """Broken: the doctor would call a sound installation sick, or examine only half of it."""
    checks = examine(rabbit.url, rabbit.topology, PARTICIPANTS)

    assert _failed(checks) == {}
    assert {"broker reachable", "broker login", "broker version", "frame size", "heartbeat"} <= {check.name for check in checks}
    assert sum(check.name.startswith("binding") for check in checks) == 1 + len(PARTICIPANTS)


def test_examination_disturbs_nothing(rabbit: RabbitWorld) -> None:
    """Broken: running the doctor in production would take or add messages, or count as a failed delivery."""
    rabbit.inject(Wire(content_type="", headers={}, body=b"1"))
    examine(rabbit.url, rabbit.topology, PARTICIPANTS)
    method, properties, body = rabbit.channel.basic_get(rabbit.topology.inbox, auto_ack=True)

    assert (body, method.redelivered, method.message_count) == (b"1", False, 0)
    assert (properties.headers or {}).get("x-delivery-count", 0) == 0


def test_missing_queue_is_reported_and_not_made(rabbit: RabbitWorld) -> None:
    """Broken: the doctor would hide what it should report."""
    name = rabbit.topology.command_queue("payment")
    rabbit.connection.channel().queue_delete(name)
    failed = _failed(examine(rabbit.url, rabbit.topology, PARTICIPANTS))

    assert f"queue {name}" in failed
    assert len(failed) == 2
    assert f"queue {name}" in _failed(examine(rabbit.url, rabbit.topology, PARTICIPANTS))


def test_before_the_first_worker_one_line_says_what_to_do(rabbit: RabbitWorld) -> None:
    """Broken: a newcomer would read twenty faults, and look for twenty causes."""
    empty = Topology(f"{rabbit.topology.namespace}.none")
    failed = _failed(examine(rabbit.url, empty, PARTICIPANTS))

    assert list(failed) == ["topology"]
    assert failed["topology"].fix.startswith("start a worker")
    assert {empty.inbox, empty.events, empty.command_queue("payment")} <= {*failed["topology"].detail.removeprefix("missing: ").split(", ")}


def test_other_arguments_are_reported(rabbit: RabbitWorld) -> None:
    """Broken: a classic inbox, which loses messages at a power cut, would pass."""
    channel = rabbit.connection.channel()
    channel.queue_delete(rabbit.topology.inbox)
    channel.queue_declare(rabbit.topology.inbox, durable=True)
    failed = _failed(examine(rabbit.url, rabbit.topology, PARTICIPANTS))

    assert list(failed) == [f"queue {rabbit.topology.inbox}"]
    assert "inequivalent arg" in failed[f"queue {rabbit.topology.inbox}"].detail


def test_unreachable_broker_is_one_finding(rabbit: RabbitWorld) -> None:
    """Broken: the doctor would end in a traceback exactly when it is needed."""
    (check,) = examine(f"amqp://guest:guest@127.0.0.1:{free_port()}/", rabbit.topology, PARTICIPANTS)

    assert (check.name, check.ok) == ("broker reachable", False)


def test_refused_login_is_one_finding(rabbit: RabbitWorld) -> None:
    """Broken: a wrong password would look like a broker that is down."""
    url = rabbit.url.replace("guest:guest", "guest:wrong")
    if url == rabbit.url:
        url = rabbit.url.replace("://", "://nobody:wrong@", 1)
    (check,) = examine(url, rabbit.topology, PARTICIPANTS)

    assert (check.name, check.ok) == ("broker login", False)
