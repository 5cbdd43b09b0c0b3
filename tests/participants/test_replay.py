"""A participant that lost its state: told of its past it is what it was, and takes no live command before."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.contract import COMMAND_TOO_LATE, RESYNC_REQUESTED, Envelope, Wire, decode, encode, event_command_id, first_command_id
from orchestrator.contract.replay import ReplayedCommand, ReplayedEvent, decode_replay, encode_replay
from participants import agent, bank, inventory, invoice, orders, payment
from participants.kit.answers import Reply
from participants.kit.complaints import TOLD_MAX
from participants.kit.facts import FactRefusedError, NotYetError
from participants.kit.loop import Loop
from participants.kit.participant import Command, Participant, Tx
from participants.kit.rabbit import RabbitTransport
from participants.kit.replay import Replay
from participants.kit.replayer import Replayer
from participants.kit.runner import Runner
from participants.warehouse import stock_received
from tests.participants.escrow import Escrow, fresh_namespace
from tests.participants.replays import Past, contents, end_of, replay_to
from tests.participants.support import MemoryTransport, ask, talk_to, undo_of
from tests.support.processes import Process, eventually
from tests.support.services import amqp_url

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pika")

APPLES = {"lines": [{"sku": "apple", "quantity": 2}]}
INVOICE = {"customer_email": "a@example.com", "amount_minor": 1999, "currency": "EUR", "lines": []}


def reserve(order_id: str, units: int = 2) -> Envelope:
    """The command for some apples."""
    return ask("ReserveInventory", order_id, {"lines": [{"sku": "apple", "quantity": units}]})


def stocked(engine: sa.Engine) -> Participant:
    """An inventory that has what it received."""
    return inventory.build(engine, default_stock=0)


def a_past(engine: sa.Engine) -> list[Wire]:
    """What happened to an inventory: stock came, and orders were done, refused, undone, and undone before they came."""
    past = Past(stocked(engine), refused_by="InventoryRejected")
    received = [stock_received("r-1", "apple", 5), stock_received("r-2", "pear", 1)]
    past.participant.handle([encode(event) for event in received])
    for order_id in ("done", "undone", "refused"):
        past.ask(reserve(order_id))
    past.ask(undo_of("ReleaseInventory", reserve("undone")))
    past.ask(undo_of("ReleaseInventory", reserve("refused")))
    past.ask(undo_of("ReleaseInventory", reserve("early")))
    past.ask(reserve("short", 9))
    past.ask(reserve("early"))
    past.ask(reserve("undone"))
    return [*(encode_replay(ReplayedEvent(message=event)) for event in received), *past.wires]


def test_stock_reservations_and_ledger_are_as_before(sqlite_engine: sa.Engine, engine: sa.Engine) -> None:
    """If it failed, a lost database would be lost stock, or orders that Escrow knows to be done and nobody keeps."""
    past = a_past(sqlite_engine)
    assert len(past) == 11
    replay_to(stocked(engine), past)
    assert contents(engine) == contents(sqlite_engine)
    totals = stocked(engine).totals()
    assert (totals["stock_initial"], totals["stock_available"], totals["applied_twice"]) == (6, 4, 0)


def test_what_lies_beyond_the_replay_refuses_nothing(engine: sa.Engine, sqlite_engine: sa.Engine) -> None:
    """If it failed, an order would be without its goods because the delivery of long ago is forgotten."""
    past = a_past(sqlite_engine)
    replay_to(stocked(engine), past[2:])
    totals = stocked(engine).totals()
    assert (totals["reserved"], totals["stock_held"], totals["stock_initial"], totals["stock_available"]) == (2, 2, 0, -2)


def test_invoices_keep_their_numbers_and_are_not_mailed_again(sqlite_engine: sa.Engine, engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, customers would get a second mail, with another number than the tax office has."""
    past = Past(invoice.build(sqlite_engine, mail_dir=tmp_path / "mail"), refused_by="InvoiceRejected")
    commands = [ask("EmailInvoice", f"o-{n}", INVOICE if n != 1 else {}) for n in range(4)]
    for command in commands:
        past.ask(command)
    past.ask(undo_of("CancelInvoice", commands[2]))
    past.participant.settle()
    past.participant.handle([encode(commands[0])])  # marks what was mailed

    rebuilt = invoice.build(engine, mail_dir=tmp_path / "again")
    replay_to(rebuilt, [past.wires[n] for n in (3, 2, 4, 1, 0)])  # order by order is not the order of then
    rebuilt.settle()
    assert contents(engine) == contents(sqlite_engine)
    assert list((tmp_path / "again").iterdir()) == []
    (after,) = talk_to(rebuilt)(ask("EmailInvoice", "o-9", INVOICE))
    assert after.data["invoice_number"] == 4


