"""Where an order is in the diagram of its definition."""

from __future__ import annotations

from orchestrator.saga.graph import marks, mermaid
from tests.fuzz.seeds import EVERY_STATE, EVERY_WORD
from tests.saga.world import DEFINITIONS, LOAN_RULES, ORDER_RULES, TRIP_RULES, Story, compiled, story

HOUSE_RULES = compiled((DEFINITIONS / "house_closing.yaml").read_text(encoding="utf-8"))
WATCHED_RULES = compiled((DEFINITIONS / "order_watched.yaml").read_text(encoding="utf-8"))
CLOSING = {"closing_id": "o1", "property_id": "p1", "price_minor": 500, "funds_due_at": "2026-12-24T12:00:00Z"}
STATE_RULES, WORD_RULES = compiled(EVERY_STATE), compiled(EVERY_WORD)


def drawn(told: Story) -> list[str]:
    """The lines of classes, for an order with this story."""
    visited = {entry.to_state for entry in told.journal}
    lines = mermaid(told.rulebook, marks(told.rulebook, told.order.state, visited)).splitlines()
    return [line.strip() for line in lines if line.startswith("    class ")]


def test_an_order_shows_where_it_is_was_and_can_come_to() -> None:
    """If it failed, an operator would look at the wrong step."""
    assert drawn(story("reserve_inventory")) == [
        "class taking_payment current",
        "class reserving_inventory visited",
        "class emailing_invoice,undoing_reserve_inventory,undoing_take_payment possible",
    ]


def test_an_order_on_its_way_back_shows_the_next_undo() -> None:
    """If it failed, the way back would seem open to another step."""
    told = story("reserve_inventory")
    told.answer("take_payment", "refused")
    assert drawn(told) == [
        "class undoing_reserve_inventory current",
        "class reserving_inventory,taking_payment visited",
        "class compensated possible",
    ]


def test_an_ended_order_comes_to_nothing_more() -> None:
    """If it failed, an order that is over would seem to move."""
    told = story()
    told.act("abandon", admin=True)
    assert drawn(told) == ["class abandoned current", "class reserving_inventory visited"]
    assert "    abandoned --> [*]" in mermaid(ORDER_RULES, marks(ORDER_RULES, "abandoned", ()))


def test_every_state_that_is_possible_next_is_where_orders_come_to() -> None:
    """If it failed, an order would go where its diagram has no arrow."""
    for rulebook in (ORDER_RULES, TRIP_RULES, LOAN_RULES, WATCHED_RULES, WORD_RULES, HOUSE_RULES, STATE_RULES):
        machine = {
            (transition.source, transition.dest)
            for name, event in rulebook.machine.events.items()
            if not name.startswith(("force", "abandon"))
            for transitions in event.transitions.values()
            for transition in transitions
        }
        for state in rulebook.machine.states:
            assert {(state, target) for target in marks(rulebook, state, ()).possible} <= machine


def test_a_loop_in_vain_and_the_undo_of_the_turn_before_are_drawn() -> None:
    """If it failed, the diagram would have no way from the last turn to the undo."""
    lines = mermaid(LOAN_RULES).splitlines()
    assert "    score --> undoing_score: Scored [3 turns in vain]" in lines
    assert "    undoing_score --> undoing_score: Unscored" in lines
    assert not [line for line in lines if "thank" in line and "in vain" in line]


def test_silence_side_by_side_is_that_of_each() -> None:
    """If it failed, one deadline would seem to count for all."""
    lines = mermaid(TRIP_RULES).splitlines()
    silence = "silence of room (1 attempt of 10 s), flight (2 attempts of 20 s, 41 s in all) or weather (1 attempt of 5 s)"
    assert f"    booking --> undoing_book: {silence}, patience (10 min) or TripCancelled" in lines


def test_states_are_drawn_with_what_leads_out_of_them() -> None:
    """If it failed, whoever draws a house closing would not see how it goes on, or how it comes to nothing."""
    lines = [line.strip() for line in mermaid(HOUSE_RULES).splitlines()]
    for line in (
        "[*] --> awaiting_signatures: ClosingOpened",
        "awaiting_signatures --> awaiting_funds: BuyerSigned and SellerSigned",
        "awaiting_signatures --> awaiting_signatures: ClosingAmended",
        "awaiting_signatures --> closing_unfinished: after 14 d",
        "awaiting_signatures --> compensated: patience (60 d) or ClosingCalledOff",
        "awaiting_funds --> recording_deed: FundsReceived [event.amount_minor >= order.price_minor]",
        "awaiting_funds --> closing_unfinished: at order.funds_due_at",
        "recording_deed --> paying_seller: DeedRecorded",
        "recording_deed --> undoing_awaiting_funds: DeedRejected",
        "undoing_awaiting_funds --> closing_unfinished: DepositReturned",
        "undoing_awaiting_funds --> compensated: DepositReturned",
        "closed --> [*]: completed",
        "closing_unfinished --> [*]: failed",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith(("recording_deed --> compensated", "paying_seller --> undoing", "completed"))]


def test_money_that_came_early_is_on_the_way_back() -> None:
    """If it failed, a closing that was called off with the money parked would go where its diagram has no arrow."""
    told = Story(HOUSE_RULES, data=CLOSING)
    told.place()
    told.feed(told.message("FundsReceived", source="bank", data={"amount_minor": 500}))
    told.feed(told.message("ClosingCalledOff", source="agent"))
    assert told.order.state == "undoing_awaiting_funds"
    assert told.order.state in marks(HOUSE_RULES, "awaiting_signatures", ()).possible
    assert "awaiting_signatures --> undoing_awaiting_funds: turned back [FundsReceived came early]" in mermaid(HOUSE_RULES)


def test_an_end_that_undoes_by_name_and_a_state_entered_too_often_are_drawn() -> None:
    """If it failed, the diagram would lead to an end past the undos that it waits for."""
    lines = [line.strip() for line in mermaid(STATE_RULES).splitlines()]
    assert "signing --> undoing_scoring: TermsChanged [event.refused == true], at order.sign_by, patience (30 d) or RentWithdrawn" in lines
    assert "undoing_scoring --> not_rented: ScoreForgotten" in lines
    assert "undoing_signing --> not_rented: DepositReturned" in lines
    assert "scoring --> viewing: Unknown" in lines
    assert any(line.startswith("viewing --> compensated: Viewed [scoring was entered 2 times]") for line in lines)


def test_what_others_bring_about_is_undone_though_the_order_never_came_to_it() -> None:
    """If it failed, the diagram would send a choreography that is called off past the step that stops it."""
    lines = [line.strip() for line in mermaid(WATCHED_RULES).splitlines()]
    silence = "silence (watched for 30 s, then 4 attempts of 30 s, 3 min 5 s in all)"
    assert f"updating_inventory --> undoing_email_invoice: {silence}, patience (30 min) or OrderCancelRequested" in lines
    assert "updating_inventory --> undoing_email_invoice: InventoryRejected" in lines
    assert "undoing_email_invoice --> undoing_update_inventory: InvoiceCancelled" in lines
    assert "undoing_email_invoice --> compensated: InvoiceCancelled" in lines
    assert not [line for line in lines if line.startswith("updating_inventory --> compensated")]
