"""The circuit along the line (R8, R29): what a silent participant is spared, and what it gets when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from orchestrator.app.line import Line
from orchestrator.app.ports import CommandQueue
from orchestrator.app.work import Work
from orchestrator.contract import RESYNC_REQUESTED, Envelope, Topology, Wire, attempt_message_id, command_id, decode, encode
from orchestrator.saga.inputs import SentLate
from orchestrator.saga.order import Ask
from orchestrator.store.participants import AwaitedReplay, Health, awaited_replay
from tests.app.house import answer, placed
from tests.app.running import PARTICIPANTS, Running, WatchedBus
from tests.support.processes import eventually

INVENTORY = Topology().command_queue("inventory")
ORDERS = [f"o{number:02}" for number in range(12)]


def health(running: Running, name: str = "inventory") -> Health:
    [found] = [one for one in running.house.queries.participants() if one.name == name]
    return found


def settle(running: Running) -> None:
    """Wait until the line has done all that it was given: what is in the inbox, and a tick."""
    eventually(lambda: running.broker.depth(Topology().inbox) == 0)
    finish(running.line)


def finish(line: Line) -> None:
    """Wait until a line has done with what it was given."""
    # The second is taken only when the batch of the first, and the tick that came with it, are done with.
    for _ in range(2):
        line.submit(Work(order_id="nobody", input=SentLate(command_id="none"))).result(10)


def pass_s(running: Running, seconds: float) -> None:
    """Let time pass, and a tick come."""
    settle(running)
    running.house.clock += timedelta(seconds=seconds)
    running.line.tick()
    settle(running)


def taken(running: Running, queue: str = INVENTORY) -> list[Envelope]:
    """Take every command out of a queue."""
    found = []
    while (held := running.broker.take(queue)) is not None:
        found.append(decode(held.wire))
    return found


def say(running: Running, order_id: str, step: str, name: str) -> None:
    """A participant answers."""
    work = answer(order_id, step, name)
    assert work.delivery is not None
    wire: Wire = work.delivery.wire
    running.broker.route(Topology().events, f"inventory.{name}", wire)


def fall_silent(running: Running) -> None:
    """Inventory took twelve commands and answers none; the database knows."""
    pass_s(running, 0)
    running.house.clock += timedelta(seconds=1)
    running.place(*ORDERS)
    eventually(lambda: running.broker.depth(INVENTORY) == len(ORDERS))
    eventually(lambda: running.house.queries.outbox_size() == 0)
    pass_s(running, 31)
    for _ in range(12):
        if health(running).state != "silent":
            pass_s(running, 0.5)
    eventually(lambda: health(running).state == "silent")
    pass_s(running, 0)
    assert running.metrics.alerts.labels(name="participant_silent")._value.get() == 1
    taken(running)


def ask_of(running: Running, order_id: str) -> Ask:
    return running.house.order(order_id).asks["reserve_inventory.0.1"]


def attempts(running: Running) -> dict[str, int]:
    return {order_id: ask_of(running, order_id).attempts for order_id in ORDERS}


def open_more(running: Running, number: int) -> list[str]:
    more = [f"n{place:02}" for place in range(number)]
    running.place(*more)
    eventually(lambda: running.state(more[-1]) is not None)
    return more


def test_what_a_silent_participant_is_asked_is_kept_back(running: Running) -> None:
    """Otherwise its queue would fill for as long as it is away, with attempts that are spent on nobody."""
    fall_silent(running)
    more = open_more(running, 20)
    for _ in range(10):
        pass_s(running, 20)
    # The second attempt was due before the silence was known of; it is the one that waits.
    assert set(attempts(running).values()) <= {1, 2}
    assert {ask_of(running, order_id).attempts for order_id in more} == {1}
    assert {running.state(order_id) for order_id in [*ORDERS, *more]} == {"reserving_inventory"}
    assert 5 <= len(taken(running)) <= 11
    assert health(running).held >= 20


def test_patience_runs_while_a_participant_is_silent(running: Running) -> None:
    """Otherwise an outage would hold up orders for longer than was promised."""
    fall_silent(running)
    pass_s(running, 31 * 60)
    eventually(lambda: all(running.state(order_id) == "undoing_reserve_inventory" for order_id in ORDERS))
    assert running.house.queries.orders(status="undoing", limit=50)[0]
    assert {command.type for command in taken(running)} <= {"ReserveInventory", "ReleaseInventory"}
    # The undos wait, too, behind the commands that they undo.
    eventually(lambda: health(running).held >= len(ORDERS))


def test_the_first_word_opens_the_tap_and_all_is_done(running: Running) -> None:
    """Otherwise what an outage held up would be lost, be sent at once, or spend an attempt more."""
    fall_silent(running)
    more = open_more(running, 100)
    pass_s(running, 1)
    say(running, "o00", "reserve_inventory", "InventoryReserved")
    eventually(lambda: health(running).state == "recovering")
    answered = {"o00"}
    sent: list[int] = []
    # Those whose second attempt had gone are asked again a deadline later.
    while len(answered) < len(ORDERS) + len(more) and len(sent) < 100:
        pass_s(running, 0.5)
        commands = taken(running)
        sent.append(len(commands))
        for command in commands:
            if command.subject not in answered:
                answered.add(command.subject)
                say(running, command.subject, "reserve_inventory", "InventoryReserved")
    pass_s(running, 1)
    assert answered == {*ORDERS, *more}
    # What the tap gives by then: ten at first, and ten a second, doubled every second.
    assert all(sum(sent[: place + 1]) <= 10 + 20 * 2 ** ((place + 1) / 2) for place in range(len(sent))), sent
    assert {running.state(order_id) for order_id in answered} == {"taking_payment"}
    # The second attempt was due before the silence was known of.
    assert set(attempts(running).values()) <= {1, 2}
    assert (health(running).state, health(running).held) == ("healthy", 0)


def test_one_that_is_slower_than_the_pace_is_not_sent_more(running: Running) -> None:
    """Otherwise what it was sent would grow late in its queue, spend attempts there, and be undone although it is at work."""
    fall_silent(running)
    more = open_more(running, 100)
    say(running, "o00", "reserve_inventory", "InventoryReserved")
    eventually(lambda: health(running).state == "recovering")
    for _ in range(20):
        pass_s(running, 0.5)
    assert 50 < running.broker.depth(INVENTORY) < 100
    assert health(running).state == "recovering"
    assert {ask_of(running, order_id).attempts for order_id in more} == {1}
    taken(running)
    pass_s(running, 1)
    assert running.broker.depth(INVENTORY) > 0


def test_others_are_asked_as_ever(running: Running) -> None:
    """Otherwise one participant's outage would stop all."""
    fall_silent(running)
    say(running, "o00", "reserve_inventory", "InventoryReserved")
    eventually(lambda: running.broker.depth(Topology().command_queue("payment")) == 1)


