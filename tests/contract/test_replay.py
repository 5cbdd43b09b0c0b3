"""The messages of a replay: what is written is read, and nonsense is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract import Envelope, MessageError, Wire, canonical
from orchestrator.contract.canonical import DEPTH_MAX
from orchestrator.contract.replay import (
    REPLAY,
    REPLAY_BYTES_MAX,
    ReplayedCommand,
    ReplayedEvent,
    ReplayedFact,
    ReplayEnd,
    ReplayMessage,
    decode_replay,
    encode_replay,
)

COMMAND = Envelope(id="m-1", source="escrow", type="ReserveInventory", subject="o-1", data={"lines": []}, commandid="c-1", attempt=1)
ANSWER = Envelope(id="r-1", source="inventory", type="InventoryReserved", subject="o-1", data={}, commandid="c-1")
EVENT = Envelope(id="e-1", source="warehouse", type="StockReceived", subject="TEA-1", data={"sku": "TEA-1", "units": 5})
END = ReplayEnd(request_id="q-1", commands=2, facts=0, events=1)


def nested(levels: int) -> dict[str, object]:
    """Data of so many containers inside one another."""
    data: dict[str, object] = {}
    for _ in range(levels - 1):
        data = {"in": data}
    return data


@pytest.mark.parametrize(
    "message",
    [
        ReplayedCommand(message=COMMAND, answer=ANSWER, outcome="done"),
        ReplayedCommand(message=COMMAND, answer=None, outcome=None),
        ReplayedCommand(message=EVENT, answer=ANSWER, outcome="refused"),
        ReplayedFact(message=replace(EVENT, source="inventory")),
        ReplayedEvent(message=EVENT),
        ReplayedEvent(message=replace(EVENT, data=nested(DEPTH_MAX))),
        END,
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_written_is_read(message: ReplayMessage) -> None:
    """If it failed, a participant would rebuild another past than the journal's."""
    wire = encode_replay(message)
    assert wire.content_type == REPLAY
    assert decode_replay(wire) == message
    assert encode_replay(decode_replay(wire)) == wire


def changed(message: ReplayMessage, /, **changes: object) -> Wire:
    """The message with parts of its document replaced."""
    document = canonical.load(encode_replay(message).body)
    return Wire(content_type=REPLAY, headers={}, body=canonical.encode(document | changes))


ASKED = ReplayedCommand(message=COMMAND, answer=ANSWER, outcome="done")


@pytest.mark.parametrize(
    ("wire", "what"),
    [
        (Wire(content_type="application/json", headers={}, body=b"{}"), "content type"),
        (Wire(content_type=REPLAY, headers={}, body=b"{"), "not JSON"),
        (Wire(content_type=REPLAY, headers={}, body=b"[]"), "kind is None"),
        (Wire(content_type=REPLAY, headers={}, body=b" " * (REPLAY_BYTES_MAX + 1)), "at most"),
        (changed(ASKED, kind="begin"), "kind is 'begin'"),
        (changed(ASKED, kind=["command"]), "kind is"),
        (changed(ASKED, message=None), "JSON object"),
        (changed(ASKED, message={}), "specversion"),
        (changed(ASKED, outcome="perhaps"), "outcome is 'perhaps'"),
        (changed(ASKED, outcome=["done"]), "outcome is"),
        (changed(ASKED, outcome=None), "outcome is None"),
        (changed(ASKED, answer=None), "no answer has none"),
        (
            changed(ASKED, answer=None, outcome=None, message=canonical.load(encode_replay(ReplayedEvent(message=EVENT)).body)["message"]),
            "Neither",
        ),
        (changed(ReplayedCommand(message=EVENT, answer=replace(ANSWER, commandid=None), outcome="done")), "Neither"),
        (changed(END, request_id=""), "request_id"),
        (changed(END, request_id=5), "request_id"),
        (changed(END, commands=-1), "commands"),
        (changed(END, events=True), "events"),
        (changed(END, facts="1"), "facts"),
    ],
)
def test_nonsense_is_refused(wire: Wire, what: str) -> None:
    """If it failed, a message of somebody else would make up a past, or end a replay that goes on."""
    with pytest.raises(MessageError, match=what):
        decode_replay(wire)
