"""Whether the demo's story ended well: what the API says, against what the participants' own tables say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.app.restore import Report
from orchestrator.cli.demo_orders import Placed

#: Causes of an order whose attempts ran out. On a bus that queues, what inventory did too late replaces the cause: it is undone again.
SILENCE = ("silence", "undo_silent", "late_success")

#: One thing that had to hold: whether it does, what it is, the figures.
Check = tuple[bool, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Everything that the proof looks at."""

    placed: Mapping[str, Placed]
    #: Every order as the API shows it at the end, by id.
    orders: Mapping[str, Mapping[str, Any]]
    #: The most attempts that were seen while an order waited for the silent participant to do its step.
    attempts: Mapping[str, int]
    inventory: Mapping[str, int]
    payment: Mapping[str, int]
    invoice: Mapping[str, int]
    report: Report

    def ended(self, state: str, *causes: str) -> list[Placed]:
        """The orders that were placed and reached this end (for one of these causes)."""
        found = [self.orders[order_id] for order_id in self.placed if order_id in self.orders]
        return [self.placed[o["order_id"]] for o in found if o["state"] == o["status"] == state and (not causes or o["cause"] in causes)]

    @property
    def came_back(self) -> list[Placed]:
        """Completed although they had to be asked for again."""
        return [order for order in self.ended("completed") if self.attempts.get(order.order_id, 0) > 1]


def checks(end: Ending) -> list[Check]:
    """All that had to hold."""
    return [*_orders(end), *_participants(end), *_history(end)]


def _orders(end: Ending) -> list[Check]:
    completed, compensated = end.ended("completed"), end.ended("compensated")
    lost = [order_id for order_id in end.placed if order_id not in end.orders]
    silent, refused = end.ended("compensated", *SILENCE), end.ended("compensated", "refused")
    whole = len(completed) + len(compensated)
    return [
        (
            whole == len(end.placed),
            "every order is at a right end",
            f"{len(end.placed)} placed = {len(completed)} completed + {len(compensated)} compensated",
        ),
        (not lost, "no order is lost", f"{len(lost)} lost"),
        (bool(end.came_back), "came back in time", f"{len(end.came_back)} orders asked again, then completed"),
        (bool(silent), "ran out of attempts and were undone", f"{len(silent)} orders"),
        (bool(refused), "refused by payment and undone", f"{len(refused)} orders"),
    ]


def _participants(end: Ending) -> list[Check]:
    completed = end.ended("completed")
    kept = end.inventory["reserved"] - end.inventory["released"]
    units = sum(order.units for order in completed)
    stock = end.inventory["stock_initial"] - end.inventory["stock_available"]
    taken = end.payment["taken"] - end.payment["refunded"]
    minor = end.payment["taken_minor"] - end.payment["refunded_minor"]
    amount = sum(order.amount_minor for order in completed)
    twice = [totals["applied_twice"] for totals in (end.inventory, end.payment, end.invoice)]
    emailed = end.invoice["emailed"]
    return [
        (twice == [0, 0, 0], "nothing was applied twice", "inventory {}, payment {}, invoice {}".format(*twice)),
        (
            kept == len(completed) and stock == end.inventory["stock_held"] == units,
            "the stock adds up",
            f"{end.inventory['reserved']} reserved - {end.inventory['released']} released = {kept}; {stock} units gone, {units} sold",
        ),
        (
            taken == len(completed) and minor == end.payment["balance_minor"] == amount,
            "the money adds up",
            f"{end.payment['taken']} taken - {end.payment['refunded']} refunded = {taken}; {_money(minor)} kept, {_money(amount)} sold",
        ),
        (emailed == end.invoice["last_number"] == len(completed), "an invoice for each completed order", f"{emailed} e-mailed"),
    ]


def _history(end: Ending) -> list[Check]:
    report = end.report
    figures = f"{report.orders} orders, {report.entries} journal entries, {len(report.findings)} findings"
    return [(not report.findings and report.orders == len(end.placed), "every history folds to what is stored", figures)]


def _money(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02} EUR"