def test_money_is_taken_again_whatever_the_limit_is_today(sqlite_engine: sa.Engine, engine: sa.Engine) -> None:
    """If it failed, a payment that the customer made would be gone because a setting was changed since."""
    past = Past(payment.build(sqlite_engine), refused_by="PaymentDeclined")
    commands = [ask("TakePayment", f"o-{n}", {"amount_minor": 500 + n, "currency": "EUR"}) for n in range(3)]
    for command in commands:
        past.ask(command)
    past.ask(undo_of("RefundPayment", commands[1]))
    replay_to(payment.build(engine, limit_minor=100), past.wires)
    assert contents(engine) == contents(sqlite_engine)


def test_facts_are_as_they_were_told(sqlite_engine: sa.Engine, engine: sa.Engine) -> None:
    """If it failed, a bank would pay out what it does not know to hold, or book a deposit twice when it is told of it again."""
    past = Past(bank.build(sqlite_engine), refused_by="PaymentRejected")
    for closing in ("h-1", "h-2", "h-3"):
        past.tell("FundsReceived", closing, {"amount_minor": 100})
    past.ask(ask("PaySeller", "h-1", {"price_minor": 60}))
    message_id = decode_replay(past.wires[1]).message.id  # type: ignore[union-attr]
    given_back = replace(undo_of("ReturnDeposit", ask("x", "h-2", {})), undoes=event_command_id("h-2", "bank", message_id))
    past.ask(given_back)

    rebuilt = bank.build(engine)
    replay_to(rebuilt, past.wires)
    assert contents(engine, without=("digest",)) == contents(sqlite_engine, without=("digest",))
    rebuilt.happened("FundsReceived", "h-1", {"amount_minor": 100}, "h-1")
    (event,) = rebuilt.reported()
    assert encode_replay(replace(decode_replay(past.wires[0]), message=decode(event.message.wire))) == past.wires[0]  # type: ignore[arg-type]
    with pytest.raises(FactRefusedError):
        rebuilt.happened("FundsReceived", "h-9", {"amount_minor": 100}, "h-1")
    assert contents(engine, without=("digest",)) == contents(sqlite_engine, without=("digest",))


