"""No command outgrows a message, whatever is placed and whatever participants answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.app import operate
from orchestrator.app.sizes import COMMAND_DATA_BYTES_MAX, ENVELOPE_BYTES_MAX, too_large
from orchestrator.app.work import Work
from orchestrator.contract import Envelope, canonical, command_id, encode, undo_id
from orchestrator.contract.envelope import ATTRIBUTE_CHARS_MAX, BODY_BYTES_MAX
from orchestrator.errors import InvariantViolated, Unprocessable
from orchestrator.loading import load_definitions
from orchestrator.saga import definition
from orchestrator.saga.decide import decide
from orchestrator.saga.inputs import Message, OperatorAct
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from tests.app.house import DATA, Gateway, House, answer, message, placed, said

#: Each command takes as much as a definition can say: all data, paths that lie within each other, fields that nobody has.
WIDE = """
definition: wide
version: 1
opens_on: WidePlaced
key: order_id
patience: 1h
steps:
  - step: a
    ask: p
    command: DoA
    done_on: ADone
    deadline: 1m
    undo: {command: UndoA, with: [order_id, note, a.x, a.x.y, a.x.y.z, b.other], done_on: AUndone, deadline: 1m}
  - step: b
    ask: p
    command: DoB
    with: [order_id, note, a.x, a.x.y, nothing, a.no.where]
    done_on: BDone
    deadline: 1m
    undo: {command: UndoB, with: [b.other, a.x.y.z], done_on: BUndone, deadline: 1m}
  - step: c
    ask: p
    command: DoC
    with: [note, a.x, b.other]
    done_on: CDone
    deadline: 1m
    pivot: true
"""
_numbers = itertools.count(1)
CHARACTERS = st.sampled_from(["x", "é", "\x01", '"', "\U0001f600"])
LENGTHS = st.integers(0, 20_000) | st.integers(20_000, 66_000)
TEXTS = st.builds(lambda character, length: character * (length // len(canonical.encode(character))), CHARACTERS, LENGTHS)


@pytest.fixture(scope="module")
def wide_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that knows the definition above."""
    directory: Path = tmp_path_factory.mktemp("wide")
    house = House(f"sqlite:///{directory}/escrow.db")
    house.store.register(load_definitions(None, extra=[definition.read(WIDE, "wide.yaml")]))
    yield house
    house.close()


@settings(max_examples=60, deadline=None)
@given(note=TEXTS, nested=st.tuples(TEXTS, TEXTS, TEXTS), other=TEXTS, answers=st.integers(0, 2))
def test_whatever_is_taken_in_its_commands_can_be_sent(
    wide_house: House, note: str, nested: tuple[str, str, str], other: str, answers: int
) -> None:
    """If it failed, a participant would drop a command, and its order would wait for ever, or not be undone."""
    house, order_id = wide_house, f"o{next(_numbers)}"
    opening = Envelope(id=f"w-{order_id}", source="x" * 256, type="WidePlaced", subject=order_id, data={"order_id": order_id, "note": note})
    x, y, z = nested
    works = [
        message(replace(opening, id="\x01" * ATTRIBUTE_CHARS_MAX)),
        answer_of(order_id, "a", "ADone", {"x": {"in_x": x, "y": {"in_y": y, "z": z}}}),
        answer_of(order_id, "b", "BDone", {"other": other}),
    ]
    sent = []
    for work in works[: 1 + answers]:
        handled = house.handle(work)
        sent += handled.outbox
        decision = handled.outcomes[0][1].decision
        assert decision is not None
        assert decision.quarantine in {None, "oversized", "unknown_command"}
    order = house.queries.order(order_id)
    if order is not None and not order.pivot_passed:
        act = OperatorAct(act="abort", actor="op", reason="test", seq=order.seq)
        sent += house.handle(Work(order_id=order_id, input=act)).outbox
        sent += house.handle(answer_of(order_id, "b", "BUndone", {}, undo=True)).outbox
    assert all(len(each.body) <= BODY_BYTES_MAX for each in sent)


def answer_of(order_id: str, step: str, name: str, data: dict[str, Any], *, undo: bool = False) -> Work:
    """What the participant of the definition above says to a step, or to its undo."""
    asked = command_id(order_id, 0, step, 1)
    asked = undo_id(asked) if undo else asked
    return message(Envelope(id=f"{name}-{order_id}", source="p", type=name, subject=order_id, data=data, commandid=asked))


def test_the_attributes_of_a_command_fit_into_what_is_left_for_them() -> None:
    """If it failed, data within the limit would make a message beyond it."""
    largest = Envelope(
        id="i" * 36,
        source="escrow",
        type="T" * 64,
        subject="s" * 128,
        time=None,
        data={},
        commandid="c" * 36,
        undoes="u" * 36,
        attempt=2**63,
        epoch=2**63,
        causationid="\x01" * ATTRIBUTE_CHARS_MAX,
    )
    assert len(encode(largest).body) + len('"time":"2026-11-01T12:00:00.000000Z",') <= ENVELOPE_BYTES_MAX


def room(order_id: str, **data: Any) -> int:
    """Bytes to spare in the largest command of such an order, EmailInvoice."""
    carried = DATA | {"order_id": order_id, "payment_id": None} | data
    return COMMAND_DATA_BYTES_MAX - len(canonical.encode(carried))