def test_a_worker_that_dies_leaves_what_is_kept_back_to_the_tap(running: Running) -> None:
    """Otherwise the death of a worker would flood a silent participant, or lose what waits for it."""
    fall_silent(running)
    open_more(running, 20)
    kept = health(running).held
    running.line.stop()
    owners = running.house.store.beat("other", "worker", None).dead_owners
    assert [owner for owner in owners if owner is not None] == ["held:inventory"]
    running.house.clock += timedelta(seconds=20)
    assert len(running.house.store.adopt("held:inventory", "other", 100)) == 1
    assert health(running).held == kept - 1


def ask_for_resync(running: Running, name: str = "inventory", subject: str = "inventory", **data: object) -> None:
    envelope = Envelope(id=f"resync-{name}-{subject}-{len(data)}", source=name, type=RESYNC_REQUESTED, subject=subject, data=data)
    running.broker.route(Topology().events, f"{name}.{RESYNC_REQUESTED}", encode(envelope))


def test_a_participant_that_asks_is_sent_what_is_outstanding(running: Running) -> None:
    """Otherwise one that lost its queue would be waited for until every deadline passed, and each would cost an attempt."""
    running.place("o00", "o01")
    eventually(lambda: running.broker.depth(INVENTORY) == 2)
    eventually(lambda: running.house.queries.outbox_size() == 0)
    first = {command.id for command in taken(running)}
    ask_for_resync(running)
    eventually(lambda: health(running).resync_under_way)
    for _ in range(4):
        pass_s(running, 1)
    again = taken(running)
    assert {command.id for command in again} == first
    assert first == {attempt_message_id(command_id(order_id, 0, "reserve_inventory", 1), 1) for order_id in ("o00", "o01")}
    assert {ask_of(running, order_id).attempts for order_id in ("o00", "o01")} == {1}
    assert (health(running).state, health(running).resync_under_way) == ("healthy", False)


def test_a_participant_that_waits_for_a_replay_is_noted(running: Running) -> None:
    """Otherwise nobody could tell which events to replay to it, nor when its replay is at its end."""

    def awaited() -> AwaitedReplay | None:
        with running.house.engine.connect() as connection:
            return awaited_replay(connection, "inventory")

    ask_for_resync(running)
    eventually(lambda: health(running).resync_under_way)
    assert awaited() is None
    ask_for_resync(running, events=["StockReceived", "OrderPlaced", "OrderPlaced"])
    request_id = "resync-inventory-inventory-1"
    noted = AwaitedReplay(request_id=request_id, events=frozenset({"StockReceived", "OrderPlaced"}))
    eventually(lambda: awaited() == noted)
    ask_for_resync(running, events=[], since="2026-11-21T12:00:00Z")
    eventually(lambda: awaited() == AwaitedReplay(request_id="resync-inventory-inventory-2", events=frozenset()))


