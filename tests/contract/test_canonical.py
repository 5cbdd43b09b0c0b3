"""Canonical JSON: one byte string per value, and nothing that cannot be stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract import canonical
from orchestrator.errors import MalformedMessage

TEXT = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON)
def test_what_was_encoded_is_read_again_and_encodes_alike(value: Any) -> None:
    """Else hashes of equal content differ."""
    raw = canonical.encode(value)
    assert canonical.encode(canonical.decode(raw)) == raw


def test_the_form_is_fixed() -> None:
    """Else journals written by two releases have different hashes."""
    value = {"b": 1.5, "a": ["é", None, True], "n": 2**70}
    assert canonical.encode(value) == '{"a":["é",null,true],"b":1.5,"n":1180591620717411303424}'.encode()


def test_integers_are_exact_however_large() -> None:
    """Else an amount is rounded on its way through the journal."""
    assert canonical.decode(canonical.encode(10**400 + 1)) == 10**400 + 1


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b"Infinity",
        b"[-Infinity]",
        b"1e999",
        b'"\\u0000"',
        b'{"\\u0000": 1}',
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b"9" * 5_000,
        b"\xff\xfe",
        b'"\xc3"',
        b"",
        b"{",
    ],
)
def test_what_cannot_be_kept_is_refused(raw: bytes) -> None:
    """Else a message that the database cannot hold comes in by the door."""
    with pytest.raises(MalformedMessage):
        canonical.decode(raw)


def test_of_a_name_given_twice_the_last_counts() -> None:
    """Else what was decided, and what participants are told, could differ."""
    assert canonical.decode(b'{"amount": 1, "amount": 2}') == {"amount": 2}


def test_the_depth_allowed_is_the_depth_said() -> None:
    """Else the limit is another than the contract's."""
    assert canonical.decode(b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": -float("inf")}])
def test_numbers_that_json_lacks_do_not_come_in(value: object) -> None:
    """Else the journal holds null where a number was."""
    with pytest.raises(MalformedMessage, match="JSON"):
        canonical.check(value)


@given(value=JSON)
def test_others_read_what_we_write(value: Any) -> None:
    """Else a participant in another language sees something else."""
    assert json.loads(canonical.encode(value)) == value


@given(at=st.datetimes(timezones=st.just(UTC)))
def test_times_are_read_as_written(at: datetime) -> None:
    """Else a deadline moves each time its order is stored."""
    text = canonical.format_time(at)
    assert canonical.parse_time(text) == at
    assert len(text) == len("2026-11-01T12:00:00.000000Z")


def test_times_of_other_zones_are_written_in_utc() -> None:
    """Else one instant has two texts, and two hashes."""
    at = datetime(2026, 11, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    assert canonical.format_time(at) == "2026-11-01T12:00:00.000000Z"


@pytest.mark.parametrize("text", ["2026-11-01T12:00:00", "soon", "", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    """Else a time without zone, or outside the calendar, is an error nobody catches."""
    with pytest.raises(ValueError, match=r"."):
        canonical.parse_time(text)
    with pytest.raises(ValueError, match="zone"):
        canonical.format_time(datetime(2026, 11, 1))  # naive is the point
