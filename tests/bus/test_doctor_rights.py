"""`escrow doctor` for broker users who may not do everything: the right check fails, and what it says to do helps."""

from __future__ import annotations

import queue
import re
import shlex
from collections.abc import Iterator
from itertools import count

import pika
import pytest

from orchestrator.bus.doctor import Check, examine, needed
from orchestrator.bus.rabbitmq import RabbitBus
from orchestrator.bus.topology import declare, delete
from orchestrator.contract import Topology
from tests.bus.conftest import LIMIT_S, PARTICIPANTS, Mailbox, maker
from tests.support.rabbitmq import RabbitServer
from tests.support.services import private_rabbitmq

pytestmark = [pytest.mark.real, pytest.mark.slow]

TOPOLOGY = Topology("shop-1")
RIGHTS = needed(TOPOLOGY)
NOTHING = "^$"

_numbers = count(1)


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    """A broker on which users can be made."""
    with private_rabbitmq() as server:
        yield server


@pytest.fixture
def declared(broker: RabbitServer) -> Iterator[RabbitServer]:
    """The broker with everything declared."""
    declare(broker.url, TOPOLOGY, PARTICIPANTS)
    yield broker
    delete(broker.url, TOPOLOGY, PARTICIPANTS)


def a_user(broker: RabbitServer, *, configure: str = RIGHTS.configure, write: str = RIGHTS.write, read: str = RIGHTS.read) -> str:
    """The URL of a new user who has what is needed, but for what is given."""
    return broker.add_user(f"u{next(_numbers)}", (configure, write, read))


def failed(url: str) -> dict[str, Check]:
    """The checks that fail for whoever comes in by this URL."""
    checks = examine(url, TOPOLOGY, PARTICIPANTS)
    assert all(bool(check.fix) is not check.ok for check in checks), "a fix for what is wrong, and only for that"
    return {check.name: check for check in checks if not check.ok}


def carry_out(broker: RabbitServer, fix: str) -> None:
    """Run the `rabbitmqctl` commands that a fix tells to run."""
    commands = [shlex.split(text) for text in re.findall(r"rabbitmqctl .*?(?=; | \(it |$)", fix)]
    assert commands, fix
    for _, *words in commands:
        broker.ctl(*words)


@pytest.mark.parametrize("rights", [(".*", ".*", ".*"), (RIGHTS.configure, RIGHTS.write, RIGHTS.read)], ids=["everything", "the least"])
def test_whoever_may_do_what_is_needed_passes(declared: RabbitServer, rights: tuple[str, str, str]) -> None:
    """If it failed, a sound installation would be called sick, or the least rights would not be enough."""
    url = declared.add_user(f"u{next(_numbers)}", rights)

    assert failed(url) == {}


def test_the_least_rights_suffice_to_declare(broker: RabbitServer) -> None:
    """If it failed, the rights that the doctor tells to give would not let a worker make the topology."""
    url = a_user(broker)
    declare(url, TOPOLOGY, PARTICIPANTS)

    assert failed(url) == {}

    delete(broker.url, TOPOLOGY, PARTICIPANTS)


def test_not_configuring_what_is_there_is_no_fault(declared: RabbitServer) -> None:
    """If it failed, a user who works well on a topology that others declare would be called sick; or what cannot be seen be called seen."""
    checks = examine(
        a_user(declared, configure=NOTHING, write=r"^shop-1\.(commands|announcements)$", read=r"^shop-1\.inbox$"), TOPOLOGY, PARTICIPANTS
    )

    assert [check for check in checks if not check.ok] == []
    assert {check.detail.partition(",")[0] for check in checks if check.name.startswith(("queue", "exchange", "binding"))} == {
        "there; its arguments cannot be compared",
        "cannot be seen",
    }


def test_not_configuring_what_is_missing_is_said_with_the_rights_to_give(broker: RabbitServer) -> None:
    """If it failed, the doctor would say to start a worker, which cannot declare either."""
    url = a_user(broker, configure=NOTHING)
    found = failed(url)

    assert {f"queue {TOPOLOGY.inbox}", f"exchange {TOPOLOGY.commands}"} <= set(found)
    assert "NOT_FOUND" in found[f"queue {TOPOLOGY.inbox}"].detail
    assert all("then start a worker" in found[name].fix for name in (f"queue {TOPOLOGY.inbox}", f"exchange {TOPOLOGY.commands}"))
    assert f"{TOPOLOGY.events}," in examine(broker.url, TOPOLOGY, PARTICIPANTS)[5].detail, "asking made it"

    carry_out(broker, found[f"queue {TOPOLOGY.inbox}"].fix)
    declare(url, TOPOLOGY, PARTICIPANTS)

    assert failed(url) == {}

    delete(broker.url, TOPOLOGY, PARTICIPANTS)


@pytest.mark.parametrize("name", ["commands", "announcements"])
def test_a_user_who_may_not_send(declared: RabbitServer, name: str) -> None:
    """If it failed, a worker whose commands never leave would pass."""
    others = {"commands": "announcements", "announcements": "commands"}[name]
    url = a_user(declared, write=rf"^shop-1\.(inbox|commands\..+|{others})$")
    found = failed(url)

    assert list(found) == [f"permission to publish to shop-1.{name}"]
    (check,) = found.values()
    assert "ACCESS_REFUSED" in check.detail
    assert f"shop-1.{name}" in check.detail

    carry_out(declared, check.fix)

    assert failed(url) == {}


