"""`escrow participant`."""

from __future__ import annotations

import json

import pytest

from tests.cli.kit import Api, Escrow

ROW = {
    "name": "inventory",
    "state": "silent",
    "since": "2026-11-21T11:59:00Z",
    "heard_at": None,
    "recovered_at": None,
    "held": 812,
    "overdue": 95,
    "rate_per_s": 0.0,
    "resync_under_way": False,
}
RESYNCS = "/v1/admin/participants/inventory/resyncs"


def test_list_shows_who_is_silent(api: Api, escrow: Escrow) -> None:
    """An operator would not see whom the orders wait for."""
    api.on("GET", "/v1/participants", {"items": [ROW], "next_cursor": None})

    result = escrow("participant", "list")

    assert "inventory" in result.stdout
    assert "silent" in result.stdout
    assert "812" in result.stdout
    assert json.loads(escrow("participant", "list", "-o", "json").stdout)["items"] == [ROW]


def test_show_tells_all_of_one(api: Api, escrow: Escrow) -> None:
    """An operator would have to read JSON."""
    api.on("GET", "/v1/participants/inventory", ROW)

    assert "resync under way" in escrow("participant", "show", "inventory").stdout
    assert json.loads(escrow("participant", "show", "inventory", "-o", "json").stdout) == ROW


@pytest.mark.parametrize(("state", "said"), [("recovering", "is sent again what is outstanding"), ("silent", "once it is back")])
def test_resync_sends_reason_and_time_and_says_what_follows(api: Api, escrow: Escrow, state: str, said: str) -> None:
    """Everything would be sent again instead of an hour's; or the operator would wait for what comes later."""
    api.on("POST", RESYNCS, {**ROW, "state": state}, status=202)

    result = escrow("participant", "resync", "inventory", "--reason", "restored", "--since", "2026-11-21T11:00:00Z")

    assert api.last_body == {"reason": "restored", "since": "2026-11-21T11:00:00Z"}
    assert said in result.stdout
    assert json.loads(escrow("participant", "resync", "inventory", "--reason", "x", "-o", "json").stdout)["state"] == state
    assert api.last_body == {"reason": "x"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("resync", "inventory", "--reason", " "),
        ("resync", "inventory", "--reason", "x", "--since", "noon"),
        ("resync", "a/b", "--reason", "x"),
        ("show", "a/b"),
    ],
)
def test_wrong_arguments_ask_nothing_of_the_api(api: Api, escrow: Escrow, arguments: tuple[str, ...]) -> None:
    """A mistyped time or name would have the wrong thing sent again."""
    result = escrow("participant", *arguments)

    assert result.exit_code == 2
    assert api.requests == []