@pytest.mark.parametrize(("beyond", "reasons"), [(0, []), (1, ["oversized"])])
def test_an_order_is_taken_up_to_the_limit(house: House, beyond: int, reasons: list[str]) -> None:
    """If it failed, an order would be refused that could be served, or taken that could not."""
    house.handle(placed("o1", data=DATA | {"lines": "x" * (room("o1", lines="") + beyond)}))
    assert (house.queries.order("o1") is None) is bool(beyond)
    assert [row.reason for row in house.queries.quarantine()[0]] == reasons


def test_an_answer_is_taken_up_to_the_limit(house: House) -> None:
    """If it failed, the order would pass its pivot with a command that cannot be sent."""
    house.handle(placed("o1"), answer("o1", "reserve_inventory", "InventoryReserved"))
    before, most = house.order("o1"), room("o1", payment_id="")
    house.handle(answer("o1", "take_payment", "PaymentTaken", message_id="m1", data={"payment_id": "x" * (most + 1)}))
    assert house.order("o1") == before
    assert [(row.reason, row.order_id) for row in house.queries.quarantine()[0]] == [("oversized", "o1")]
    handled = house.handle(answer("o1", "take_payment", "PaymentTaken", message_id="m2", data={"payment_id": "x" * most}))
    assert said(handled.outbox) == [("o1", "EmailInvoice")]


def test_an_oversized_order_over_rest_is_told_and_not_kept(house: House) -> None:
    """If it failed, a caller would be promised an order that hangs; or its mistake be an operator's."""
    data = DATA | {"lines": "x" * COMMAND_DATA_BYTES_MAX}
    with pytest.raises(Unprocessable, match="ReserveInventory would carry"):
        operate.place(Gateway(house), definition="order", order_id="o1", data=data, actor="ada")
    assert (house.queries.order("o1"), house.queries.quarantine()[0]) == (None, [])


def test_a_command_beyond_the_limit_is_never_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a bug in the sizing would be a command that nobody gets, and nobody hears of."""
    monkeypatch.setattr("orchestrator.app.handle.too_large", lambda *_: None)
    with pytest.raises(InvariantViolated, match="a message has at most"):
        house.handle(placed("o1", data=DATA | {"lines": "x" * BODY_BYTES_MAX}))
    assert house.queries.order("o1") is None


#: What an order takes in after its opening: data that events change, and notices and undos that carry it.
LISTENING = """
definition: listening
version: 1
opens_on: ListeningOpened
key: order_id
patience: 1d
states:
  waiting:
    on:
      Noted: {set: {note: event.note}}
      Paid:
        then: telling
        undo: {ask: bank, command: PayBack, with: {to: replies.Paid.nowhere, note: order.note}, done_on: PaidBack, deadline: 1m}
    deadline: {after: 1h, then: off}
  telling:
    ask: agent
    command: Tell
    with: {nothing: order.nothing, both: order.order_id + order.note}
    on: {Told: done}
    deadline: {after: 1h, then: off}
  done: {outcome: completed}
  off: {outcome: failed}
"""

BEFORE_IT = """
  beginning:
    on: {Begun: waiting}
    deadline: {after: 1h, then: off}
  waiting:
"""


def grown(note: str) -> tuple[Rulebook, Order, Order]:
    """An order before and after an event changed its data."""
    rulebook = Rulebook(definition.read(LISTENING, "listening.yaml").expanded)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    opened = decide(rulebook, None, Message(envelope=event_of("ListeningOpened", {"order_id": "o1"})), now).order
    noted = decide(rulebook, opened, Message(envelope=event_of("Noted", {"note": note})), now).order
    assert opened is not None
    assert noted is not None
    return rulebook, opened, noted


def event_of(name: str, data: dict[str, Any]) -> Envelope:
    """An event from outside."""
    return Envelope(id=name, source="shop", type=name, subject="o1", data=data)


def test_data_that_an_event_changes_is_sized_against_notices_and_undos_that_cannot_be_computed_whole() -> None:
    """If it failed, a notice or an undo would outgrow a message when it is sent, and nobody could take in its order any more."""
    room = COMMAND_DATA_BYTES_MAX - len(canonical.encode({"nothing": None, "both": "o1"}))
    assert too_large(*grown("x" * room)) is None
    assert (too_large(*grown("x" * (room + 1))) or "").startswith("Tell would carry")
    beyond = COMMAND_DATA_BYTES_MAX - len(canonical.encode({"to": None, "note": ""})) + 1
    assert (too_large(*grown("x" * beyond)) or "").startswith("PayBack would carry")


def test_what_no_command_carries_is_not_sized() -> None:
    """If it failed, an order would be refused for a command that an event from outside does not have."""
    rulebook, opened, noted = grown("x" * 1000)
    wide = replace(noted, amended={"note": "x", "other": "x" * COMMAND_DATA_BYTES_MAX})
    assert too_large(rulebook, opened, wide) is None


def test_what_is_parked_is_sized_when_it_is_parked() -> None:
    """If it failed, an order would keep an event that it could never apply."""
    text = LISTENING.replace("{nothing: order.nothing, both: order.order_id + order.note}", "[order_id, Paid.receipt]")
    text = text.replace("  waiting:\n", BEFORE_IT)
    rulebook = Rulebook(definition.read(text, "listening.yaml").expanded)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    opened = decide(rulebook, None, Message(envelope=event_of("ListeningOpened", {"order_id": "o1"})), now).order
    paid = decide(rulebook, opened, Message(envelope=event_of("Paid", {"receipt": "x" * COMMAND_DATA_BYTES_MAX})), now)
    assert (paid.verdict, paid.order is not None) == ("parked", True)
    assert paid.order is not None
    assert (too_large(rulebook, opened, paid.order) or "").startswith("Tell would carry")
