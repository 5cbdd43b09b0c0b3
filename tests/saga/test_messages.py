"""The table of R1, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract import undo_id
from tests.saga.world import DATA, Story, story


def test_a_message_seen_before_is_counted_and_not_journaled() -> None:
    """Else a redelivery is applied twice (R15)."""
    told = story()
    message = told.message("InventoryReserved", source="inventory", commandid=told.ask("reserve_inventory").command_id)
    told.feed(replace(message, seen="same"))
    assert (told.last.verdict, told.last.entry, told.order.seq) == ("duplicate", None, 1)


def test_a_known_id_with_another_body_is_quarantined_without_its_id() -> None:
    """Else a reused id hides a message, or its replay counts as seen (R15)."""
    told = story()
    told.feed(replace(told.message("InventoryReserved", source="inventory"), seen="other"))
    assert (told.last.verdict, told.last.quarantine) == ("refused", "id_reused")
    assert told.journal[-1].message_id is None


@pytest.mark.parametrize(
    ("data", "quarantine"),
    [(DATA, None), ({**DATA, "amount_minor": 501}, "order_exists"), ({**DATA, "amount_minor": 500.0}, "order_exists")],
    ids=["equal", "other", "other-number"],
)
def test_an_order_opens_once(data: dict[str, object], quarantine: str | None) -> None:
    """Else a repeated opening is an error, or a different one passes for the same (R16)."""
    told = story()
    told.feed(told.message("OrderPlaced", source="shop", data=data))
    assert told.last.quarantine == quarantine
    assert told.last.verdict == ("refused" if quarantine else "duplicate")


def test_the_opening_of_another_definition_is_quarantined() -> None:
    """Else one order id is two orders (R16)."""
    told = story()
    told.feed(replace(told.message("OtherPlaced", source="shop", data=DATA), opens=True))
    assert told.last.quarantine == "order_exists"


def test_an_abort_event_enters_undo_and_is_late_on_the_way_back_and_at_the_end() -> None:
    """Else a customer's cancellation is lost, or undoes twice."""
    told = story()
    told.feed(told.message("OrderCancelRequested", source="shop"))
    assert (told.last.verdict, told.order.cause) == ("moved", "aborted")
    assert told.feed(told.message("OrderCancelRequested", source="shop")).verdict == "late"
    told.answer("reserve_inventory", undo=True)
    assert told.feed(told.message("OrderCancelRequested", source="shop")).verdict == "late"
    assert told.order.state == "compensated"


@pytest.mark.parametrize(
    ("source", "commandid", "code"),
    [("inventory", "of-nobody", "unknown_command"), ("payment", None, "wrong_source")],
)
def test_an_answer_of_a_stranger_is_quarantined(source: str, commandid: str | None, code: str) -> None:
    """Else any participant can move any order."""
    told = story()
    ask = told.ask("reserve_inventory")
    told.feed(told.message("InventoryReserved", source=source, commandid=commandid or ask.command_id))
    assert (told.last.verdict, told.last.quarantine) == ("refused", code)
    assert told.order.asks == {ask.key: ask}


def test_the_id_of_an_undo_that_was_not_sent_is_of_no_command() -> None:
    """Else an undo is confirmed before it was asked."""
    told = story()
    commandid = undo_id(told.ask("reserve_inventory").command_id)
    told.feed(told.message("InventoryReleased", source="inventory", commandid=commandid))
    assert told.last.quarantine == "unknown_command"


def test_a_reply_leaves_the_outbox_and_stops_its_clocks() -> None:
    """Else an answered command is sent again (R17)."""
    told = story()
    told.answer("reserve_inventory")
    assert told.last.answered == (told.ask("reserve_inventory").command_id,)
    assert not [name for name in told.order.deadlines if "reserve_inventory" in name]
    told.act("abort")
    told.answer("take_payment", undo=True)
    assert told.last.answered == (undo_id(told.ask("take_payment").command_id),)


def test_a_repeated_answer_is_a_duplicate_and_journaled() -> None:
    """Else equal content under a new id goes on twice."""
    told = story("reserve_inventory")
    assert told.answer("reserve_inventory").verdict == "duplicate"
    assert told.last.entry is not None
    told.act("abort")
    told.answer("take_payment", undo=True)
    assert told.answer("take_payment", undo=True).verdict == "duplicate"


def test_an_answer_without_commandid_is_quarantined() -> None:
    """Else a reply is taken on its name alone."""
    told = story()
    told.feed(told.message("InventoryReserved", source="inventory"))
    assert told.last.quarantine == "no_commandid"


@pytest.mark.parametrize("with_id", [False, True])
def test_anything_else_is_ignored_with_its_reason(with_id: bool) -> None:
    """Else an unexpected event raises, or leaves no trace."""
    told = story()
    commandid = told.ask("reserve_inventory").command_id if with_id else None
    told.feed(told.message("Sneezed", source="inventory", commandid=commandid))
    assert told.last.verdict == "ignored"
    assert told.journal[-1].reason is not None


def test_a_confirmation_of_another_kind_is_ignored() -> None:
    """Else any event under the undo's id confirms it."""
    told = story()
    told.act("abort")
    commandid = undo_id(told.ask("reserve_inventory").command_id)
    told.feed(told.message("InventoryReserved", source="inventory", commandid=commandid))
    assert (told.last.verdict, told.order.state) == ("ignored", "undoing_reserve_inventory")


def test_a_message_applied_from_parked_is_an_entry_with_its_cause_and_no_id() -> None:
    """Else applying a parked message collides with the entry that recorded it (R15)."""
    told = story()
    message = told.message("InventoryReserved", source="inventory", commandid=told.ask("reserve_inventory").command_id)
    told.feed(replace(message, cause_seq=1))
    assert (told.journal[-1].cause_seq, told.journal[-1].message_id, told.journal[-1].source) == (1, None, None)


def test_the_first_record_of_a_message_names_its_source_and_id() -> None:
    """Else a redelivery cannot be told from news (R15)."""
    told = Story()
    told.place()
    assert (told.journal[0].source, told.journal[0].message_id) == ("shop", "m1")
    assert (told.journal[0].from_state, told.journal[0].to_state) == (None, "reserving_inventory")
