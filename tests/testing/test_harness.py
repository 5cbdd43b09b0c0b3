from __future__ import annotations

import time
from datetime import timedelta

import pytest

from orchestrator.errors import MalformedMessage, RequestError
from orchestrator.saga.decision import Decision
from orchestrator.saga.fold import fold
from orchestrator.testing.harness import FIRED_MAX, START, Harness
from tests.saga.world import ORDER_RULES, PARCEL_RULES, Story, compiled
from tests.testing.kit import placed

#: Waits of days, as the sale of a house has them.
SLOW_RULES = compiled("""
definition: deed
version: 1
opens_on: DeedOrdered
key: order_id
patience: 60d
steps:
  - step: sign
    ask: notary
    command: Sign
    done_on: Signed
    deadline: 14d
    retry: {attempts: 2, first: 1d, max: 1d}
    undo: {command: Unsign, done_on: Unsigned, deadline: 1d, retry: {first: 1h, max: 1d}}
  - step: record
    ask: registry
    command: Record
    done_on: Recorded
    deadline: 2d
    pivot: true
    retry: {first: 1h, max: 1d}
""")


def test_an_order_is_driven_from_its_opening_to_its_end() -> None:
    """If it failed, an author could not tell a whole story."""
    escrow = placed("reserve_inventory", "take_payment")
    assert (escrow.state, escrow.status, escrow.cause) == ("emailing_invoice", "running", None)
    assert escrow.reply("email_invoice").verdict == "moved"
    assert (escrow.state, escrow.deadlines) == ("completed", {})
    assert [command.name for command in escrow.commands] == ["ReserveInventory", "TakePayment", "EmailInvoice"]
    assert [announcement.name for announcement in escrow.announcements] == ["OrderCompleted"]
    assert fold(escrow.history) == escrow.order


def test_it_decides_as_the_core_does() -> None:
    """If it failed, a definition would be tested on something else than what production runs."""
    told = Story()
    escrow = Harness(ORDER_RULES, now=told.now)
    told.place()
    escrow.open(told.data, order_id="o1")
    told.exhaust("reserve_inventory")
    escrow.advance(told.now - escrow.now)
    told.answer("reserve_inventory", data={"shelf": 3})
    escrow.reply("reserve_inventory", {"shelf": 3})
    assert [(entry.patch, entry.effects) for entry in escrow.history] == [(entry.patch, entry.effects) for entry in told.journal]


def test_deadlines_fire_in_order_at_their_instants() -> None:
    """If it failed, a test would see a deadline fire late, early, or before one that was due earlier."""
    escrow = placed()
    escrow.advance("29s")
    assert len(escrow.turns) == 1
    assert escrow.deadlines["reply:reserve_inventory.0.1"] == timedelta(seconds=1)
    fired = escrow.advance("1h")
    assert escrow.now == START + timedelta(hours=1, seconds=29)
    due = [turn.at for turn in escrow.turns[1:]]
    assert due == sorted(due)
    assert [decision.fired_late_s for decision in fired] == [0.0] * len(fired)
    assert due[0] == START + timedelta(seconds=30)


def test_a_clock_that_stands_fires_nothing() -> None:
    """If it failed, looking would change what is looked at."""
    escrow = placed()
    assert escrow.advance(timedelta(0)) == []
    assert Harness(ORDER_RULES).advance("1d") == []


def test_thirty_days_take_no_time() -> None:
    """If it failed, nobody would test a definition whose waits are days."""
    best_s = 1.0
    for _ in range(5):
        escrow = Harness(SLOW_RULES)
        escrow.open()
        started = time.perf_counter()
        escrow.advance("30d")
        escrow.undone("sign")
        best_s = min(best_s, time.perf_counter() - started)
        assert escrow.state == "compensated"
    assert best_s < 0.05


def test_one_deadline_can_fire_before_an_earlier_one() -> None:
    """If it failed, a race that the explorer finds could not be played."""
    escrow = placed("reserve_inventory")
    assert escrow.silence("patience").verdict == "moved"
    assert (escrow.state, escrow.now) == ("undoing_take_payment", START + timedelta(minutes=30))
    with pytest.raises(RequestError, match=r"reply:take_payment is not running; undo_reply:take_payment\.0\.1 are\."):
        escrow.silence("reply:take_payment")


