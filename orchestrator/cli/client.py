"""The CLI's side of the REST API: one request at a time, every failure one clear line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from orchestrator.cli.session import Session
from orchestrator.contract import is_name, is_order_id
from orchestrator.errors import EscrowError, RequestError, TemporaryError, Unprocessable

#: Seconds for one answer: the API itself gives up on a database or a handler earlier.
TIMEOUT_S = 30.0
#: Of a header's value.
HEADER_CHARS_MAX = 255
#: Rows a page when all pages are wanted.
PAGE_MAX = 200

#: What to do next, in words of the command line; other problems bring their own `next`.
_NEXT = {
    401: "Set ESCROW_TOKEN to a valid token ('escrow token create' makes one).",
    409: "",  # its detail says why, and 'next' speaks of the API's fields
    412: "See it with 'escrow order show'.",
}


class ApiProblem(EscrowError):
    """The API refused a request."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(_line(status, problem))
        self.status = status
        self.problem = dict(problem)


class NotEscrow(TemporaryError):
    """What answers at ESCROW_URL is not Escrow."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its status (200 to 299) and the JSON object it carries (empty when it has no body)."""

    status: int
    body: dict[str, Any]


class Client:
    """A connection to the API of `settings.url` with `settings.token`. Use it in a `with` block."""

    def __init__(self, session: Session) -> None:
        settings = session.settings()
        self.url = str(settings.url).rstrip("/")
        token = _text(settings.token)
        headers = {"Accept": "application/json, application/problem+json", "User-Agent": "escrow-cli"}
        if token:
            headers["Authorization"] = f"Bearer {_header(token, 'ESCROW_TOKEN')}"
        host = _checked_host(self.url)
        # A proxy of the environment is for the world outside, never for an Escrow on this machine.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=5.0),
            transport=session.transport,
            trust_env=not _is_loopback(host),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """The JSON object that a GET answers with; parameters that are None are left out. Raises: as `post`."""
        return self._send("GET", path, params=_query(query)).body

    def seq(self, path: str) -> int:
        """The present seq of the order at this path."""
        seq = self.get(path).get("seq")
        if not isinstance(seq, int):
            raise NotEscrow(f"What {self.url} answers is no order. Is ESCROW_URL right?")
        return seq

    def pages(self, path: str, *, everything: bool, **query: object) -> dict[str, Any]:
        """One page, or with `everything` all pages as one: `items` and `next_cursor`."""
        if not everything:
            return _page(self.get(path, **query))
        items = [item for page in self.every_page(path, **query) for item in page]
        return {"items": items, "next_cursor": None}

    def every_page(self, path: str, **query: object) -> Iterator[list[dict[str, Any]]]:
        """The items of one page after the other, each asked for when it is wanted, at most PAGE_MAX. Raises: as `post`."""
        query["limit"] = PAGE_MAX
        seen: set[str] = set()
        while True:
            page = _page(self.get(path, **query))
            yield page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return
            if cursor in seen:
                raise NotEscrow(f"{self.url} gives the same page again and again.")
            seen.add(cursor)
            query["cursor"] = cursor

    def post(self, path: str, body: Mapping[str, Any], *, if_match: int | None = None, idempotency_key: str | None = None) -> Answer:
        """Send a JSON body. `if_match`: the seq the caller saw. Raises: ApiProblem, TemporaryError, RequestError."""
        headers = {"Content-Type": "application/json"}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        if idempotency_key is not None:
            headers["Idempotency-Key"] = _header(idempotency_key, "--idempotency-key")
        try:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise Unprocessable("The request holds text that is not Unicode, or a number that is not JSON.") from error
        return self._send("POST", path, content=content, headers=headers)

    def _send(self, method: str, path: str, **request: Any) -> Answer:
        try:
            response = self._http.request(method, path, **request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise TemporaryError(
                f"Nothing answers at {self.url}. Start Escrow with 'escrow up' or 'escrow serve', or set ESCROW_URL to where it runs."
            ) from error
        except httpx.TimeoutException as error:
            raise TemporaryError(f"{self.url} took longer than {TIMEOUT_S:.0f} s to answer; what was asked may have been done.") from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError) as error:
            raise RequestError(f"The request cannot be sent: {str(error) or type(error).__name__}.") from error
        except httpx.HTTPError as error:
            raise TemporaryError(f"{self.url} broke the connection off; what was asked may have been done.") from error
        return self._read(response)

    def _read(self, response: httpx.Response) -> Answer:
        try:
            body = response.json() if response.content else {}
        except (ValueError, RecursionError):
            body = None
        if response.is_success and isinstance(body, dict):
            return Answer(response.status_code, body)
        if response.is_error and isinstance(body, dict) and ("title" in body or "detail" in body):
            raise ApiProblem(response.status_code, body)
        if response.status_code in {401, 403}:
            raise ApiProblem(response.status_code, {"title": f"{self.url} does not let you in"})
        raise NotEscrow(f"{self.url} answered {response.status_code}, and not as Escrow does. Is ESCROW_URL right?")


