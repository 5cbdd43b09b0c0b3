"""A house is sold, end to end: the shipped definition of the state form with the real agent, bank and registry, over RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import wiring
from orchestrator.contract.canonical import format_time
from orchestrator.files import read_text, shipped_definition
from tests.acceptance.installation import Installation, installed
from tests.support import services
from tests.support.processes import eventually

PARTICIPANTS = ("agent", "bank", "registry")
PRICE_MINOR = 50_000_000
#: The shipped durations that a test would wait for, and what it waits instead.
FASTER = {"every: 2d": "every: 2500ms", "after: 14d": "after: 12s", "deadline: 1d": "deadline: 2s"}


@pytest.fixture(scope="module")
def closings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """API, two workers, agent, bank and registry."""
    home = tmp_path_factory.mktemp("closings")
    with services.fresh_postgres() as database_url, installed(home, database_url=database_url, amqp_url=services.amqp_url()) as escrow:
        text = read_text(Path(shipped_definition("house_closing").file))
        for slow, fast in FASTER.items():
            assert slow in text
            text = text.replace(slow, fast)
        (home / "definitions" / "house_closing.yaml").write_text(text, encoding="utf-8")
        escrow.start(participants=PARTICIPANTS)
        yield escrow
        escrow.assert_nothing_twice()


class Closing:
    """One closing, and what happens to it at the services."""

    def __init__(self, escrow: Installation, *, funds_within_s: float = 60) -> None:
        self.escrow = escrow
        self.order_id = escrow.new_id("closing")
        self.due_at = format_time(wiring.now() + timedelta(seconds=funds_within_s))
        data = {"closing_id": self.order_id, "property_id": "P-1", "price_minor": PRICE_MINOR, "funds_due_at": self.due_at}
        self.happens("agent", "ClosingOpened", "1", **data)

    def happens(self, service: str, fact: str, fact_id: str = "1", /, **data: Any) -> None:
        """Something happens at a service, and it says so."""
        body = {"type": fact, "order_id": self.order_id, "data": data, "fact_id": f"{self.order_id}.{fact_id}"}
        httpx.post(f"{self.escrow.door(service)}/facts", json=body).raise_for_status()

    def sign(self) -> None:
        """Both parties sign."""
        self.happens("agent", "SellerSigned")
        self.happens("agent", "BuyerSigned")

    def pay(self, amount_minor: int = PRICE_MINOR, fact_id: str = "1") -> None:
        """Money comes to the bank."""
        self.happens("bank", "FundsReceived", fact_id, amount_minor=amount_minor)

    def reaches(self, state: str, status: str = "running") -> dict[str, Any]:
        """Wait until it is there."""
        return self.escrow.wait(self.order_id, status, state=state)


def test_a_house_is_sold(closings: Installation) -> None:
    """If it failed, the shipped escrow of the state form would not come to its end with real services."""
    paid_before = closings.totals("bank")["paid_minor"]
    closing = Closing(closings)
    closing.sign()
    closing.reaches("awaiting_funds")
    closing.pay()
    order = closing.reaches("closed", "completed")
    assert order["cause"] is None
    assert closings.totals("bank")["paid_minor"] == paid_before + PRICE_MINOR


def test_money_that_is_too_little_goes_back_and_enough_is_awaited_on(closings: Installation) -> None:
    """If it failed, a refused deposit would stay at the bank, or close the house for less than its price."""
    closing = Closing(closings)
    closing.sign()
    closing.reaches("awaiting_funds")
    closing.pay(PRICE_MINOR - 1, "short")
    closings.wait_verdicts(closing.order_id, "DepositReturned", "moved")
    assert closings.verdicts(closing.order_id, "FundsReceived") == ["refused"]
    closing.pay(PRICE_MINOR, "whole")
    closing.reaches("closed", "completed")


def test_money_that_comes_first_is_kept_until_both_have_signed(closings: Installation) -> None:
    """If it failed, the order of two services' messages would decide about a sale."""
    closing = Closing(closings)
    closing.pay()
    closings.wait_verdicts(closing.order_id, "FundsReceived", "parked")
    assert [event["event"] for event in closings.order(closing.order_id)["parked"]] == ["FundsReceived"]
    closing.sign()
    closing.reaches("closed", "completed")
    assert closings.verdicts(closing.order_id, "FundsReceived") == ["parked", "moved"]


def test_without_signatures_the_agent_is_reminded_and_money_goes_back(closings: Installation) -> None:
    """If it failed, nobody would chase the parties, or a deposit would stay behind when the sale comes to nothing."""
    closing = Closing(closings)
    closing.pay()
    order = closing.reaches("closing_unfinished", "failed")
    assert order["cause"] == "deadline"
    reminders = [sent for sent in closings.sendings(closing.order_id) if sent[0] == "ChaseSignatures"]
    assert 3 <= len(reminders) <= 5
    assert closings.verdicts(closing.order_id, "DepositReturned") == ["moved"]

    def balanced() -> bool:
        bank = closings.totals("bank")
        assert bank["held_minor"] == 0, bank
        return True

    eventually(balanced, 20, what="the bank holds nothing")


def test_money_that_comes_after_the_time_goes_back(closings: Installation) -> None:
    """If it failed, money that came too late would be taken for a sale that is over."""
    closing = Closing(closings, funds_within_s=1.5)
    closing.sign()
    closing.reaches("closing_unfinished", "failed")
    closing.pay()
    closings.wait_verdicts(closing.order_id, "DepositReturned", "moved")
    assert closings.verdicts(closing.order_id, "FundsReceived") == ["late"]
    closing.reaches("closing_unfinished", "failed")


def test_an_amendment_moves_the_deadline_and_an_older_one_does_not(closings: Installation) -> None:
    """If it failed, parties who agreed on another day would lose the sale, or an old letter would undo a new one."""
    closing = Closing(closings, funds_within_s=2.5)
    later = format_time(wiring.now() + timedelta(seconds=60))
    closing.happens("agent", "ClosingAmended", "second", amendment=2, price_minor=PRICE_MINOR + 7, funds_due_at=later)
    closings.wait_verdicts(closing.order_id, "ClosingAmended", "moved")
    closing.happens("agent", "ClosingAmended", "first", amendment=1, price_minor=1, funds_due_at=closing.due_at)
    closings.wait_verdicts(closing.order_id, "ClosingAmended", "moved", "late")
    closing.sign()
    waiting = closing.reaches("awaiting_funds")
    assert waiting["waiting_on"][0]["deadline_at"] == later
    closing.pay(PRICE_MINOR + 7)
    closing.reaches("closed", "completed")


def test_a_registry_that_refuses_gives_the_money_back(closings: Installation) -> None:
    """If it failed, a refused pivot would leave the deposit in escrow for ever."""
    closing = Closing(closings)
    closing.sign()
    closing.reaches("awaiting_funds")
    closings.tell("registry", refuse=1)
    closing.pay()
    order = closing.reaches("closing_unfinished", "failed")
    assert order["cause"] == "refused"
    assert closings.verdicts(closing.order_id, "DepositReturned") == ["moved"]


def test_a_closing_outlives_every_worker(closings: Installation) -> None:
    """If it failed, the deadline of a state, or an event that came early, would be forgotten by a kill -9."""
    closing = Closing(closings)
    closing.pay()
    closings.wait_verdicts(closing.order_id, "FundsReceived", "parked")
    for worker in closings.workers:
        worker.kill()
    closings.workers.clear()
    closings.start_worker()
    closing.sign()
    closing.reaches("closed", "completed")
