"""The demo's parts: its definition, its proof, its children. The story itself is an acceptance test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.restore import Discrepancy, Report
from orchestrator.cli import demo_definition
from orchestrator.cli.demo_child import Child, DemoFailed
from orchestrator.cli.demo_orders import Placed
from orchestrator.cli.demo_proof import Ending, checks
from orchestrator.cli.session import Session
from orchestrator.files import shipped_definition
from orchestrator.saga.check import check
from orchestrator.saga.definition import read

ORDER = shipped_definition("order")


def _durations(document: Any, path: str = "") -> dict[str, int]:
    """Every duration of an expanded document, by path."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    found = {f"{path}/{name}": value for name, value in items if str(name).endswith("_ms") and value is not None}
    for name, value in items:
        found |= _durations(value, f"{path}/{name}")
    return found


def test_the_demo_runs_the_shipped_definition_twenty_times_faster() -> None:
    """Else the demo would show other rules than those that are shipped, or last longer than a minute."""
    quick = read(demo_definition.faster(ORDER, demo_definition.NAME), "order_demo.yaml")
    assert quick.name == "order_demo"
    assert not check(quick)
    assert _durations(quick.expanded) == {path: value // 20 for path, value in _durations(ORDER.expanded).items()}
    assert quick.expanded["opens_on"] == ORDER.expanded["opens_on"]


def test_a_child_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """Else a demo that cannot start would say nothing about why."""
    child = Child(Session(), tmp_path, "escrow-up", ("orchestrator", "up", "--port", "none"), {})
    child.start()
    with pytest.raises(DemoFailed, match=r"(?s)escrow-up ended with status 2 .*Invalid value for '--port'"):
        child.line("never said")
    child.stop()


def _placed(number: int) -> Placed:
    return Placed(order_id=f"demo-{number}", key="key", act="first", amount_minor=100, units=1)


def _shown(number: int, state: str, cause: str | None) -> dict[str, Any]:
    return {"order_id": f"demo-{number}", "state": state, "status": state, "cause": cause}


@pytest.fixture
def good() -> Ending:
    """One order came back in time, one ran out, one was refused."""
    orders = [_shown(1, "completed", None), _shown(2, "compensated", "silence"), _shown(3, "compensated", "refused")]
    return Ending(
        placed={f"demo-{number}": _placed(number) for number in (1, 2, 3)},
        orders={order["order_id"]: order for order in orders},
        attempts={"demo-1": 2, "demo-2": 4},
        inventory={"reserved": 2, "released": 1, "applied_twice": 0, "stock_initial": 10, "stock_available": 9, "stock_held": 1},
        payment={"taken": 1, "refunded": 0, "applied_twice": 0, "taken_minor": 100, "refunded_minor": 0, "balance_minor": 100},
        invoice={"emailed": 1, "last_number": 1, "applied_twice": 0},
        report=Report(orders=3, entries=20, findings=()),
    )


def test_a_good_end_holds(good: Ending) -> None:
    """Else the demo would end with 1 although all is well."""
    assert all(holds for holds, _, _ in checks(good))


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ({"inventory": {"released": 0}}, "the stock adds up"),
        ({"inventory": {"applied_twice": 1}}, "nothing was applied twice"),
        ({"inventory": {"stock_available": 8}}, "the stock adds up"),
        ({"payment": {"balance_minor": 200}}, "the money adds up"),
        ({"payment": {"refunded": 1}}, "the money adds up"),
        ({"invoice": {"emailed": 2}}, "an invoice for each completed order"),
        ({"orders": {"demo-1": _shown(1, "taking_payment", None)}}, "every order is at a right end"),
        ({"orders": {"demo-2": _shown(2, "compensated", "refused")}}, "ran out of attempts and were undone"),
        ({"orders": {"demo-3": _shown(3, "compensated", "silence")}}, "refused by payment and undone"),
        ({"attempts": {"demo-1": 1}}, "came back in time"),
        ({"placed": {"demo-4": _placed(4)}}, "no order is lost"),
    ],
)
def test_the_proof_sees_what_is_wrong(good: Ending, broken: dict[str, dict[str, Any]], what: str) -> None:
    """Else the demo would claim that all held while something was lost, done twice, or never happened."""
    changes: dict[str, Any] = {name: {**getattr(good, name), **change} for name, change in broken.items()}
    assert what in [name for holds, name, _ in checks(replace(good, **changes)) if not holds]


def test_the_proof_sees_a_history_that_does_not_agree(good: Ending) -> None:
    """Else the demo would claim that all held over a broken journal."""
    finding = Discrepancy(order_id="demo-1", what="it differs", mend="rebuild")
    failed = [name for holds, name, _ in checks(replace(good, report=Report(orders=3, entries=20, findings=(finding,)))) if not holds]
    assert failed == ["every history folds to what is stored"]
