"""`escrow order`: list, show, history, create, wait."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.cli.kit import ORDER, Api, Escrow

PAGE = {"items": [ORDER], "next_cursor": "abc"}


def test_list_sends_its_filters(api: Api, escrow: Escrow) -> None:
    """A filter that is not sent shows orders that were not asked for."""
    api.on("GET", "/v1/orders", PAGE)

    filters = ["--state=a", "--status=stuck", "--waiting-on=payment", "--overdue", "--definition=order"]
    result = escrow("order", "list", *filters, "--cursor=c", "--limit=7")

    expected = {
        "state": "a",
        "status": "stuck",
        "waiting_on": "payment",
        "overdue": "true",
        "definition": "order",
        "cursor": "c",
        "limit": "7",
    }
    assert expected == dict(api.last.url.params)
    assert "order-1  taking_payment  running  payment" in result.stdout
    assert "--cursor abc" in result.stderr


def test_list_sends_every_label(api: Api, escrow: Escrow) -> None:
    """Orders of other customers would be listed as this one's."""
    api.on("GET", "/v1/orders", PAGE)

    escrow("order", "list", "--label", "region=eu", "--label", "note=a=b:c")

    assert api.last.url.params.get_list("label") == ["region:eu", "note:a=b:c"]


def test_list_sends_a_version_with_its_definition(api: Api, escrow: Escrow) -> None:
    """Orders of another version would be taken for those of this one."""
    api.on("GET", "/v1/orders", PAGE)

    assert escrow("order", "list", "--definition", "order", "--version", "3").exit_code == 0

    assert (api.last.url.params["definition"], api.last.url.params["version"]) == ("order", "3")


def test_a_version_without_its_definition_is_not_sent(api: Api, escrow: Escrow) -> None:
    """A slip would come back as a problem of the API, in the API's words."""
    result = escrow("order", "list", "--version", "3")

    assert (result.exit_code, api.requests) == (2, [])
    assert "--version is one of a definition: add --definition" in result.stderr


@pytest.mark.parametrize("label", ["region", "region=", "=eu", "", "region:eu"])
def test_what_is_no_label_is_not_sent(api: Api, escrow: Escrow, label: str) -> None:
    """A typing error would come back as a problem of the API, in the API's words."""
    result = escrow("order", "list", "--label", label)

    assert result.exit_code == 2
    assert "is no label: write NAME=VALUE" in result.stderr
    assert api.requests == []


def test_show_tells_the_labels(api: Api, escrow: Escrow) -> None:
    """Nobody would see what an order can be found by."""
    api.on("GET", "/v1/orders/order-1", {**ORDER, "labels": {"customer": "7", "region": "eu"}})

    assert "customer=7" in escrow("order", "show", "order-1").stdout


def test_list_sends_no_filter_unasked(api: Api, escrow: Escrow) -> None:
    """`overdue=false` would hide the overdue orders, or be refused."""
    api.on("GET", "/v1/orders", PAGE)

    escrow("order", "list")

    assert dict(api.last.url.params) == {"limit": "50"}


def test_list_all_follows_the_cursor(api: Api, escrow: Escrow) -> None:
    """With --all, orders after the first page would be missing."""
    pages = {None: {"items": [{**ORDER, "order_id": "a"}], "next_cursor": "2"}, "2": {"items": [ORDER], "next_cursor": None}}
    api.answers["GET", "/v1/orders"] = lambda request: httpx.Response(200, json=pages[request.url.params.get("cursor")])

    result = escrow("order", "list", "--all", "--state", "x", "-o", "json")

    document = json.loads(result.stdout)
    assert ["a", "order-1"] == [order["order_id"] for order in document["items"]]
    assert document["next_cursor"] is None
    assert api.last.url.params["state"] == "x"


def test_list_all_ends_with_an_api_that_repeats_itself(api: Api, escrow: Escrow) -> None:
    """A broken cursor would make the command run for ever."""
    api.on("GET", "/v1/orders", PAGE)

    assert escrow("order", "list", "--all").exit_code == 6


def test_an_empty_list_is_a_document(api: Api, escrow: Escrow) -> None:
    """A program would get no JSON where there are no orders; a person no word."""
    api.on("GET", "/v1/orders", {"items": [], "next_cursor": None})

    assert json.loads(escrow("order", "list", "-o", "json").stdout) == {"items": [], "next_cursor": None}
    shown = escrow("order", "list")
    assert (shown.stdout, shown.stderr) == ("", "No orders match.\n")


def test_show_says_whom_it_waits_for(api: Api, escrow: Escrow) -> None:
    """The one question at 3 am would be left open."""
    result = escrow("order", "show", "order-1")

    assert result.exit_code == 0
    for word in ("taking_payment", "PaymentTaken", "payment", "force, retry, abort", "2026-11-21T12:00:30Z"):
        assert word in result.stdout
    assert "\x1b" not in result.stdout


def test_show_json_is_the_order_untouched(escrow: Escrow) -> None:
    """The stable contract with programs would be broken."""
    assert json.loads(escrow("order", "show", "order-1", "-o", "json").stdout) == ORDER


def test_what_an_order_holds_cannot_drive_the_terminal(api: Api, escrow: Escrow) -> None:
    """A participant could write escape sequences into an operator's terminal, or markup into a table."""
    api.on("GET", "/v1/orders/order-1", {**ORDER, "state": "\x1b[2J[red]x"})

    result = escrow("order", "show", "order-1")

    assert "\\x1b[2J[red]x" in result.stdout
    assert "\x1b" not in result.stdout