def order_path(order_id: str, *, admin: str | None = None) -> str:
    """The path of an order, or of one of its acts. Raises: RequestError for what cannot be an order id."""
    if not is_order_id(order_id):
        raise RequestError(f"{order_id!r} is no order id: 1 to 128 letters, digits or characters of ._:~- are.")
    return f"/v1/admin/orders/{_segment(order_id)}/{admin}" if admin else f"/v1/orders/{_segment(order_id)}"


def participant_path(name: str, *, admin: str | None = None) -> str:
    """The path of a participant, or of one of its acts. Raises: RequestError."""
    if not is_name(name):
        raise RequestError(f"{name!r} is no name of a participant: 'escrow participant list' shows them.")
    return f"/v1/admin/participants/{_segment(name)}/{admin}" if admin else f"/v1/participants/{_segment(name)}"


def quarantine_path(quarantine_id: str, *, admin: str | None = None) -> str:
    """The path of a quarantined message, or of one of its acts. Raises: RequestError."""
    if not is_order_id(quarantine_id):
        raise RequestError(f"{quarantine_id!r} is no quarantine id: 'escrow quarantine list' shows them.")
    return f"/v1/admin/quarantine/{_segment(quarantine_id)}/{admin}" if admin else f"/v1/quarantine/{_segment(quarantine_id)}"


def _segment(text: str) -> str:
    """A path segment. `.` and `..` are order ids, and a URL library would take them for steps in the path."""
    return text.replace(".", "%2E") if text in {".", ".."} else quote(text, safe="")


def _page(body: dict[str, Any]) -> dict[str, Any]:
    items = body.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotEscrow("The answer is not a page of items. Is ESCROW_URL right?")
    return {**body, "next_cursor": body.get("next_cursor")}


def _query(query: Mapping[str, object]) -> dict[str, str | list[str]]:
    """What httpx takes: a list is a parameter that is repeated."""
    return {name: value if isinstance(value, list) else _parameter(value) for name, value in query.items() if value is not None}


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(status: int, problem: Mapping[str, Any]) -> str:
    """A problem (RFC 9457) in one line: what, why, where, and what next, each a sentence."""
    title = str(problem.get("title") or f"Status {status}").rstrip(".")
    detail = str(problem.get("detail") or "").strip()
    parts = [f"{title}: {detail}" if detail and detail.rstrip(".") != title else f"{title}."]
    errors = problem.get("errors")
    found = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    # The detail names the first findings itself.
    parts += [f"{item.get('location', 'request')}: {item.get('message', '')}." for item in found if str(item.get("message")) not in detail]
    next_step = _NEXT.get(status, problem.get("next"))
    # A detail with a fix of its own says it better than the catalogue, which speaks of all problems of its kind.
    if next_step and " Fix: " not in detail:
        parts.append(str(next_step))
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


def _text(secret: object) -> str:
    if isinstance(secret, SecretStr):
        return secret.get_secret_value()
    return str(secret) if secret else ""


def _header(value: str, name: str) -> str:
    """A header's value. The value itself is never shown: it may be a secret."""
    if not value or len(value) > HEADER_CHARS_MAX or not value.isascii() or not value.isprintable() or value != value.strip():
        raise RequestError(f"{name} must be 1 to {HEADER_CHARS_MAX} printable ASCII characters.")
    return value


def _checked_host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, TypeError) as error:
        raise RequestError(f"ESCROW_URL {url!r} is no address: {error}.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise RequestError(f"ESCROW_URL {url!r} is no address: write it like http://127.0.0.1:8080.")
    return parsed.host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
