"""`escrow demo --watched`: the choreography, first without Escrow, then with Escrow listening; the same orders, the same outages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.app.restore import Report
from orchestrator.cli.demo_child import DemoFailed
from orchestrator.cli.demo_definition import FASTER, WATCHED_NAME, write_faster
from orchestrator.cli.demo_screen import Screen
from orchestrator.cli.demo_watched_stage import Choreography, Watched, alone, place, totals, watched
from orchestrator.cli.session import Session

#: Orders in each part of the story.
ORDERS = 4
#: How long a service is down, in seconds: 100 s of the shipped definition.
OUTAGE_S = 5.0
#: Nothing has moved for so long, so nothing will: a reaction takes milliseconds. In seconds.
STILL_S = 3.0
#: Between two looks, and the longest wait for one thing to happen, in seconds.
LOOK_EVERY_S, WITHIN_S = 0.25, 40.0
_PARTS = ("quiet", "inventory down", "invoice down", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the services' own tables say at the end."""

    placed: int
    updated: int
    restored: int
    emailed: int
    credited: int
    twice: int

    @property
    def lost(self) -> int:
        """Orders that were placed, and of which nobody will hear again."""
        return self.placed - (self.emailed - self.credited)

    @property
    def half_done(self) -> int:
        """Those of them whose goods are gone."""
        return (self.updated - self.restored) - (self.emailed - self.credited)


def choreography(session: Session, directory: Path, services: bool) -> bool:  # as `Play` has it
    """Play it twice: whether everything held. Raises: DemoFailed, SettingsError, TemporaryError."""
    definitions = write_faster(directory, "order_watched", WATCHED_NAME)
    with Screen(session) as screen:
        with alone(session, directory, services=services) as stage:
            screen.title(f"A choreography without Escrow: {stage.title}.")
            screen.title("orders publishes OrderPlaced; inventory reacts with InventoryUpdated; invoice reacts with InvoiceEmailed.\n")
            without = _Play(session, screen, stage, lambda: None).play(lambda: _still(session, stage))
            screen.say(f"nothing moves any more: {_told(without)}", "bold red" if without.lost else "")
        with watched(session, directory, definitions, services=services) as stage:
            screen.title(f"\nThe same with Escrow listening: {stage.title}.")
            screen.title(f"Definition {WATCHED_NAME}: the shipped order_watched, every duration divided by {FASTER}.\n")

            def look() -> None:
                """What Escrow knows, in one line."""
                screen.show(_look(stage), now=True)

            with_escrow = _Play(session, screen, stage, look).play(lambda: _ended(session, screen, stage))
            orders = _look(stage)
            screen.show(orders, now=True)
            screen.say(f"every order has ended: {_told(with_escrow)}", "bold green")
            stage.stop()
            return screen.proof(checks(without, with_escrow, orders, stage.verify()))


def checks(without: Ending, with_escrow: Ending, orders: list[dict[str, Any]], report: Report) -> list[tuple[bool, str, str]]:
    """All that had to hold."""
    placed = ORDERS * len(_PARTS)
    completed = [order for order in orders if order["status"] == "completed"]
    missed = 2 * ORDERS
    return [
        (without.placed == with_escrow.placed == placed, "the same orders both times", f"{without.placed} and {with_escrow.placed}"),
        (without.lost == missed, "without Escrow what a service missed is lost", f"{without.lost} of {without.placed} orders"),
        (without.half_done == ORDERS, "and some of it is half done", f"{without.half_done} with the goods gone and no invoice"),
        (with_escrow.lost == 0, "with Escrow none is lost", f"{with_escrow.lost} of {with_escrow.placed} orders"),
        (len(completed) == len(orders) == placed, "every order is completed", f"{len(completed)} of {len(orders)}"),
        (with_escrow.twice == 0, "nothing was applied twice", f"{with_escrow.twice}"),
        (with_escrow.updated == with_escrow.emailed == placed, "one update and one invoice for each", f"{with_escrow.emailed} invoices"),
        (not report.findings, "every history folds to what is stored", f"{report.orders} orders, {len(report.findings)} findings"),
    ]


