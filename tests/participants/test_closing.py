"""The participants of a house closing: what they tell, what they are asked, and that it adds up."""

from __future__ import annotations

import tempfile

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract import Envelope, attempt_message_id, decode, encode, event_command_id, undo_id
from participants import agent, bank, registry
from participants.kit.database import connect
from participants.kit.facts import FactRefusedError, fact_message_id
from tests.participants.support import ask, talk_to, undo_of

#: (closing, what happens, which deposit or attempt): short, so that deposits, returns and payouts of one closing meet often.
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["deposit", "return", "pay"]), st.integers(1, 3)), max_size=30)


def returning(closing_id: str, fact_id: str) -> Envelope:
    """What Escrow sends to have a deposit returned."""
    undoes = event_command_id(closing_id, "bank", fact_message_id("bank", "FundsReceived", fact_id))
    own_id = undo_id(undoes)
    message_id = attempt_message_id(own_id, 1)
    return Envelope(id=message_id, source="escrow", type="ReturnDeposit", subject=closing_id, data={}, commandid=own_id, undoes=undoes)


def test_the_agent_tells_of_the_closing_as_its_order(engine: sa.Engine) -> None:
    """If it failed, Escrow would refuse the opening, whose key must be the order's id (R16)."""
    participant = agent.build(engine)
    participant.happened("ClosingOpened", "c-1", {"property_id": "house-1", "price_minor": 100}, "c-1")
    for event_type in ("BuyerSigned", "SellerSigned", "ClosingAmended"):
        participant.happened(event_type, "c-1", {}, "c-1")
    participant.happened("ClosingAmended", "c-1", {"price_minor": 90}, "c-1/2")
    events = [decode(event.message.wire) for event in participant.reported()]
    assert [(event.type, event.subject, event.data) for event in events] == [
        ("ClosingOpened", "c-1", {"closing_id": "c-1", "property_id": "house-1", "price_minor": 100}),
        ("BuyerSigned", "c-1", {"closing_id": "c-1"}),
        ("SellerSigned", "c-1", {"closing_id": "c-1"}),
        ("ClosingAmended", "c-1", {"closing_id": "c-1"}),
        ("ClosingAmended", "c-1", {"closing_id": "c-1", "price_minor": 90}),
    ]
    with pytest.raises(ValueError, match="not the id of the closing"):
        participant.happened("BuyerSigned", "c-2", {"closing_id": "c-1"}, "c-2")
    counted = participant.totals()
    assert {name: counted[name] for name in agent.FACTS.values()} == {"opened": 1, "buyer_signed": 1, "seller_signed": 1, "amended": 2}


def test_the_agent_chases_once_a_reminder(engine: sa.Engine) -> None:
    """If it failed, a reminder delivered twice would call the buyer twice."""
    participant = agent.build(engine)
    reminders = [ask("ChaseSignatures", f"c-{n}", {}, attempt=attempt) for n in (1, 2) for attempt in (1, 2)]
    assert participant.handle([encode(reminder) for reminder in reminders]) == []
    assert participant.handle([encode(reminder) for reminder in reminders]) == []
    counted = participant.totals()
    assert (counted["chased"], counted["chases"], counted["applied_twice"]) == (2, 2, 0)