def test_the_latest_ask_is_meant_unless_one_is_named() -> None:
    """If it failed, a late answer to an earlier ask could not be told from one to the present."""
    escrow = placed("reserve_inventory")
    escrow.act("force", to="taking_payment")
    assert escrow.ask("take_payment").key == "take_payment.1.1"
    assert escrow.reply("take_payment.0.1").verdict == "late"
    assert escrow.state == "taking_payment"
    assert escrow.reply("take_payment").verdict == "moved"


def test_a_message_delivered_again_is_a_duplicate_and_one_that_differs_is_not() -> None:
    """If it failed, a definition would be tested on a bus that is better than any."""
    escrow = placed("reserve_inventory")
    assert escrow.deliver(escrow.messages[-1]).verdict == "duplicate"
    escrow.event("OrderCancelRequested", message_id="m")
    assert escrow.event("OrderCancelRequested", {"why": "else"}, message_id="m").quarantine == "id_reused"


def test_what_comes_too_early_waits_for_the_opening() -> None:
    """If it failed, a test could not show what an event does that overtakes the opening."""
    escrow = Harness(ORDER_RULES)
    assert escrow.event("OrderCancelRequested").verdict == "parked"
    escrow.open()
    assert (escrow.state, escrow.cause) == ("undoing_reserve_inventory", "aborted")


def test_later_attempts_show_the_body_they_repeat() -> None:
    """If it failed, a test would see a command without data where the participant sees one with."""
    escrow = placed()
    escrow.advance("40s")
    first, second = escrow.commands
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.data == second.data == {"order_id": "order-1", "lines": None}


def test_acts_are_refused_as_in_production() -> None:
    """If it failed, an act would look possible in a test and be refused at 3 am."""
    escrow = placed("reserve_inventory", "take_payment")
    assert escrow.act("abort").problem == "conflict"
    assert escrow.act("retry", seq=1).problem == "stale"
    assert escrow.act("abandon").problem == "forbidden"
    assert escrow.act("hold", until="2h").verdict == "moved"
    assert escrow.deadlines == {"hold": timedelta(hours=2), "reply:email_invoice.0.1": None}
    assert escrow.act("release").verdict == "moved"
    assert escrow.act("deadline", name="reply:email_invoice", due_at="5m").verdict == "moved"
    assert escrow.deadlines == {"reply:email_invoice.0.1": timedelta(minutes=5)}


def test_a_command_sent_late_gets_its_whole_deadline() -> None:
    """If it failed, a crash between commit and publish could not be played."""
    escrow = placed()
    escrow.advance("20s")
    assert escrow.sent_late("reserve_inventory").verdict == "moved"
    assert escrow.deadlines["reply:reserve_inventory.0.1"] == timedelta(seconds=30)
    escrow.act("abort")
    escrow.advance("20s")
    assert escrow.sent_late("reserve_inventory").verdict == "moved"
    assert escrow.deadlines == {"undo_reply:reserve_inventory.0.1": timedelta(seconds=30)}


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda escrow: escrow.reply("take_payment"), r"take_payment was not asked; reserve_inventory\.0\.1 were"),
        (lambda escrow: escrow.undone("reserve_inventory"), "undo of reserve_inventory was not sent"),
        (lambda escrow: escrow.refuse("reserve_inventory", event="PaymentDeclined"), "InventoryRejected, CommandTooLate do"),
        (lambda escrow: escrow.event("OrderCanceled"), "No event of order is called OrderCanceled"),
        (lambda escrow: escrow.advance("1 hour"), "a duration is a number with a unit"),
        (lambda escrow: escrow.advance(timedelta(seconds=-1)), "The clock does not go"),
        (lambda escrow: escrow.sent_late("email_invoice"), "was not asked"),
        (lambda escrow: escrow.expect(stat="x"), "'stat' cannot be expected"),
        (lambda escrow: escrow.expect(commands=[{"name": "x"}, "y"]), "name cannot be expected"),
        (lambda _: Harness(ORDER_RULES).order, "call open"),
        (lambda _: Harness(ORDER_RULES).last, "Nothing happened"),
        (lambda _: Harness(ORDER_RULES).open(order_id="a b"), "no order id"),
    ],
)
def test_misuse_says_what_is_possible(misuse: object, says: str) -> None:
    """If it failed, a slip in a test would pass in silence, or be a riddle."""
    escrow = placed()
    escrow.act("retry")
    escrow.act("retry")
    with pytest.raises(RequestError, match=says):
        misuse(escrow)  # type: ignore[operator]


