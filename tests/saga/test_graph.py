"""Where an order is in the diagram of its definition."""

from __future__ import annotations

from orchestrator.saga.graph import marks, mermaid
from tests.saga.world import LOAN_RULES, ORDER_RULES, TRIP_RULES, Story, story


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
    for rulebook in (ORDER_RULES, TRIP_RULES, LOAN_RULES):
        machine = {
            (transition.source, transition.dest)
            for name, event in rulebook.machine.events.items()
            if not name.startswith(("force", "abandon"))
            for transitions in event.transitions.values()
            for transition in transitions
        }
        for state in rulebook.by_state:
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