def test_history_shows_every_move(api: Api, escrow: Escrow) -> None:
    """The history would not say what moved the order, or who."""
    entry = {"seq": 1, "at": "2026-11-21T12:00:00Z", "kind": "act", "name": "force", "verdict": "moved", "from_state": "a", "to_state": "b"}
    page = {"items": [{**entry, "actor": "ana", "reason": "why", "effects": {}}], "next_cursor": None}
    api.on("GET", "/v1/orders/order-1/history", page)

    result = escrow("order", "history", "order-1", "--limit", "5")

    assert dict(api.last.url.params) == {"limit": "5"}
    for word in ("force", "moved", "a → b", "ana", "why"):
        assert word in result.stdout
    assert json.loads(escrow("order", "history", "order-1", "-o", "json").stdout) == page


@pytest.mark.parametrize("how", ["text", "file", "stdin"])
def test_create_places_the_order(api: Api, escrow: Escrow, tmp_path: Path, how: str) -> None:
    """An order given as text, as a file or on stdin would not reach the API as it is."""
    data = '{"amount_minor": 12345678901234567890, "name": "Zoë"}'
    (tmp_path / "data.json").write_text(data)
    given = {"text": data, "file": str(tmp_path / "data.json"), "stdin": "-"}[how]
    api.on("POST", "/v1/orders", ORDER, status=201)

    result = escrow("order", "create", "--data", given, "--order-id", "order-1", "--idempotency-key", "k1", stdin=data.encode())

    assert result.exit_code == 0, result.stderr
    assert {"definition": "order", "order_id": "order-1", "data": json.loads(data)} == api.last_body
    assert api.last.headers["Idempotency-Key"] == "k1"
    assert result.stdout == "order-1 placed: taking_payment\n"


def test_create_makes_a_key_and_leaves_the_id_to_the_api(api: Api, escrow: Escrow) -> None:
    """Without a key a repeated request could place a second order; `order_id: null` is refused."""
    api.on("POST", "/v1/orders", ORDER, status=200)

    result = escrow("order", "create", "--definition", "other", "--data", "{}")

    assert api.last_body == {"definition": "other", "data": {}}
    assert api.last.headers["Idempotency-Key"].endswith("0")
    assert "was there already" in result.stdout


def test_create_says_how_to_repeat_it_when_the_answer_is_lost(api: Api, escrow: Escrow) -> None:
    """Nobody could repeat a request whose outcome is unknown without placing the order twice."""
    api.series("POST", "/v1/orders", httpx.ReadTimeout("slow"))

    result = escrow("order", "create", "--data", "{}")

    assert result.exit_code == 6
    assert "--idempotency-key 00000000-0000-4000-8000-000000000000" in result.stderr


@pytest.mark.parametrize("data", ["[1]", "{", '{"a": NaN}', "/nowhere/at/all", "", '{"a": "\\u0000"}', '{"a": "\\ud800"}', "[" * 5000])
def test_create_refuses_data_that_is_no_object(api: Api, escrow: Escrow, data: str) -> None:
    """Bad data would be a traceback, or reach the API."""
    result = escrow("order", "create", "--data", data)

    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert api.requests == []


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("compensated", 0), ("failed", 1), ("abandoned", 1)])
def test_wait_ends_with_the_order(api: Api, escrow: Escrow, status: str, code: int) -> None:
    """A script would go on before the order ended, or take a wrong end for a right one."""
    api.series("GET", "/v1/orders/order-1", ORDER, ORDER, {**ORDER, "status": status, "waiting_on": []})

    result = escrow("order", "wait", "order-1")

    assert code == result.exit_code
    assert len(api.requests) == 3
    assert escrow.clock.elapsed_s == 1.0


def test_wait_until_a_status(api: Api, escrow: Escrow) -> None:
    """A wait for `stuck` or `held` would go on past it; one that can never be met would not end."""
    api.series("GET", "/v1/orders/order-1", ORDER, {**ORDER, "status": "stuck"})
    assert escrow("order", "wait", "order-1", "--until", "held", "--until", "stuck").exit_code == 0

    api.on("GET", "/v1/orders/order-1", {**ORDER, "status": "completed"})
    assert escrow("order", "wait", "order-1", "--until", "held").exit_code == 1


def test_wait_gives_up(escrow: Escrow) -> None:
    """A wait would never end, or not at the time given."""
    result = escrow("order", "wait", "order-1", "--timeout", "2.25", "-o", "json")

    assert result.exit_code == 7
    assert escrow.clock.elapsed_s == 2.25
    assert json.loads(result.stdout) == ORDER
    assert result.stderr == "escrow: order-1 is still running (taking_payment) after 2.25 s.\n"


def test_wait_outlasts_an_outage_of_the_api(api: Api, escrow: Escrow) -> None:
    """A restart of the API would break every script that waits."""
    api.series("GET", "/v1/orders/order-1", ORDER, httpx.ConnectError("gone"), {**ORDER, "status": "completed"})

    assert escrow("order", "wait", "order-1").exit_code == 0


def test_wait_for_an_order_that_is_not_there(escrow: Escrow) -> None:
    """A wrong id would be waited for in vain."""
    assert escrow("order", "wait", "nobody").exit_code == 3
