"""What every bus must do: run on the real broker and on the one in the process."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest

from orchestrator.app.ports import Bus, OutboxMessage
from orchestrator.contract import Wire
from tests.bus.conftest import Mailbox, World

Maker = Callable[..., OutboxMessage]


def _started(world: World, *, consume: bool = True, prefetch: int = 1000) -> tuple[Bus, Mailbox]:
    bus, mailbox = world.bus(prefetch=prefetch), Mailbox()
    bus.start(mailbox, consume=consume)
    mailbox.link(consuming=consume, publishing=True)
    return bus, mailbox


def _event(body: bytes) -> Wire:
    return Wire(content_type="application/cloudevents+json", headers={}, body=body)


def test_publish_is_confirmed_and_arrives(world: World, message: Maker) -> None:
    """Broken: commands would be forgotten without being with the participant, or never be forgotten."""
    bus, mailbox = _started(world, consume=False)
    bus.publish([message("a"), message("b")])

    assert mailbox.outcomes(2) == {"a": "confirmed", "b": "confirmed"}
    assert world.commands("inventory", 2) == [b"a", b"b"]


def test_unroutable_command_is_returned(world: World, message: Maker) -> None:
    """Broken: a command to a participant without a queue would vanish and count as sent; its neighbours must not be affected."""
    bus, mailbox = _started(world, consume=False)
    bus.publish([message("a"), message("lost", routing_key="nobody"), message("b")])

    assert mailbox.outcomes(3) == {"a": "confirmed", "lost": "returned", "b": "confirmed"}


def test_announcement_without_listener_is_confirmed(world: World, message: Maker) -> None:
    """Broken: announcements nobody listens to would be sent again for ever."""
    bus, mailbox = _started(world, consume=False)
    bus.publish([message("a", exchange=world.topology.announcements, routing_key="OrderCompleted", mandatory=False)])

    assert mailbox.outcomes(1) == {"a": "confirmed"}


def test_acked_delivery_is_gone(world: World) -> None:
    """Broken: handled events would come again after each reconnect, or be lost unhandled."""
    bus, mailbox = _started(world)
    for body in (b"1", b"2", b"3"):
        world.inject(_event(body))
    deliveries = mailbox.take(3)
    bus.ack(deliveries[:2])
    bus.pause()
    mailbox.link(consuming=False)
    bus.resume()
    mailbox.link(consuming=True)

    assert [(again.wire.body, again.redelivered) for again in mailbox.take(1)] == [(b"3", True)]


def test_unacked_deliveries_come_again_in_order(world: World) -> None:
    """Broken: events taken by a worker whose database is away would be lost, or overtake each other.

    Where a message that came meanwhile stands among them, and whether it counts as delivered before, is not promised: RabbitMQ notices the
    end of a consumer on its own time.
    """
    bus, mailbox = _started(world)
    for body in (b"1", b"2", b"3"):
        world.inject(_event(body))
    first = mailbox.take(3)
    bus.pause()
    mailbox.link(consuming=False)
    bus.pause()
    world.inject(_event(b"4"))
    bus.resume()
    mailbox.link(consuming=True)
    again = mailbox.take(4)

    assert [delivery.redelivered for delivery in first] == [False, False, False]
    taken = [delivery for delivery in again if delivery.wire.body != b"4"]
    assert [(delivery.wire.body, delivery.redelivered) for delivery in taken] == [(b"1", True), (b"2", True), (b"3", True)]


def test_each_link_has_its_epoch(world: World) -> None:
    """Broken: acks could not be told apart between links, and a tag of an old one would ack an unhandled message of the new one."""
    bus, mailbox = _started(world)
    world.inject(_event(b"1"))
    (old,) = mailbox.take(1)
    bus.pause()
    bus.resume()
    mailbox.link(consuming=False)
    mailbox.link(consuming=True)
    (new,) = mailbox.take(1)

    assert new.link_epoch > old.link_epoch


def test_ack_of_an_older_link_is_dropped(world: World) -> None:
    """Broken: an ack that comes after a reconnect would take an unhandled message away, or break the new link."""
    bus, mailbox = _started(world)
    world.inject(_event(b"1"))
    old = mailbox.take(1)
    bus.pause()
    bus.resume()
    mailbox.take(1)
    bus.ack(old)
    bus.pause()
    bus.resume()
    (again,) = mailbox.take(1)

    assert again.wire.body == b"1"


def test_large_batch_goes_through_the_window(world: World, message: Maker) -> None:
    """Broken: a batch larger than the confirm window would stall, be reordered or be settled twice."""
    bus, mailbox = _started(world, consume=False)
    names = [f"{number:04}" for number in range(2500)]
    bus.publish([message(name) for name in names[:1800]])
    bus.publish([message(name) for name in names[1800:]])

    assert mailbox.outcomes(2500) == dict.fromkeys(names, "confirmed")
    assert world.commands("inventory", 2500) == [name.encode() for name in names]


def test_content_passes_as_it_is(world: World) -> None:
    """Broken: a message that is no CloudEvent could not be quarantined as it came, or would stop the link."""
    _, mailbox = _started(world)
    strange = Wire(content_type="", headers={"ce-id": "é", "n": 7, "nested": {"a": [1, True, None]}}, body=b"\xff\x00{")
    world.inject(strange)

    assert mailbox.take(1)[0].wire == strange


def test_prefetch_bounds_what_is_unacked(world: World) -> None:
    """Broken: one worker would take the whole inbox into its memory."""
    bus, mailbox = _started(world, prefetch=2)
    for body in (b"1", b"2", b"3"):
        world.inject(_event(body))
    given = mailbox.take(2)
    with pytest.raises(queue.Empty):
        mailbox.deliveries.get(timeout=0.2)
    bus.ack(given)

    assert mailbox.take(1)[0].wire.body == b"3"


def test_inbox_depth_counts_what_is_ready(world: World) -> None:
    """Broken: a worker could not see that replies still queue, and would take their absence for silence (R9)."""
    bus, mailbox = _started(world)
    bus.pause()
    mailbox.link(consuming=False)
    for body in (b"1", b"2"):
        world.inject(_event(body))

    assert bus.inbox_depth() == 2

    bus.resume()

    assert mailbox.link(consuming=True).inbox_depth == 2


def test_publishing_goes_on_while_paused(world: World, message: Maker) -> None:
    """Broken: a pause of consuming would hold back commands that are committed already."""
    bus, mailbox = _started(world)
    bus.pause()
    mailbox.link(consuming=False, publishing=True)
    bus.publish([message("a")])

    assert mailbox.outcomes(1) == {"a": "confirmed"}


def test_close_settles_everything(world: World, message: Maker) -> None:
    """Broken: a worker that stops would leave committed commands in doubt, or hang."""
    bus, mailbox = _started(world)
    bus.publish([message(str(number)) for number in range(300)])
    bus.close()
    bus.close()

    assert set(mailbox.outcomes(300).values()) == {"confirmed"}
    mailbox.link(consuming=False, publishing=False)

    bus.publish([message("late")])

    assert mailbox.outcomes(1) == {"late": "lost"}
    assert bus.inbox_depth() is None


def test_close_returns_unacked_deliveries(world: World) -> None:
    """Broken: events in the hands of a worker that stops would wait for its death to be noticed."""
    bus, mailbox = _started(world)
    world.inject(_event(b"1"))
    mailbox.take(1)
    bus.close()
    _, successor = _started(world)

    assert [(again.wire.body, again.redelivered) for again in successor.take(1)] == [(b"1", True)]