def test_the_bank_pays_what_it_holds(engine: sa.Engine) -> None:
    """If it failed, it would pay the seller with somebody else's deposit."""
    participant = bank.build(engine)
    talk = talk_to(participant)
    participant.happened("FundsReceived", "c-1", {"amount_minor": 70}, "t-1")
    participant.happened("FundsReceived", "c-1", {"amount_minor": 40}, "t-2")
    participant.happened("FundsReceived", "c-2", {"amount_minor": 500}, "t-3")
    (refused,) = talk(ask("PaySeller", "c-1", {"closing_id": "c-1", "price_minor": 111}))
    assert (refused.type, refused.data["reason"]) == ("PaymentRejected", "not_covered")
    (paid,) = talk(ask("PaySeller", "c-2", {"closing_id": "c-2", "price_minor": 480}))
    assert (paid.type, paid.data["price_minor"]) == ("SellerPaid", 480)
    (returned,) = talk(returning("c-1", "t-2"))
    assert (returned.type, returned.data["amount_minor"], returned.data["reversed"]) == ("DepositReturned", 40, True)
    assert participant.totals() == {
        "deposits": 3,
        "returns": 1,
        "payouts": 1,
        "received_minor": 610,
        "held_minor": 90,
        "returned_minor": 40,
        "paid_minor": 480,
        "deposits_returned_minor": 40,
        "payouts_minor": 480,
        "applied_twice": 0,
    }


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_the_escrow_accounts_add_up(steps: list[tuple[int, str, int]]) -> None:
    """A cent that is neither held nor returned nor paid, under some order of deposits, their copies, returns and payouts."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/participant.db")
        participant = bank.build(engine)
        talk = talk_to(participant)
        came: set[tuple[int, int]] = set()
        undone: set[tuple[int, int]] = set()
        for closing, what, number in steps:
            closing_id, fact_id = f"c-{closing}", f"t-{closing}-{number}"
            if what == "pay":
                talk(ask("PaySeller", closing_id, {"price_minor": closing + 1}, attempt=number))
            elif what == "return":
                talk(returning(closing_id, fact_id))
                undone.add((closing, number))
            else:
                is_too_late = (closing, number) in undone - came
                try:
                    participant.happened("FundsReceived", closing_id, {"amount_minor": number}, fact_id)
                    came.add((closing, number))
                except FactRefusedError:
                    assert is_too_late
        totals = participant.totals()
        engine.dispose()
    assert totals["applied_twice"] == 0
    assert totals["received_minor"] == sum(number for _, number in came)
    assert totals["returned_minor"] == totals["deposits_returned_minor"] == sum(number for _, number in came & undone)
    assert totals["paid_minor"] == totals["payouts_minor"]
    assert totals["held_minor"] == totals["received_minor"] - totals["returned_minor"] - totals["paid_minor"]


@pytest.mark.parametrize("amount_minor", [None, 0, -1, 1.0, True, "5", 10**30])
def test_the_bank_takes_amounts_that_make_sense(sqlite_engine: sa.Engine, amount_minor: object) -> None:
    """Floats, nothing and odd numbers must never be booked."""
    participant = bank.build(sqlite_engine)
    with pytest.raises(ValueError, match="whole number"):
        participant.happened("FundsReceived", "c-1", {"amount_minor": amount_minor}, "t-1")
    (refused,) = talk_to(participant)(ask("PaySeller", "c-1", {"price_minor": amount_minor}))
    assert (refused.type, refused.data["reason"]) == ("PaymentRejected", "price_not_valid")


def test_the_registry_strikes_what_it_recorded(engine: sa.Engine) -> None:
    """If it failed, a house would have two owners, or none."""
    participant = registry.build(engine)
    talk = talk_to(participant)
    commands = [ask("RecordDeed", f"c-{n}", {"closing_id": f"c-{n}", "property_id": "house-1"}) for n in range(3)]
    for command in commands[:2]:
        (recorded,) = talk(command)
        assert (recorded.type, recorded.data["property_id"]) == ("DeedRecorded", "house-1")
    for command in commands[1:]:
        (struck,) = talk(undo_of("StrikeDeed", command))
        assert (struck.type, struck.data["reversed"]) == ("DeedStruck", command is commands[1])
    assert participant.totals() == {"recorded": 2, "struck": 1, "standing": 1, "applied_twice": 0}
    (refused,) = talk(ask("RecordDeed", "c-9", {"closing_id": "c-9", "property_id": None}))
    assert (refused.type, refused.data["reason"]) == ("DeedRejected", "property_not_valid")