class _Play:
    """One playing of the story."""

    def __init__(self, session: Session, screen: Screen, stage: Choreography, look: Callable[[], None]) -> None:
        self._session = session
        self._screen = screen
        self._stage = stage
        self._look = look
        self._number = 0

    def play(self, at_the_end: Callable[[], None]) -> Ending:
        """All parts; then wait for the end, and read the services' tables."""
        self._screen.say("starting …")
        self._stage.start()
        self._place(_PARTS[0])
        self._settle(self._number)
        for service, part in (("inventory", _PARTS[1]), ("invoice", _PARTS[2])):
            self._stage.take_down(service)
            self._screen.say(f"{service} goes down ({self._stage.outage}): what is published for it meanwhile is gone", "bold yellow")
            self._place(part)
            self._session.sleep(OUTAGE_S)
            self._look()
            self._stage.bring_back(service)
            self._screen.say(f"{service} is back", "bold green")
        self._place(_PARTS[3])
        at_the_end()
        return _ending(self._stage)

    def _place(self, part: str) -> None:
        self._screen.say(f"{ORDERS} orders are placed ({part})")
        for _ in range(ORDERS):
            self._number += 1
            place(self._stage, f"watched-{self._number:02}", _data(self._number))

    def _settle(self, emailed: int) -> None:
        """The first orders go through by themselves."""
        _wait(self._session, lambda: _ending(self._stage).emailed >= emailed, "the first orders did not go through")


def _data(number: int) -> dict[str, Any]:
    return {
        "order_id": f"watched-{number:02}",
        "lines": [{"sku": "book", "quantity": 1 + number % 3}],
        "amount_minor": 1_250 * number,
        "currency": "EUR",
        "customer_email": "customer@example.com",
    }


def _ending(stage: Choreography) -> Ending:
    orders, inventory, invoice = (totals(stage, name) for name in ("orders", "inventory", "invoice"))
    return Ending(
        placed=orders["placed"],
        updated=inventory["reserved"],
        restored=inventory["released"],
        emailed=invoice["emailed"],
        credited=invoice["credited"],
        twice=inventory["applied_twice"] + invoice["applied_twice"],
    )


def _told(end: Ending) -> str:
    return f"{end.placed} orders, {end.emailed} invoices, {end.lost} lost, {end.half_done} of them half done"


def _still(session: Session, stage: Choreography) -> None:
    """Wait until the tables have been the same for a while."""
    seen, since_s = _ending(stage), session.monotonic()
    limit_s = since_s + WITHIN_S
    while session.monotonic() - since_s < STILL_S and session.monotonic() < limit_s:
        session.sleep(LOOK_EVERY_S)
        if (now := _ending(stage)) != seen:
            seen, since_s = now, session.monotonic()


def _ended(session: Session, screen: Screen, stage: Watched) -> None:
    """Wait until Escrow knows all orders, and every one has ended."""

    def arrived() -> bool:
        orders = _look(stage)
        screen.show(orders)
        return len(orders) == ORDERS * len(_PARTS) and all(order["status"] in {"completed", "compensated"} for order in orders)

    _wait(session, arrived, "the orders did not all end")


def _look(stage: Watched) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{stage.url}/v1/orders",
        params={"definition": WATCHED_NAME, "limit": 200},
        headers={"Authorization": f"Bearer {stage.token}"},
        timeout=WITHIN_S,
        trust_env=False,
    )
    answer.raise_for_status()
    found: Mapping[str, Any] = answer.json()
    return list(found["items"])


def _wait(session: Session, arrived: Callable[[], bool], complaint: str) -> None:
    limit_s = session.monotonic() + WITHIN_S
    while not arrived():
        if session.monotonic() > limit_s:
            raise DemoFailed(f"In {WITHIN_S:.0f} s {complaint}.")
        session.sleep(LOOK_EVERY_S)
