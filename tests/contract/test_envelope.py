"""The envelope, in both modes, against the CloudEvents SDK, and against garbage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract import Envelope, Wire, decode, digest, encode, encode_binary
from orchestrator.contract.envelope import STRUCTURED, attributes
from orchestrator.errors import MalformedMessage, MessageError, OversizedMessage

WHOLE = Envelope(
    id="m1",
    source="inventory",
    type="InventoryReserved",
    subject="order-1",
    time=datetime(2026, 11, 1, 12, tzinfo=UTC),
    data={"order_id": "order-1", "é": [1, None]},
    commandid="c1",
    undoes="c0",
    attempt=2,
    epoch=0,
    causationid="m0",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
BARE = Envelope(id="m1", source="shop", type="OrderPlaced", subject="order-1", data={})


@pytest.mark.parametrize("envelope", [WHOLE, BARE], ids=["whole", "bare"])
@pytest.mark.parametrize("write", [encode, encode_binary], ids=["structured", "binary"])
def test_what_was_sent_is_what_is_received(envelope: Envelope, write: Any) -> None:
    """Else a field is lost or changed on the bus."""
    assert decode(write(envelope)) == envelope


@pytest.mark.parametrize("write", [encode, encode_binary], ids=["structured", "binary"])
def test_the_sdk_reads_what_we_send(write: Any) -> None:
    """Else participants that use the CloudEvents SDK cannot read Escrow's commands."""
    wire = write(WHOLE)
    message = rabbitmq.RabbitMQMessage(headers=dict(wire.headers), content_type=wire.content_type, body=wire.body)
    event = rabbitmq.from_rabbitmq_event(message, JSONFormat())
    assert (event.get_id(), event.get_source(), event.get_type(), event.get_subject()) == ("m1", "inventory", WHOLE.type, "order-1")
    assert event.get_time() == WHOLE.time
    assert event.get_data() == WHOLE.data
    assert event.get_extension("commandid") == "c1"
    assert str(event.get_extension("attempt")) == "2"


@pytest.mark.parametrize("write", ["to_structured_event", "to_binary_event"])
def test_we_read_what_the_sdk_sends(write: str) -> None:
    """Else Escrow quarantines the replies of participants that use the CloudEvents SDK."""
    attributes = {
        "specversion": "1.0",
        "id": "m1",
        "source": "inventory",
        "type": "InventoryReserved",
        "subject": "order-1",
        "time": WHOLE.time,
        "datacontenttype": "application/json",
        "commandid": "c1",
    }
    message = getattr(rabbitmq, write)(CloudEvent(attributes, {"a": 1}), JSONFormat())
    got = decode(Wire(content_type=message.content_type or "", headers=message.headers, body=message.body))
    assert got == Envelope(
        id="m1", source="inventory", type="InventoryReserved", subject="order-1", time=WHOLE.time, data={"a": 1}, commandid="c1"
    )


GOOD = b'{"specversion":"1.0","id":"1","source":"s","type":"T","subject":"o","data":{}}'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"1.0"', b'"0.3"'),
        (b'"id":"1"', b'"id":""'),
        (b'"id":"1"', b'"id":7'),
        (b'"id":"1"', b'"id":"' + b"x" * 257 + b'"'),
        (b'"source":"s",', b""),
        (b'"type":"T"', b'"type":"a b"'),
        (b'"subject":"o"', b'"subject":"o o"'),
        (b'"data":{}', b'"data":[]'),
        (b'"data":{}', b'"data_base64":"e30="'),
        (b'"data":{}', b'"data":{},"attempt":-1'),
        (b'"data":{}', b'"data":{},"attempt":true'),
        (b'"data":{}', b'"data":{},"commandid":null'),
        (b'"data":{}', b'"data":{},"time":"noon"'),
        (b'"data":{}', b'"data":{},"time":"0001-01-01T00:00:00+14:00"'),
        (GOOD, b"[]"),
    ],
)
def test_a_malformed_message_is_refused(old: bytes, new: bytes) -> None:
    """Else a broken message crashes a worker, or moves an order."""
    assert decode(Wire(content_type=STRUCTURED, headers={}, body=GOOD)).id == "1"
    with pytest.raises(MalformedMessage):
        decode(Wire(content_type=STRUCTURED, headers={}, body=GOOD.replace(old, new)))


def test_an_oversized_message_is_refused() -> None:
    """Else one message exhausts a worker's memory."""
    with pytest.raises(OversizedMessage):
        decode(Wire(content_type=STRUCTURED, headers={}, body=b" " * 65_537))
    with pytest.raises(OversizedMessage):
        decode(Wire(content_type="text/plain", headers={"ce-id": "x" * 65_537}, body=b"{}"))


def test_what_is_no_cloudevent_is_refused() -> None:
    """Else any JSON on the bus passes for an event."""
    with pytest.raises(MalformedMessage):
        decode(Wire(content_type="application/json", headers={}, body=b"{}"))


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"time": None}, True),
        ({"traceparent": "00-2"}, True),
        ({"causationid": "other"}, True),
        ({"attempt": 2}, True),
        ({"type": "Other"}, False),
        ({"subject": "o2"}, False),
        ({"commandid": "other"}, False),
        ({"undoes": "other"}, False),
        ({"data": {"a": 2}}, False),
    ],
)
def test_a_message_is_what_it_means(change: dict[str, Any], is_same: bool) -> None:
    """Else a copy that was stamped anew passes for another message, or another message for a copy."""
    one = Envelope(
        id="1", source="s", type="T", subject="o", time=datetime(2026, 11, 1, tzinfo=UTC), data={"a": 1}, commandid="c", traceparent="00-1"
    )
    events = [attributes(envelope) | {"data": envelope.data} for envelope in (one, replace(one, **change))]
    assert (digest(events[0]) == digest(events[1])) is is_same


HEADERS = st.dictionaries(
    st.sampled_from(["ce-id", "CE-source", "ce-type", "ce-subject", "ce-specversion", "ce-time", "ce-attempt", "ce-commandid", "x"]),
    st.text(st.characters(), max_size=10) | st.integers() | st.binary(max_size=10) | st.none() | st.just("1.0") | st.datetimes(),
)


@given(
    content_type=st.sampled_from([STRUCTURED, STRUCTURED.upper() + "; charset=utf-8", "application/json", ""]),
    headers=HEADERS,
    body=st.binary(max_size=200) | st.sampled_from([GOOD, b"{}", GOOD[:-5]]),
)
def test_garbage_is_a_message_error_and_nothing_else(content_type: str, headers: dict[str, Any], body: bytes) -> None:
    """Else some message ends a worker, and with it the batch of its neighbours."""
    try:
        envelope = decode(Wire(content_type=content_type, headers=headers, body=body))
    except MessageError:
        return
    assert decode(encode(envelope)) == envelope