def test_a_user_who_may_not_read_the_inbox(declared: RabbitServer) -> None:
    """If it failed, a worker that never hears an event would pass."""
    url = a_user(declared, read=r"^shop-1\.(events|commands)$")
    found = failed(url)

    assert list(found) == ["permission to consume shop-1.inbox"]
    (check,) = found.values()
    assert "ACCESS_REFUSED" in check.detail

    carry_out(declared, check.fix)

    assert failed(url) == {}


def test_a_user_who_may_declare_but_not_bind(declared: RabbitServer) -> None:
    """If it failed, a worker would declare an inbox that no event reaches, and nobody would be told."""
    url = a_user(declared, read=r"^shop-1\.inbox$")
    found = failed(url)

    assert {name.split()[0] for name in found} == {"binding"}
    assert len(found) == 1 + len(PARTICIPANTS)

    carry_out(declared, next(iter(found.values())).fix)

    assert failed(url) == {}


def test_a_wrong_password(declared: RabbitServer) -> None:
    """If it failed, a mistyped password would look like a broker that is down; or the password would be shown."""
    declared.add_user("ana", (RIGHTS.configure, RIGHTS.write, RIGHTS.read))
    (check,) = examine(declared.url_of("ana", password="pa55word"), TOPOLOGY, PARTICIPANTS)

    assert (check.name, check.ok) == ("broker login", False)
    assert "refuses the user name or password" in check.detail
    assert "ESCROW_AMQP_URL" in check.fix
    assert "change_password" in check.fix
    assert "pa55word" not in check.detail + check.fix

    declared.ctl("change_password", "ana", "pa55word")

    assert failed(declared.url_of("ana", password="pa55word")) == {}


def test_an_unknown_virtual_host(broker: RabbitServer) -> None:
    """If it failed, whoever mistypes the path of the URL would not be told which part is wrong."""
    broker.add_user("ben", ())
    url = broker.url_of("ben", vhost="no where")
    (check,) = examine(url, TOPOLOGY, PARTICIPANTS)

    assert (check.name, check.ok) == ("broker login", False)
    assert "vhost no where not found" in check.detail
    assert "path of ESCROW_AMQP_URL" in check.fix

    carry_out(broker, check.fix)
    declare(url, TOPOLOGY, PARTICIPANTS)

    assert failed(url) == {}


def test_a_virtual_host_that_does_not_let_the_user_in(declared: RabbitServer) -> None:
    """If it failed, a user without any permission would be told that the virtual host is not there."""
    url = declared.add_user("eve", ())
    (check,) = examine(url, TOPOLOGY, PARTICIPANTS)

    assert (check.name, check.ok) == ("broker login", False)
    assert "refused for user 'eve'" in check.detail

    carry_out(declared, check.fix)

    assert failed(url) == {}


def test_a_queue_with_other_arguments(declared: RabbitServer) -> None:
    """If it failed, a classic queue, which loses messages with its node, would pass; or what the doctor says to do would not mend it."""
    url, name = a_user(declared), TOPOLOGY.command_queue("payment")
    _replace_by_a_classic_queue(declared, name)
    found = failed(url)

    assert list(found) == [f"queue {name}"]
    assert "inequivalent arg" in found[f"queue {name}"].detail
    assert "drain and delete it" in found[f"queue {name}"].fix

    declared.ctl("delete_queue", name)
    declare(url, TOPOLOGY, PARTICIPANTS)

    assert failed(url) == {}


def test_a_missing_inbox(declared: RabbitServer) -> None:
    """If it failed, the doctor would tell to give a permission that the user has; or its advice would not bring the queue back."""
    url = a_user(declared)
    declared.ctl("delete_queue", TOPOLOGY.inbox)
    found = failed(url)

    assert list(found) == [
        f"queue {TOPOLOGY.inbox}",
        f"binding {TOPOLOGY.events} → {TOPOLOGY.inbox} (#)",
        f"permission to consume {TOPOLOGY.inbox}",
    ]
    assert all(check.fix.startswith("start a worker") for check in found.values())

    declare(url, TOPOLOGY, PARTICIPANTS)

    assert failed(url) == {}


def test_a_bus_that_may_not_send_says_so_and_loses_nothing_in_silence(declared: RabbitServer, errors: queue.Queue[str]) -> None:
    """If it failed, a worker whose commands are refused would look healthy, or count them as sent."""
    url = a_user(declared, write=r"^shop-1\.(inbox|commands\..+|announcements)$")
    bus, mailbox = RabbitBus(url, TOPOLOGY, PARTICIPANTS, jitter=lambda: 0.5), Mailbox()
    try:
        bus.start(mailbox, consume=True)
        mailbox.link(consuming=True, publishing=True)
        bus.publish([maker(TOPOLOGY)("a")])

        assert mailbox.outcomes(1) == {"a": "lost"}
        mailbox.link(consuming=True, publishing=False)
        said = errors.get(timeout=LIMIT_S)
    finally:
        bus.close()

    assert "403 ACCESS_REFUSED" in said
    assert "shop-1.commands" in said
    assert "Fix: give the user that permission: `escrow doctor` prints the command" in said


def _replace_by_a_classic_queue(broker: RabbitServer, name: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    channel = connection.channel()
    channel.queue_delete(name)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, TOPOLOGY.commands, "payment")
    connection.close()
