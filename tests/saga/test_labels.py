"""Labels: which fields of an order's data it keeps to be found by, and that they stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.saga.definition import read
from orchestrator.saga.labels import LABELS_MAX, VALUE_CHARS_MAX, labels_of
from orchestrator.saga.order import from_document, to_document
from tests.saga.world import DATA, ORDER_TEXT, Story, compiled


def labelled(labels: str) -> str:
    """The shipped definition with labels."""
    return ORDER_TEXT.replace("key: order_id\n", f"key: order_id\nlabels: {labels}\n")


VALUES: list[tuple[Any, str | None]] = [
    ("eu", "eu"),
    ("a:b=c d\n", "a:b=c d\n"),
    ("é" * VALUE_CHARS_MAX, "é" * VALUE_CHARS_MAX),
    ("é" * (VALUE_CHARS_MAX + 1), None),
    ("", None),
    (0, "0"),
    (-7, "-7"),
    (10**VALUE_CHARS_MAX, None),
    (True, "true"),
    (False, "false"),
    (1.5, None),
    (None, None),
    ([1], None),
    ({"a": 1}, None),
]


@pytest.mark.parametrize(("value", "kept"), VALUES, ids=lambda value: repr(value)[:20])
def test_what_a_label_can_be(value: Any, kept: str | None) -> None:
    """Else an order is found by what its label is not, or one that is no label stops it."""
    assert labels_of(["region"], {"region": value, "other": "x"}) == ({} if kept is None else {"region": kept})


def test_what_is_missing_is_left_out() -> None:
    """Else an order without the field is refused, or found by an empty text."""
    assert labels_of(["region", "vip"], {"vip": True}) == {"vip": "true"}
    assert labels_of([], {"vip": True}) == {}


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=3))
def test_a_label_is_a_short_text_or_none(value: Any) -> None:
    """Else a value could outgrow the index that orders are found by."""
    assert all(1 <= len(text) <= VALUE_CHARS_MAX for text in labels_of(["a"], {"a": value}).values())


def test_an_order_keeps_the_labels_of_its_opening() -> None:
    """Else an order would be found by other values from one day to the next, or by none after a restart (R25)."""
    story = Story(compiled(labelled("[currency, amount_minor, region]")))
    story.place()
    assert story.order.labels == {"currency": "EUR", "amount_minor": "500"}
    story.answer("reserve_inventory", data={"currency": "USD", "region": "us"})
    story.answer("take_payment", "refused")
    story.answer("reserve_inventory", undo=True)
    assert story.order.labels == {"currency": "EUR", "amount_minor": "500"}
    assert from_document(to_document(story.order)) == story.order


def test_an_order_without_labels_journals_none() -> None:
    """Else every opening would carry an empty map for ever."""
    story = Story()
    story.place()
    assert story.order.labels == {}
    assert b"labels" not in story.journal[0].patch


WRONG = [
    ("[]", None),
    (f"[{', '.join(f'f{n}' for n in range(LABELS_MAX))}]", None),
    (f"[{', '.join(f'f{n}' for n in range(LABELS_MAX + 1))}]", "labels"),
    ("[region, region]", "labels"),
    ("region", "labels"),
    ("[a b]", "labels[0]"),
    ("[region, take_payment.payment_id]", "labels[1]"),
    ("[a:b]", "labels[0]"),
    ("[7]", "labels[0]"),
    ("{region: eu}", "labels"),
]


@pytest.mark.parametrize(("labels", "path"), WRONG)
def test_labels_are_a_few_fields_each_named_once(labels: str, path: str | None) -> None:
    """Else a typing error in a definition shows when nobody finds an order."""
    if path is None:
        assert compiled(labelled(labels)).labels == tuple(read(labelled(labels), "order.yaml").raw["labels"])
        return
    with pytest.raises(DefinitionError) as caught:
        read(labelled(labels), "order.yaml")
    assert [finding.path for finding in caught.value.findings] == [path]
    assert caught.value.findings[0].line == labelled(labels)[: labelled(labels).index("\nlabels:")].count("\n") + 2


def test_labels_are_no_part_of_what_is_sent() -> None:
    """Else a participant would be sent what it was not to know."""
    plain, found = Story(), Story(compiled(labelled("[currency]")))
    plain.place()
    found.place()
    assert [command.data for command in found.commands] == [command.data for command in plain.commands]
    assert found.order.data == DATA
