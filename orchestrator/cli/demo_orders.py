"""The demo's customers: they place orders through the API, again and again with the same key until they are answered, and look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import httpx

from orchestrator.cli.demo_child import DemoFailed
from orchestrator.cli.demo_definition import NAME
from orchestrator.cli.demo_stage import Stage

#: For one answer, and between two tries, in seconds.
TIMEOUT_S, AGAIN_S = 5.0, 0.2
#: Customers who place orders at the same time.
CUSTOMERS = 4
#: Orders that one look shows: more than the demo places.
LOOK_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that a customer wants. `key` is the Idempotency-Key of all tries."""

    order_id: str
    key: str
    #: The act of the story in which it was placed.
    act: str
    amount_minor: int
    units: int

    @property
    def data(self) -> dict[str, Any]:
        """What the order says."""
        return {
            "order_id": self.order_id,
            "lines": [{"sku": "book", "quantity": self.units}],
            "amount_minor": self.amount_minor,
            "currency": "EUR",
            "customer_email": "customer@example.com",
        }


class Customers:
    """Place orders and look at them. A context manager: its end gives up what is not answered yet."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._http = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        self._pool = ThreadPoolExecutor(CUSTOMERS, thread_name_prefix="customer")
        self._leaving = threading.Event()
        self.placed: dict[str, Placed] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    def place(self, orders: Iterable[Placed]) -> Callable[[], int]:
        """Begin to place these. The result waits until all are answered, and tells how many tries that took beyond the first."""
        wanted = list(orders)
        self.placed |= {order.order_id: order for order in wanted}
        tries = [self._pool.submit(self._until_answered, order) for order in wanted]
        return lambda: sum(one.result() - 1 for one in tries)

    def look(self) -> dict[str, dict[str, Any]]:
        """Every order as the API shows it, by id; empty while the API is away."""
        try:
            answer = self._http.get(f"{self._stage.url}/v1/orders", params={"definition": NAME, "limit": LOOK_MAX}, headers=self._headers())
        except httpx.TransportError:
            return {}
        if answer.is_server_error:
            return {}
        answer.raise_for_status()
        return {order["order_id"]: order for order in answer.json()["items"]}

    def totals(self, participant: str) -> dict[str, int]:
        """What a participant's own tables say."""
        answer = self._http.get(f"{self._stage.doors[participant]}/totals")
        answer.raise_for_status()
        totals: dict[str, int] = answer.json()
        return totals

    def _until_answered(self, order: Placed) -> int:
        """Place one order; how many tries it took. Raises: DemoFailed when it is refused, or nobody waits any more."""
        body = {"definition": NAME, "data": order.data}
        tries = 0
        while not self._leaving.is_set():
            tries += 1
            try:
                answer = self._http.post(
                    f"{self._stage.url}/v1/orders", json=body, headers=self._headers() | {"Idempotency-Key": order.key}
                )
            except httpx.TransportError:
                self._leaving.wait(AGAIN_S)
                continue
            if answer.is_success:
                return tries
            if not answer.is_server_error:
                raise DemoFailed(f"Order {order.order_id} was refused: {answer.status_code} {answer.text}")
            self._leaving.wait(AGAIN_S)
        raise DemoFailed(f"Order {order.order_id} was not answered.")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._stage.token}"}