def test_data_that_no_message_can_hold_is_refused() -> None:
    """If it failed, a test would pass with data that production refuses."""
    with pytest.raises(MalformedMessage):
        Harness(ORDER_RULES).open({"amount": float("nan")})


def test_an_endless_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, `advance("3650d")` on an order that is asked for ever would not come back."""
    assert FIRED_MAX >= 18_196 * 10
    monkeypatch.setattr("orchestrator.testing.harness.FIRED_MAX", 5)
    with pytest.raises(RequestError, match="More than 5 deadlines"):
        placed(rulebook=PARCEL_RULES).advance("1d")


def test_a_failure_tells_every_difference_and_the_story() -> None:
    """If it failed, the author would have to run the debugger to learn what the order did."""
    escrow = placed("reserve_inventory")
    escrow.refuse("take_payment")
    with pytest.raises(AssertionError) as failure:
        escrow.expect(
            state="compensated",
            verdict="late",
            cause=None,
            commands=[{"command": "ReleaseInventory", "attempt": 2}],
            announcements=["OrderCancelled"],
            deadlines={"undo_reply:reserve_inventory": "10s", "patience": None},
            data={"amount_minor": 400, "reserve_inventory.payment_id": "p-1"},
        )
    assert str(failure.value).splitlines() == [
        "<order order-1: undoing_reserve_inventory, undoing, after 0s> is not as expected.",
        "  state: expected compensated, found undoing_reserve_inventory",
        "  verdict: expected late, found moved",
        "  cause: expected none, found refused",
        "  commands: expected [{command: ReleaseInventory, attempt: 2}], found [{command: ReleaseInventory, attempt: 1}]",
        "  announcements: expected [OrderCancelled], found []",
        "  deadlines: patience not armed; armed: {undo_reply:reserve_inventory.0.1: 30s}",
        "  deadlines: undo_reply:reserve_inventory.0.1: expected 10s left, found 30s",
        "  data: amount_minor: expected 400, found 500",
        "What happened so far (3 inputs):",
        "  +0s         OrderPlaced                       moved      → reserving_inventory, running  sent ReserveInventory#1",
        "  +0s         InventoryReserved                 moved      → taking_payment, running  sent TakePayment#1",
        "  +0s         PaymentDeclined                   moved      → undoing_reserve_inventory, undoing  sent ReleaseInventory#1",
    ]


def test_a_long_story_is_cut_from_its_beginning() -> None:
    """If it failed, a failure after a simulated month would fill the screen and hide its own reason."""
    escrow = placed("reserve_inventory", "take_payment")
    escrow.advance("1d")
    head, mark, *lines = escrow.story()
    assert (head, mark) == (f"What happened so far ({len(escrow.turns)} inputs):", "  …")
    assert len(lines) == 40
    assert "email_invoice.0.1" in lines[-1]


def test_expect_compares_what_is_new() -> None:
    """If it failed, every expectation would have to repeat the whole past."""
    escrow = placed()
    escrow.expect(commands=[])
    escrow.reply("reserve_inventory")
    escrow.expect(commands=["TakePayment"], deadlines=["reply:take_payment", "patience"])
    escrow.expect(commands=[])
    assert escrow.look().commands == ()


def test_what_happens_returns_what_was_decided() -> None:
    """If it failed, a test could not look at a decision's reason."""
    decision = placed().refuse("reserve_inventory")
    assert isinstance(decision, Decision)
    assert (decision.verdict, decision.order and decision.order.state) == ("moved", "compensated")
