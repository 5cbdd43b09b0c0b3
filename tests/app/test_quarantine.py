"""Replays and discards: what was decided about a quarantined message is written with what it does, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import pytest

from orchestrator.app import operate
from orchestrator.app.ports import Changes, Resolved
from orchestrator.app.work import Work
from orchestrator.contract import Envelope
from orchestrator.errors import Conflict, InvariantViolated, MalformedMessage, NotFound
from orchestrator.loading import load_definitions
from orchestrator.saga import decide as decide_module
from orchestrator.saga import definition
from orchestrator.saga import draft as draft_module
from orchestrator.saga.expression import ExpressionError
from orchestrator.store.transaction import SqlTransaction
from tests.app.house import Gateway, House, answer, message, placed, unreadable_delivery

Act = Callable[..., object]
WHY = {"actor": "ada", "reason": "ticket 4711"}


@pytest.fixture
def gateway(house: House) -> Gateway:
    return Gateway(house)


def too_early(house: House) -> str:
    """A quarantined PaymentTaken of o1, whose command was not sent yet; its id."""
    house.handle(placed("o1"))
    house.handle(answer("o1", "take_payment", "PaymentTaken", data={"payment_id": "P-1"}))
    [row], _ = house.queries.quarantine()
    assert row.reason == "unknown_command"
    return row.quarantine_id


def fits_now(house: House) -> str:
    """The same, after its command was sent."""
    quarantine_id = too_early(house)
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    return quarantine_id


def rows(house: House) -> list[tuple[str, int, str | None]]:
    """(id, count, resolution) of all rows."""
    return [(row.quarantine_id, row.count, row.resolution) for row in house.queries.quarantine()[0]]


def works_of(quarantine_id: str) -> list[Work]:
    """A replay and a discard of one message, as `operate` makes them."""
    reply = answer("o1", "take_payment", "PaymentTaken", data={"payment_id": "P-1"})
    replayed = Resolved(quarantine_id=quarantine_id, resolution="replayed", **WHY)
    discarded = Resolved(quarantine_id=quarantine_id, resolution="discarded", **WHY)
    return [
        Work(order_id="o1", input=reply.input, resolves=replayed),
        Work(order_id=None, input=None, resolves=discarded),
    ]


def test_a_replay_is_applied_and_resolved(house: House, gateway: Gateway) -> None:
    """If it failed, an operator could not apply what came at the wrong moment."""
    quarantine_id = fits_now(house)
    replayed = operate.replay(gateway, quarantine_id, **WHY)
    assert replayed == {"quarantine_id": quarantine_id, "verdict": "moved", "reason": None}
    assert house.order("o1").state == "emailing_invoice"
    row = house.queries.quarantined(quarantine_id)
    assert row is not None
    assert (row.resolution, row.resolved_by, row.resolved_reason) == ("replayed", "ada", "ticket 4711")
    assert row.resolved_at is not None


@pytest.mark.parametrize("again", [operate.replay, operate.discard])
def test_what_is_resolved_stays_so(house: House, gateway: Gateway, again: Act) -> None:
    """If it failed, a message would be replayed after somebody decided against it."""
    quarantine_id = fits_now(house)
    operate.discard(gateway, quarantine_id, **WHY)
    with pytest.raises(Conflict, match="was discarded already"):
        again(gateway, quarantine_id, **WHY)
    assert house.order("o1").state == "taking_payment"
    assert rows(house) == [(quarantine_id, 1, "discarded")]


@pytest.mark.parametrize("act", [operate.replay, operate.discard])
def test_what_is_not_there_is_not_found(gateway: Gateway, act: Act) -> None:
    """If it failed, a slip of the pen would look like a success."""
    with pytest.raises(NotFound):
        act(gateway, "nobody", **WHY)


def test_a_replay_that_is_refused_again_leaves_its_row_open_and_the_only_one(house: House, gateway: Gateway) -> None:
    """If it failed, one message would stand in the quarantine twice, or be counted as if it had come again."""
    quarantine_id = too_early(house)
    with pytest.raises(Conflict, match="still cannot be applied"):
        operate.replay(gateway, quarantine_id, **WHY)
    assert rows(house) == [(quarantine_id, 1, None)]
    assert house.verdicts("o1")[-1] == ("PaymentTaken", "refused")


def test_a_replay_that_cannot_be_read_leaves_its_row_open(house: House, gateway: Gateway) -> None:
    """If it failed, a message that nobody could read would be lost as replayed."""
    house.handle(Work(order_id=None, input=None, delivery=unreadable_delivery(b"?"), unreadable=MalformedMessage("no")))
    [(quarantine_id, _, _)] = rows(house)
    with pytest.raises(Conflict, match="still cannot be read"):
        operate.replay(gateway, quarantine_id, **WHY)
    assert rows(house) == [(quarantine_id, 1, None)]
    operate.discard(gateway, quarantine_id, **WHY)
    assert rows(house) == [(quarantine_id, 1, "discarded")]


def test_a_bug_of_ours_in_a_replay_leaves_its_row_open(house: House, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a message would be marked as replayed that was not applied; or be kept under two reasons."""
    quarantine_id = fits_now(house)
    with monkeypatch.context() as patched:
        patched.setattr(decide_module, "decide", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            operate.replay(gateway, quarantine_id, **WHY)
    assert rows(house) == [(quarantine_id, 1, None)]
    assert operate.replay(gateway, quarantine_id, **WHY)["verdict"] == "moved"


def test_the_effect_and_the_resolution_are_one_transaction(house: House, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a crash between the two would leave an applied message open, or a resolved one unapplied."""
    quarantine_id = fits_now(house)
    write = SqlTransaction.write

    def failing(tx: SqlTransaction, changes: Changes) -> None:
        write(tx, changes)
        raise InvariantViolated("planted")

    with monkeypatch.context() as patched:
        patched.setattr(SqlTransaction, "write", failing)
        with pytest.raises(InvariantViolated):
            operate.replay(gateway, quarantine_id, **WHY)
    assert rows(house) == [(quarantine_id, 1, None)]
    assert house.order("o1").state == "taking_payment"


@pytest.mark.parametrize(("order", "first"), [((0, 1), "replayed"), ((1, 0), "discarded")])
def test_of_two_in_one_batch_the_first_wins(house: House, order: tuple[int, int], first: str) -> None:
    """If it failed, a message would be replayed and discarded at once."""
    quarantine_id = fits_now(house)
    works = works_of(quarantine_id)
    handled = house.handle(*(works[place] for place in order))
    assert [type(outcome.error) for _, outcome in handled.outcomes] == [type(None), Conflict]
    assert rows(house) == [(quarantine_id, 1, first)]
    assert house.order("o1").state == ("emailing_invoice" if first == "replayed" else "taking_payment")


def test_of_two_at_once_one_waits_and_is_refused(house: House) -> None:
    """If it failed, two operators would both be told that their decision holds."""
    quarantine_id = fits_now(house)
    replay, discard = works_of(quarantine_id)
    assert discard.resolves is not None
    begun: Queue[None] = Queue()

    def second() -> Any:
        begun.put(None)
        return house.handle(replay).outcomes[0][1].error

    with ThreadPoolExecutor(1) as pool:
        with house.store.transaction() as tx:
            assert tx.lock_quarantined([quarantine_id, "nobody"]) == {quarantine_id: None}
            waiting = pool.submit(second)
            begun.get(timeout=5)
            tx.write(Changes(resolved=[(discard.resolves, tx.now())]))
        assert isinstance(waiting.result(timeout=5), Conflict)
    assert rows(house) == [(quarantine_id, 1, "discarded")]
    assert house.order("o1").state == "taking_payment"


def test_of_many_at_once_exactly_one_wins(house: House, gateway: Gateway) -> None:
    """If it failed, a message would be resolved twice."""
    quarantine_id = fits_now(house)
    together = threading.Barrier(4)

    def race(act: Act) -> str:
        together.wait(timeout=5)
        try:
            act(gateway, quarantine_id, **WHY)
        except Conflict:
            return "refused"
        return "won"

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(race, [operate.replay, operate.discard] * 2))
    assert sorted(results) == ["refused", "refused", "refused", "won"]
    [(_, count, resolution)] = rows(house)
    assert (count, house.order("o1").state) == (1, "emailing_invoice" if resolution == "replayed" else "taking_payment")


def test_an_equal_message_that_comes_later_opens_the_row_again(house: House, gateway: Gateway) -> None:
    """If it failed, a message that somebody discarded once would be hidden for ever."""
    quarantine_id = too_early(house)
    operate.discard(gateway, quarantine_id, **WHY)
    house.handle(answer("o1", "take_payment", "PaymentTaken", data={"payment_id": "P-1"}))
    assert rows(house) == [(quarantine_id, 2, None)]


def test_what_a_bug_set_aside_is_replayed_with_what_waits_for_it(house: House, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a corrected bug would cost an order, or the events that came before it."""
    with monkeypatch.context() as patched:
        patched.setattr(decide_module, "decide", lambda *_, **__: 1 / 0)
        house.handle(placed("o1"))
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    [(quarantine_id, _, _)] = rows(house)
    assert operate.replay(gateway, quarantine_id, **WHY)["verdict"] == "moved"
    assert (house.order("o1").state, house.queries.parked_count()) == ("taking_payment", 0)
    assert rows(house) == [(quarantine_id, 1, "replayed")]


CHANGED = """
definition: changed
version: 1
opens_on: ChangePlaced
key: order_id
patience: 10m
states:
  first: {on: {Begun: second}}
  second: {on: {Counted: {set: {twice: event.number * 2}, then: done}}}
  done: {outcome: completed}
"""


def event(subject: str, type_: str, message_id: str, **data: Any) -> Work:
    """An event from outside, from the bus."""
    return message(Envelope(id=message_id, source="clerk", type=type_, subject=subject, data=data))


def test_a_kept_event_that_is_refused_at_its_time_is_replayed(house: House, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an event that was kept, and could not be applied when its time came, would be lost: its id counts as seen (R15)."""
    house.store.register(load_definitions(None, extra=[definition.read(CHANGED, "changed.yaml")]))
    house.handle(event("c1", "ChangePlaced", "m1", order_id="c1"))
    house.handle(event("c1", "Counted", "m2", number=21))
    with monkeypatch.context() as patched:
        patched.setattr(draft_module.Draft, "amend", broken)
        house.handle(event("c1", "Begun", "m3"))
    assert house.verdicts("c1")[1:] == [("Counted", "parked"), ("Begun", "moved"), ("Counted", "refused")]
    [(quarantine_id, _, _)] = rows(house)
    assert operate.replay(gateway, quarantine_id, **WHY)["verdict"] == "moved"
    order = house.order("c1")
    assert (order.state, order.status, order.facts["twice"]) == ("done", "completed", 42)
    entries = list(house.queries.history("c1"))
    assert (entries[-1].cause_seq, entries[-1].message_id) == (2, None)


def broken(_draft: object, values: object) -> None:
    """What computing a field of another kind would do."""
    if values:
        raise ExpressionError("the field is of another kind")
