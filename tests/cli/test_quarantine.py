"""`escrow quarantine`."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.cli.kit import Api, Escrow

ROW = {
    "quarantine_id": "q-1",
    "reason": "malformed",
    "detail": "The body is not JSON.",
    "type": None,
    "source": "payment",
    "order_id": "order-1",
    "count": 3,
    "first_at": "2026-11-21T11:00:00Z",
    "last_at": "2026-11-21T11:59:00Z",
    "resolution": None,
}


def test_list_sends_its_filters(api: Api, escrow: Escrow) -> None:
    """A filter that is not sent shows messages that were not asked for."""
    api.on("GET", "/v1/quarantine", {"items": [ROW], "next_cursor": None})

    result = escrow("quarantine", "list", "--reason", "malformed", "--type", "PaymentTaken", "--order", "order-1")

    assert dict(api.last.url.params) == {"reason": "malformed", "type": "PaymentTaken", "order": "order-1", "limit": "50"}
    assert "q-1" in result.stdout
    assert json.loads(escrow("quarantine", "list", "-o", "json").stdout)["items"] == [ROW]


def test_show(api: Api, escrow: Escrow) -> None:
    """Nobody could see why a message was refused."""
    api.on("GET", "/v1/quarantine/q-1", {**ROW, "body": '{"a": \x1b'})

    result = escrow("quarantine", "show", "q-1")

    assert "The body is not JSON." in result.stdout
    assert "\x1b" not in result.stdout
    assert json.loads(escrow("quarantine", "show", "q-1", "-o", "json").stdout)["quarantine_id"] == "q-1"


def test_replay_says_the_verdict(api: Api, escrow: Escrow) -> None:
    """A replay whose message is refused again would look like a success."""
    answer = {"quarantine_id": "q-1", "verdict": "refused", "reason": "no such command"}
    api.on("POST", "/v1/admin/quarantine/q-1/replays", answer)

    result = escrow("quarantine", "replay", "q-1", "--reason", "fixed")

    assert api.last_body == {"reason": "fixed"}
    assert result.stdout == "q-1 replayed: refused (no such command)\n"
    assert json.loads(escrow("quarantine", "replay", "q-1", "--reason", "x", "-o", "json").stdout) == answer


def test_discard_prints_a_document_for_an_answer_without_body(api: Api, escrow: Escrow) -> None:
    """`-o json` would print nothing where the API answers 204."""
    api.answers["POST", "/v1/admin/quarantine/q-1/discards"] = lambda _: httpx.Response(204)

    assert escrow("quarantine", "discard", "q-1", "--reason", "junk").stdout == "q-1 discarded\n"
    assert json.loads(escrow("quarantine", "discard", "q-1", "--reason", "x", "-o", "json").stdout) == {"quarantine_id": "q-1"}


@pytest.mark.parametrize("arguments", [["show", "a/b"], ["replay", "q-1"], ["discard", "q-1", "--reason", " "], ["list", "--limit", "x"]])
def test_bad_arguments_send_nothing(api: Api, escrow: Escrow, arguments: list[str]) -> None:
    """A bad argument would reach the API or be a traceback."""
    result = escrow("quarantine", *arguments)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert api.requests == []
