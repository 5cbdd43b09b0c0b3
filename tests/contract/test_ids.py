"""The recipes of computed ids, fixed by literal examples: participants in other languages compute the same (R6, R20)."""

from __future__ import annotations

import pytest

from orchestrator.contract import (
    announcement_id,
    attempt_message_id,
    command_id,
    event_command_id,
    first_command_id,
    is_name,
    is_order_id,
    undo_id,
    undo_reply_id,
)

COMMAND = "e126f6cb-8558-53aa-aaeb-811e3cddc098"
ATTEMPT = "69a6711d-8ebf-59a0-a03f-d78d3925068f"


def test_the_recipes_are_fixed() -> None:
    """Else a new release asks and undoes under other ids than the one before it: effects are made twice, and never undone."""
    assert command_id("o1", 0, "reserve_inventory", 1) == COMMAND
    assert undo_id(COMMAND) == "53dc2a8e-3f09-52df-8666-1b95506f36b2"
    assert attempt_message_id(COMMAND, 1) == ATTEMPT
    assert attempt_message_id(COMMAND, 2) == "9c5dee64-7b35-5acc-8efb-d447e101101e"
    assert undo_reply_id(ATTEMPT) == "c085a5d2-ead8-563e-9ce5-a0db978f6bcd"
    assert announcement_id("o1", 3, "OrderCompleted") == "3234c891-3755-570d-8f5a-bb18d66b9a72"
    assert first_command_id("o1", "reserve_inventory") == COMMAND
    assert event_command_id("o1", "bank", "m-1") == "4a6aaaa8-4137-5d29-9609-bc53b7ece69e"


def test_texts_beyond_ascii_are_hashed_as_utf_8() -> None:
    """Else a library that escapes them computes other ids."""
    assert command_id("é", 2, "x", 10) == "dd7d863d-3c53-568e-a3ee-975a26c2855e"
    assert event_command_id("é", "bank", "m-1") == "7543b148-113c-596e-b98b-a9f167041687"


def test_a_message_id_need_not_be_a_uuid() -> None:
    """Else a participant whose undo came under another kind of id cannot confirm it."""
    assert undo_reply_id("not-a-uuid") == "1772a88f-3d3f-5026-8796-ec2f67b5fca6"


@pytest.mark.parametrize("text", ["o", "a" * 128, "A.b_c:d~e-1"])
def test_order_ids(text: str) -> None:
    """Else an order id of the contract is refused."""
    assert is_order_id(text)


@pytest.mark.parametrize("text", ["", "a" * 129, "a b", "é", "a\n", "a/b", 7, None])
def test_what_is_no_order_id(text: object) -> None:
    """Else an id comes in that a URL or a routing key cannot carry."""
    assert not is_order_id(text)


@pytest.mark.parametrize(("text", "good"), [("A", True), ("a-b_1", True), ("1a", False), ("a.b", False), ("a" * 65, False), ("", False)])
def test_names(text: str, good: bool) -> None:
    """Else a dot in a name splits a routing key."""
    assert is_name(text) is good
