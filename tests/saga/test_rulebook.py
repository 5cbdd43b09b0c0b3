"""The machine that makes every move (R3), and its picture."""

from __future__ import annotations

import itertools
import logging

import pytest

from orchestrator.saga.graph import mermaid
from orchestrator.saga.rulebook import NEW, Rulebook
from tests.saga.world import ORDER_RULES, TOUR_RULES

BOTH = pytest.mark.parametrize("rulebook", [ORDER_RULES, TOUR_RULES], ids=["order", "tour"])


@BOTH
def test_every_state_and_trigger_give_the_tables_state_or_none(rulebook: Rulebook) -> None:
    """Else a trigger that does not fit raises to the caller, or moves where no transition leads."""
    machine = rulebook.machine
    table = {
        (transition.source, name): transition.dest
        for name, event in machine.events.items()
        for transitions in event.transitions.values()
        for transition in transitions
    }
    for state, trigger in itertools.product([*machine.states, "nowhere"], [*machine.events, "nothing"]):
        assert rulebook.move(state, trigger) == table.get((state, trigger))


def test_a_machine_that_made_moves_keeps_no_models() -> None:
    """Else every order ever moved stays in memory."""
    for _ in range(10):
        ORDER_RULES.move(NEW, "open")
    assert ORDER_RULES.machine.models == []


def test_moves_are_not_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    """Else the library writes eight lines for every move."""
    with caplog.at_level(logging.INFO):
        ORDER_RULES.move(NEW, "open")
    assert caplog.records == []


def test_the_picture_is_the_table() -> None:
    """Else the diagram in the README shows another saga."""
    given_up = "silence (4 attempts of 30 s, 2 min 35 s in all), patience (30 min) or OrderCancelRequested"
    assert mermaid(ORDER_RULES).splitlines() == [
        "stateDiagram-v2",
        "    [*] --> reserving_inventory: OrderPlaced",
        "    reserving_inventory --> taking_payment: InventoryReserved",
        f"    reserving_inventory --> undoing_reserve_inventory: {given_up}",
        "    reserving_inventory --> compensated: InventoryRejected",
        "    taking_payment --> emailing_invoice: PaymentTaken",
        f"    taking_payment --> undoing_take_payment: {given_up}",
        "    taking_payment --> undoing_reserve_inventory: PaymentDeclined",
        "    emailing_invoice --> completed: InvoiceEmailed",
        "    emailing_invoice --> emailing_invoice: silence (1 min, asked again without limit, stuck after 5)",
        "    emailing_invoice --> undoing_take_payment: InvoiceRejected",
        "    undoing_take_payment --> undoing_take_payment: silence (30 s, asked again without limit, stuck after 5)",
        "    undoing_take_payment --> undoing_reserve_inventory: PaymentRefunded",
        "    undoing_reserve_inventory --> undoing_reserve_inventory: silence (30 s, asked again without limit, stuck after 5)",
        "    undoing_reserve_inventory --> compensated: InventoryReleased",
        "    completed --> [*]",
        "    compensated --> [*]",
    ]


def test_a_rulebook_knows_its_words() -> None:
    """Else the line counts an event of the definition as unknown, or a participant has no queue."""
    assert ORDER_RULES.participants == {"inventory", "payment", "invoice"}
    assert {"OrderPlaced", "OrderCancelRequested", "PaymentRefunded", "CommandTooLate"} <= ORDER_RULES.event_types
