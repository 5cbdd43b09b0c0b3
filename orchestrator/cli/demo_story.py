"""The outage story: orders flow, inventory falls silent, the orchestrator is killed and comes back, inventory returns, all ends well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.cli.demo_child import DemoFailed
from orchestrator.cli.demo_orders import Customers, Placed
from orchestrator.cli.demo_proof import Ending
from orchestrator.cli.demo_screen import Screen
from orchestrator.cli.demo_stage import Stage
from orchestrator.cli.session import Session

#: Between two looks at the orders, in seconds.
LOOK_EVERY_S = 0.25
#: Longest wait for one thing to happen, in seconds: an order's attempts take 8, and a killed process may start slowly.
WITHIN_S = 40.0
SILENT = "inventory"
#: Above what payment accepts: declined.
TOO_DEAR_MINOR = 20_000_000_000

Orders = Mapping[str, Mapping[str, Any]]


class Story:
    """Plays once."""

    def __init__(self, session: Session, stage: Stage, screen: Screen, customers: Customers) -> None:
        self._session = session
        self._stage = stage
        self._screen = screen
        self._customers = customers
        self._attempts: dict[str, int] = {}
        self._number = 0

    def play(self) -> Ending:
        """All acts, then what everyone's tables say. Raises: DemoFailed."""
        self._screen.say("starting …")
        self._stage.start()
        self._screen.say(f"Escrow listens on {self._stage.url}")
        self._quiet()
        self._silence()
        self._death()
        self._return()
        return self._end()

    def _quiet(self) -> None:
        self._screen.say("8 orders are placed; payment will decline 2 of them, which are too dear")
        self._customers.place([*self._new("quiet", 6), *self._new("dear", 2, TOO_DEAR_MINOR)])()
        self._until(lambda orders: all(_has_ended(order) for order in orders.values()), "the first orders did not end")
        self._screen.show(self._customers.look().values(), now=True)

    def _silence(self) -> None:
        self._stage.stall(SILENT, on=True)
        self._screen.say(f"{SILENT} falls silent: it reads nothing and answers nothing", "bold yellow")
        self._screen.say("6 orders are placed; Escrow asks, and asks again")
        self._customers.place(self._new("first", 6))()
        self._until(lambda orders: self._waits(orders, "first", 3), "nobody was asked a third time")
        self._screen.say("6 more orders are placed, late in the outage")
        self._customers.place(self._new("second", 6))()
        self._until(
            lambda orders: all(order["cause"] or _has_ended(order) for order in self._of(orders, "first")),
            "the attempts did not run out",
        )
        self._screen.say("the first 6 ran out of attempts: what may have been done is being undone")
        self._screen.show(self._customers.look().values(), now=True)

    def _death(self) -> None:
        answered = self._customers.place(self._new("killed", 4))
        self._stage.kill()
        self._screen.say(f"kill -9: {self._stage.victims}, while 4 orders are being placed", "bold red")
        self._stage.restart()
        again = answered()
        self._screen.say(
            f"started again on the same data; the 4 are accepted, after asking {again} more times with the same key", "bold green"
        )
        self._screen.say(self._stage.aftermath)

    def _return(self) -> None:
        self._screen.say("4 more orders are placed")
        self._customers.place(self._new("last", 4))()
        self._until(lambda orders: self._waits(orders, "last", 2), "nobody was asked a second time")
        self._screen.show(self._customers.look().values(), now=True)
        self._stage.stall(SILENT, on=False)
        self._screen.say(f"{SILENT} is back", "bold green")

    def _end(self) -> Ending:
        orders = self._until(
            lambda orders: len(orders) == len(self._customers.placed) and all(_has_ended(order) for order in orders.values()),
            "the orders did not all end",
        )
        self._screen.show(orders.values(), now=True)
        self._screen.say("every order has ended; everything is stopped, every history folded and compared")
        totals = {name: self._customers.totals(name) for name in ("inventory", "payment", "invoice")}
        self._stage.stop()
        report = self._stage.verify()
        return Ending(placed=self._customers.placed, orders=orders, attempts=self._attempts, report=report, **totals)

    def _new(self, act: str, count: int, amount_minor: int = 0) -> list[Placed]:
        orders = []
        for _ in range(count):
            self._number += 1
            orders.append(
                Placed(
                    order_id=f"demo-{self._number:02}",
                    key=self._session.new_id(),
                    act=act,
                    amount_minor=amount_minor or 1_250 * self._number,
                    units=1 + self._number % 3,
                )
            )
        return orders

    def _of(self, orders: Orders, act: str) -> list[Mapping[str, Any]]:
        return [orders[name] for name, placed in self._customers.placed.items() if placed.act == act and name in orders]

    def _waits(self, orders: Orders, act: str, attempts: int) -> bool:
        """Whether every order of this act was asked for so often, or has gone on."""
        return all(order["attempts"] >= attempts or order["state"] != "reserving_inventory" for order in self._of(orders, act))

    def _until(self, arrived: Callable[[Orders], bool], complaint: str) -> Orders:
        """Look, and show, until it has arrived. Raises: DemoFailed."""
        limit_s = self._session.monotonic() + WITHIN_S
        while True:
            orders = self._customers.look()
            self._note(orders)
            self._screen.show(orders.values())
            if orders and arrived(orders):
                return orders
            if self._session.monotonic() > limit_s:
                raise DemoFailed(f"In {WITHIN_S:.0f} s {complaint}. At the end: {_summary(orders)}.")
            self._session.sleep(LOOK_EVERY_S)

    def _note(self, orders: Orders) -> None:
        for order_id, order in orders.items():
            if order["state"] == "reserving_inventory":
                self._attempts[order_id] = max(self._attempts.get(order_id, 0), order["attempts"])


def _has_ended(order: Mapping[str, Any]) -> bool:
    return order["status"] in {"completed", "compensated", "failed", "abandoned"}


def _summary(orders: Orders) -> str:
    return ", ".join(f"{order_id} {order['state']}/{order['status']}" for order_id, order in sorted(orders.items())) or "the API was away"