def test_notices_and_placed_orders_are_there_again(sqlite_engine: sa.Engine, engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, an agent would not know whom it has chased, or take the same order twice."""
    past = Past(agent.build(sqlite_engine))
    past.tell("ClosingOpened", "h-1", {"price": 1})
    past.notify(ask("ChaseSignatures", "h-1", {}))
    rebuilt = agent.build(engine)
    replay_to(rebuilt, [*past.wires, *past.wires])
    rebuilt.handle([encode(ask("ChaseSignatures", "h-1", {}, attempt=2))])
    assert contents(engine, without=("digest",)) == contents(sqlite_engine, without=("digest",))


def test_an_order_that_was_placed_is_known(sqlite_engine: sa.Engine, engine: sa.Engine) -> None:
    """If it failed, the order service would forget its orders, which are facts of its own and no commands."""
    past = Past(orders.build(sqlite_engine))
    past.tell("OrderPlaced", "o-1", {"sku": "apple"})
    replay_to(orders.build(engine), past.wires)
    assert contents(engine, without=("digest",)) == contents(sqlite_engine, without=("digest",))


def test_what_was_done_by_itself_is_there_again(sqlite_engine: sa.Engine, engine: sa.Engine) -> None:
    """If it failed, a participant of a choreography would forget all that it did without being asked."""
    past = Past(inventory.build(sqlite_engine, choreographed=True), refused_by="InventoryRejected")
    placed = [
        Envelope(id=f"m-{n}", source="orders", type="OrderPlaced", subject=f"o-{n}", data={"order_id": f"o-{n}", **lines})
        for n, lines in enumerate((APPLES, APPLES, {}))
    ]
    for event in placed:
        past.ask(event)
    own_id = first_command_id("o-1", "update_inventory")
    past.ask(replace(undo_of("RestoreInventory", ask("x", "o-1", {})), undoes=own_id))
    rebuilt = inventory.build(engine, choreographed=True)
    replay_to(rebuilt, past.wires)
    assert contents(engine) == contents(sqlite_engine)
    assert [answer.type for answer in talk_to(rebuilt)(placed[1])] == [COMMAND_TOO_LATE]


def odd(engine: sa.Engine) -> Participant:
    """A participant that does otherwise what the data says."""
    participant = Participant("odd", engine)

    @participant.command("Do", refused_by="Refused")
    def do(_tx: Tx, command: Command) -> Reply:
        if "bug" in command.data:
            raise RuntimeError("a bug")
        assert command.replayed
        return Reply("Done", {"n": command.data["n"]})

    return participant


def done(order_id: str, recorded: int, **data: Any) -> Wire:
    """`Do`, which was answered with this number then."""
    command = ask("Do", order_id, data)
    answer = Envelope(id=f"r-{order_id}", source="odd", type="Done", subject=order_id, data={"n": recorded}, commandid=command.commandid)
    return encode_replay(ReplayedCommand(message=command, answer=answer, outcome="done"))


def test_the_recorded_answer_stands(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, Escrow would hear another answer to a copy than the order went on by; or a change of the code would go unseen."""
    with caplog.at_level(logging.WARNING):
        participant = odd(engine)
        replay_to(participant, [done("o-1", 1, n=1), done("o-2", 1, n=2)])
    assert [(record.action, record.order_id) for record in caplog.records] == [("replay_diverged", "o-2")]  # type: ignore[attr-defined]
    assert [answer.data for n in (1, 2) for answer in talk_to(participant)(ask("Do", f"o-{n}", {"n": n}))] == [{"n": 1}, {"n": 1}]


def test_what_is_wrong_with_very_many_is_told_of_some(sqlite_engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, the log of a replay would fill a disk, or not say how many there were."""
    with caplog.at_level(logging.WARNING):
        replay_to(odd(sqlite_engine), [done(f"o-{n}", 1, n=2) for n in range(TOLD_MAX + 5)])
    assert len(caplog.records) == TOLD_MAX + 1
    assert caplog.records[-1].getMessage() == f"replay_diverged: {TOLD_MAX + 5} times, of which the first {TOLD_MAX} were told."


def test_a_message_that_cannot_be_applied_harms_no_neighbour(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, one bad message of the past would keep a participant from ever being alive again."""
    bad = [
        Wire(content_type="text/plain", headers={}, body=b"hello"),
        done("o-1", 1, bug=True),
        encode_replay(ReplayedCommand(message=ask("Unknown", "o-3", {}), answer=None, outcome=None)),
        encode_replay(ReplayedEvent(message=stock_received("r-1", "apple", 1))),
    ]
    with caplog.at_level(logging.WARNING):
        participant = odd(engine)
        replay_to(participant, [done("o-0", 1, n=1), *bad, done("o-2", 1, n=1)])
    actions = sorted(record.action for record in caplog.records)  # type: ignore[attr-defined]
    assert actions == ["replay_failed", "replay_malformed", "replay_unknown", "replay_unknown"]
    assert [row["order_id"] for row in participant.ledger_rows("", 10)] in (["o-0", "o-2"], ["o-2", "o-0"])


def test_it_asks_for_what_it_lacks_and_hears(sqlite_engine: sa.Engine) -> None:
    """If it failed, Escrow would not know what to send again, nor which events to replay."""
    transport = replay_to(stocked(sqlite_engine), [])
    (request,) = transport.answers()
    assert (request.type, request.source, request.subject) == (RESYNC_REQUESTED, "inventory", "inventory")
    assert request.data == {"events": ["StockReceived"]}


def test_only_one_that_is_new_and_knows_nothing_waits(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, a restart with the flag left on would stop a healthy participant until somebody replays its whole life."""
    participant = stocked(engine)
    assert not Replay(participant).begin(new=False)
    participant.handle([encode(stock_received("r-1", "apple", 5))])
    with caplog.at_level(logging.INFO):
        assert not Replay(participant).begin(new=True)
    assert [record.action for record in caplog.records] == ["not_new"]  # type: ignore[attr-defined]
    assert participant.unsent() == []


def test_once_begun_it_is_waited_for_until_its_end(engine: sa.Engine) -> None:
    """If it failed, a restart in the middle would take live commands on half a state, or begin anew; and one after the end would wait."""
    participant = stocked(engine)
    assert Replay(participant).begin(new=True)
    (request,) = participant.unsent()
    assert Replay(stocked(engine)).begin(new=False)
    assert Replay(stocked(engine)).begin(new=True)
    assert [each.outbox_id for each in participant.unsent()] == [request.outbox_id]
    replay = Replay(participant)
    assert not replay.handle([end_of("another request")])
    assert replay.state == "waiting"
    assert replay.handle([end_of(request.message.message_id)])
    assert Replay(stocked(engine)).begin(new=True), "the queue is still to go"
    replay.close()
    assert not replay.handle([end_of("another request")])
    assert (replay.state, Replay(stocked(engine)).begin(new=True)) == ("over", False)


def test_two_processes_begin_one_replay(engine: sa.Engine) -> None:
    """If it failed, one of two processes would die at its start, or wait for the end of a replay that nobody asked for."""
    barrier = threading.Barrier(2)
    begun: list[bool] = []

    def begin(participant: Participant) -> None:
        barrier.wait(5)
        begun.append(eventually(lambda: _begun(participant)))

    participants = [stocked(engine) for _ in range(2)]
    threads = [threading.Thread(target=begin, args=[participant]) for participant in participants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert begun == [True, True]
    (request,) = participants[0].unsent()
    replay, sibling = (Replayer(each, MemoryTransport(), Replay(each)) for each in participants)
    assert Replay(participants[0]).handle([end_of(request.message.message_id)])
    for replayer in (replay, sibling):
        replayer.turn()
        assert replayer.is_done


def _begun(participant: Participant) -> bool:
    try:
        return Replay(participant).begin(new=True)
    except sa.exc.OperationalError:
        return False


def test_dying_in_the_middle_it_goes_on(engine: sa.Engine, sqlite_engine: sa.Engine) -> None:
    """If it failed, what was applied before a crash would be applied twice, or what was not acked be lost."""
    past, transport = a_past(sqlite_engine), MemoryTransport()
    first = stocked(engine)
    replay = Replay(first)
    assert replay.begin(new=True)
    (request,) = first.unsent()
    transport.send_wires(*past, end_of(request.message.message_id))
    replay.handle([received.wire for received in transport.consume(6, 0)])  # and dies before the ack
    transport.redeliver()

    second = stocked(engine)
    assert Replay(second).begin(new=False)
    replayer = Replayer(second, transport, Replay(second), batch_max=4)
    stop = threading.Event()
    replayer.run(stop)
    assert replayer.is_done
    assert transport.closed
    assert contents(engine) == contents(sqlite_engine)
    assert [message.message_id for message in transport.published] == [request.message.message_id]


def test_it_says_what_it_waits_for(sqlite_engine: sa.Engine) -> None:
    """If it failed, whoever started it would see a participant that does nothing, and not what to run."""
    participant, transport = stocked(sqlite_engine), MemoryTransport()
    replay = Replay(participant)
    assert replay.begin(new=True)
    replayer = Replayer(participant, transport, replay)
    assert str(replayer.trouble).endswith("run: escrow replay --to inventory --from first")
    transport.down = True
    with pytest.raises(ConnectionError):
        replayer.turn()
    transport.down = False
    transport.send_wires(encode_replay(ReplayedEvent(message=stock_received("r-1", "apple", 1))))
    replayer.turn()
    assert "1 messages so far" in str(replayer.trouble)


def test_no_fact_is_told_before_the_end(engine: sa.Engine) -> None:
    """If it failed, a fact of the past that is told again would take effect on empty tables, and the replayed one be passed over."""
    participant, transport = orders.build(engine), MemoryTransport()
    replay = Replay(participant)
    replay.begin(new=True)
    with pytest.raises(NotYetError, match="waits for a replay"):
        participant.happened("OrderPlaced", "o-1", {}, "o-1")
    replayer = Replayer(participant, transport, replay)
    replayer.turn()
    (request,) = transport.published
    assert request.event_type == RESYNC_REQUESTED
    replay.handle([end_of(request.message_id)])
    replayer.turn()
    participant.happened("OrderPlaced", "o-1", {}, "o-1")
    live = MemoryTransport()
    runner = Runner(participant, live)
    runner.turn()
    assert [event.type for event in live.answers()] == ["OrderPlaced"]


def test_a_loop_is_run_until_it_is_done() -> None:
    """If it failed, a participant whose state is rebuilt would wait for ever."""

    class Once(Loop):
        is_done = False

        def turn(self) -> None:
            self.is_done = True

    once = Once("x")
    once.run(threading.Event())
    assert (once.is_done, once.trouble) == (True, None)
    with pytest.raises(NotImplementedError):
        Loop("x").turn()


@pytest.fixture
def escrow() -> Iterator[Escrow]:
    """A namespace of its own on the broker, deleted afterwards."""
    with fresh_namespace() as made:
        made.declare_inbox()
        yield made


def look(url: str) -> Any:
    """What the door says."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


@pytest.mark.real
def test_a_real_process_takes_no_command_before_the_end(escrow: Escrow, sqlite_engine: sa.Engine, tmp_path: Path) -> None:
    """If it failed, live commands would be answered by one that remembers nothing: done a second time, or refused for want of stock."""
    past = a_past(sqlite_engine)
    options = ("--database-url", f"sqlite:///{tmp_path}/new.db", "--amqp-url", amqp_url(), "--namespace", escrow.topology.namespace)
    with Process("participants.inventory", "run", *options, "--default-stock", "0", "--new", output=tmp_path / "log") as process:
        door = process.wait_for_line("inventory: http").split()[-1]
        [(request, _, _)] = escrow.receive(1)
        escrow.send("inventory", replace(reserve("done"), attempt=2), reserve("live"))
        escrow.replay("inventory", *past)
        eventually(lambda: look(f"{door}/totals")["reserved"] == 2)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            look(f"{door}/healthz")
        assert (escrow.ready("inventory"), escrow.consumers("inventory")) == (2, 0)
        escrow.replay("inventory", end_of(request.id))
        answers = {event.subject: event for event, _, _ in escrow.receive(2)}
        assert answers["done"] == decode_replay(past[2]).answer  # type: ignore[union-attr]
        assert answers["live"].type == "InventoryReserved"
        eventually(lambda: look(f"{door}/healthz")["ok"])
        assert not escrow.has(escrow.topology.replay_queue("inventory"))
        page = look(f"{door}/ledger?limit=3")["rows"]
        rest = look(f"{door}/ledger?after={page[-1]['command_id']}")["rows"]
        assert [row["command_id"] for row in (*page, *rest)] == sorted(row["command_id"] for row in (*page, *rest))
        assert len(rest) == 3
        assert {row["order_id"]: row["state"] for row in (*page, *rest)}["undone"] == "undone"
        assert process.terminate() == 0
    with Process("participants.inventory", "run", *options, "--new", output=tmp_path / "log2") as process:
        door = process.wait_for_line("inventory: http").split()[-1]
        process.wait_for_http(f"{door}/healthz")
        assert process.terminate() == 0
        assert "link_up" in process.text()


@pytest.mark.real
def test_one_process_at_a_time_is_replayed_to(escrow: Escrow) -> None:
    """If it failed, an undo would be applied by one process before its command is by the other."""
    links = [RabbitTransport(amqp_url(), escrow.topology, "inventory", replay=True) for _ in range(2)]
    try:
        for link in links:
            assert link.wait_until_up(15)
        escrow.replay("inventory", *(done(f"o-{n}", n) for n in range(20)))
        found: list[int] = []

        def take() -> bool:
            found.extend(place for place, link in enumerate(links) for _ in link.consume(20, 0.1))
            return len(found) == 20

        eventually(take)
        assert len(set(found)) == 1
    finally:
        links[0].discard()
        links[1].close()
    with pytest.raises(ConnectionError):
        links[0].discard()