@pytest.mark.parametrize(
    ("name", "subject", "data"),
    [
        ("inventory", "payment", {}),
        ("inventory", "inventory", {"events": "StockReceived"}),
        ("inventory", "inventory", {"events": ["a b"]}),
        ("inventory", "inventory", {"events": [7]}),
        ("inventory", "inventory", {"events": ["A"] * 101}),
        ("shop", "shop", {}),
        ("inventory", "inventory", {"since": "noon"}),
        ("inventory", "inventory", {"since": 7}),
    ],
)
def test_a_resync_that_is_not_ones_own_is_quarantined(running: Running, name: str, subject: str, data: dict[str, object]) -> None:
    """Otherwise anybody could have anybody flooded, or a request that cannot be read would be taken for another."""
    ask_for_resync(running, name, subject, **data)
    eventually(lambda: running.house.queries.quarantine_count() == 1)
    assert not any(one.resync_under_way for one in running.house.queries.participants())


def test_a_healthy_installation_asks_nothing_of_the_queues(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every tick would cost questions to the broker (R8: only for suspects)."""
    looked: list[str] = []
    monkeypatch.setattr(running.bus, "command_queue", looked.append)
    pass_s(running, 0)
    running.place("o00")
    eventually(lambda: running.state("o00") is not None)
    for _ in range(5):
        pass_s(running, 2)
    assert looked == []


def test_an_empty_queue_side_makes_a_participant_silent_before_its_deadlines(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise commands would pile up for a whole deadline although nobody is there."""
    monkeypatch.setattr(running.bus, "command_queue", lambda _: CommandQueue(ready=0, consumers=0))
    pass_s(running, 0)
    running.place(*ORDERS)
    eventually(lambda: running.broker.depth(INVENTORY) == len(ORDERS))
    for _ in range(8):
        pass_s(running, 2)
    eventually(lambda: health(running).state == "silent")
    assert set(attempts(running).values()) == {1}


@pytest.fixture
def serve(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The API's process beside the worker: it has placed twelve orders, hears nobody, and finds nobody at inventory's queue."""
    bus = WatchedBus(running.broker, PARTICIPANTS)
    monkeypatch.setattr(bus, "command_queue", lambda _: CommandQueue(ready=0, consumers=0))
    line = running.make_line(running.house.as_worker("serve-1"), bus=bus)
    line.start()
    pass_s(running, 0)
    for order_id in ORDERS:
        line.submit(placed(order_id)).result(10)
    yield line
    line.stop()


def pass_both_s(running: Running, serve: Line, seconds: int) -> None:
    """Let seconds pass in both processes."""
    for _ in range(seconds):
        serve.tick()
        finish(serve)
        pass_s(running, 1)


def test_orders_that_the_api_placed_count_too(running: Running, serve: Line) -> None:
    """Otherwise orders that no worker asked for would pile up commands at a participant that is away, until their deadlines."""
    pass_both_s(running, serve, 16)
    assert health(running).state == "silent"
    assert set(attempts(running).values()) == {1}


def test_what_the_api_asked_is_answered_to_the_workers(running: Running, serve: Line) -> None:
    """Otherwise a participant that answers everything would be called silent while it is started anew, with nothing to try it by."""
    for order_id in ORDERS:
        say(running, order_id, "reserve_inventory", "InventoryReserved")
    pass_both_s(running, serve, 16)
    assert health(running).state == "healthy"


def test_what_was_answered_does_not_hide_what_is_not(running: Running, serve: Line) -> None:
    """Otherwise the API's process would tell of nothing any more once a participant has answered what it asked."""
    for order_id in ORDERS:
        say(running, order_id, "reserve_inventory", "InventoryReserved")
    pass_both_s(running, serve, 5)
    for number in range(len(ORDERS)):
        serve.submit(placed(f"later-{number}")).result(10)
    pass_both_s(running, serve, 16)
    assert health(running).state == "silent"


def test_a_healthy_tick_asks_the_database_nothing_more(running: Running) -> None:
    """Otherwise every idle worker would cost questions about participants that are well."""
    pass_s(running, 0)
    asked: list[str] = []
    sa.event.listen(running.house.engine, "before_cursor_execute", lambda _c, _cursor, text, *_: asked.append(text))
    for _ in range(3):
        running.house.clock += timedelta(seconds=0.5)
        running.line.tick()
        settle(running)
    assert asked
    # The beat reads their states along, and `due` leaves out whom it must.
    about_them = ("SELECT participants", "INSERT INTO participants", "UPDATE participants")
    assert [text for text in asked if text.startswith(about_them)] == []
