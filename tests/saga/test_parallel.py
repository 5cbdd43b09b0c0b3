"""Steps side by side: asked at once, joined once, undone side by side (R11)."""

from __future__ import annotations

import pytest

from orchestrator.saga.graph import mermaid
from orchestrator.saga.standing import waiting_on
from tests.saga.world import TRIP_RULES, Story, story

BLOCK = ("room", "flight", "weather")


def booking() -> Story:
    """A trip whose block is asked."""
    return story("quote", rulebook=TRIP_RULES)


def test_all_steps_of_a_block_are_asked_at_once_each_with_its_own_deadline() -> None:
    """Else side by side is one after the other."""
    told = booking()
    assert [command.name for command in told.last.commands] == ["BookRoom", "BookFlight", "LookUp"]
    assert told.order.state == "booking"
    due = {name: deadline.due_at for name, deadline in told.order.deadlines.items() if name.startswith("reply:")}
    assert {name: (at - told.now).total_seconds() for name, at in due.items() if at is not None} == {
        "reply:room.0.1": 10,
        "reply:flight.0.1": 20,
        "reply:weather.0.1": 5,
    }
    assert [wait["participant"] for wait in waiting_on(TRIP_RULES, told.order)] == ["hotel", "airline", "station"]


@pytest.mark.parametrize("order", [BLOCK, BLOCK[::-1], ("flight", "room", "weather")])
def test_the_order_goes_on_once_when_the_last_is_done(order: tuple[str, ...]) -> None:
    """Else it goes on too soon, or asks the next step twice."""
    told = booking()
    for step in order[:-1]:
        told.answer(step)
        assert (told.order.state, told.last.commands) == ("booking", ())
    told.answer(order[-1])
    assert (told.order.state, [command.name for command in told.last.commands]) == ("pay", ["Pay"])
    assert told.answer(order[0]).verdict == "duplicate"
    assert told.sent.count("Pay") == 1


def test_a_refusal_undoes_the_others_also_those_still_unknown() -> None:
    """Else what stands beside the refused step is left standing, or done after the order has ended."""
    told = booking()
    told.answer("flight")
    told.answer("room", "refused")
    assert [command.name for command in told.last.commands] == ["CancelFlight"]
    assert (told.order.state, told.order.cause) == ("undoing_book", "refused")
    assert (told.ask("room").undo, told.ask("weather").forward) == ("none", "unknown")
    told.answer("flight", undo=True)
    assert (told.order.state, told.last.commands[0].name) == ("undoing_quote", "Unquote")

    silent = booking()
    silent.answer("room", "refused")
    assert [command.name for command in silent.last.commands] == ["CancelFlight"]


def test_a_block_is_undone_side_by_side_and_holds_back_what_came_before() -> None:
    """Else undoing is slower than doing, or out of order."""
    told = booking()
    for step in BLOCK:
        told.answer(step)
    told.answer("pay", "refused")
    assert [command.name for command in told.last.commands] == ["CancelRoom", "CancelFlight"]
    told.answer("flight", undo=True)
    assert (told.order.state, told.last.commands) == ("undoing_book", ())
    assert [wait["participant"] for wait in waiting_on(TRIP_RULES, told.order)] == ["hotel"]
    told.answer("room", undo=True)
    assert (told.order.state, told.last.commands[0].name) == ("undoing_quote", "Unquote")


def test_the_silence_of_one_undoes_all() -> None:
    """Else a silent branch holds the order for ever, or is forgotten."""
    told = booking()
    told.answer("room")
    told.exhaust("flight")
    assert sorted(command.name for command in told.last.commands) == ["CancelFlight", "CancelRoom"]
    assert told.order.cause == "silence"


def test_a_block_after_the_pivot_waits_for_an_operator_and_for_the_others() -> None:
    """Else a refusal there is forgotten when its neighbour is done, or stops it."""
    told = booking()
    for step in (*BLOCK, "pay"):
        told.answer(step)
    told.answer("mail", "refused")
    told.answer("call")
    assert (told.order.state, told.order.status) == ("tell", "stuck")
    assert "alert" in told.order.deadlines
    assert told.act("retry").verdict == "moved"
    assert [(command.name, command.attempt) for command in told.last.commands] == [("Mail", 1)]
    assert "alert" not in told.order.deadlines
    told.answer("mail")
    assert told.order.status == "completed"


def test_one_step_of_a_block_is_skipped_and_the_others_are_still_awaited() -> None:
    """Else a skip passes over its neighbours."""
    told = booking()
    told.answer("room")
    told.act("skip", step="flight")
    assert (told.order.state, told.ask("flight").forward) == ("booking", "unknown")
    told.answer("weather")
    assert told.order.state == "pay"


def test_a_force_to_a_block_asks_all_of_it_anew() -> None:
    """Else a forced order waits for answers it never asked for."""
    told = booking()
    for step in BLOCK:
        told.answer(step)
    told.answer("pay", "refused")
    for step in ("room", "flight"):
        told.answer(step, undo=True)
    told.act("force", to="quote", admin=True)
    told.answer("quote")
    assert [command.name for command in told.last.commands] == ["BookRoom", "BookFlight", "LookUp"]
    assert {command.epoch for command in told.last.commands} == {1}
    told.answer("room")
    told.act("force", to="booking", admin=True)
    assert [command.name for command in told.last.commands if command.undoes] == ["CancelRoom", "CancelFlight"]
    assert [command.name for command in told.last.commands if not command.undoes] == ["BookRoom", "BookFlight", "LookUp"]


def test_the_graph_shows_the_join() -> None:
    """Else the drawing says that one of them is enough."""
    drawn = mermaid(TRIP_RULES)
    assert "    booking --> pay: RoomBooked and FlightBooked and LookedUp" in drawn
    assert "    booking --> undoing_book: FlightRefused, RoomRefused" in drawn
    assert "    undoing_book --> undoing_quote: RoomCancelled and FlightCancelled" in drawn
