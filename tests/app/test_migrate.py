"""An order under way goes on under another version of its definition, through the line, and its history still proves it (R30, R25)."""

from __future__ import annotations

from importlib import resources

from orchestrator.app import restore
from orchestrator.app.work import Outcome, Work
from orchestrator.contract import canonical
from orchestrator.saga.definition import read
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import verify
from orchestrator.store.definitions import Registration
from tests.app.house import House, answer, placed


def register_second(house: House) -> None:
    """Version 2 of the shipped definition, in which a step is called otherwise."""
    text = (resources.files("orchestrator") / "definitions" / "order.yaml").read_text()
    for old, new in (("version: 1", "version: 2"), ("step: take_payment", "step: charge"), ("take_payment.", "charge.")):
        text = text.replace(old, new)
    second = read(text, "second.yaml")
    raw, expanded = canonical.encode(second.raw), canonical.encode(second.expanded)
    fingerprint, opens_on = second.fingerprint, second.expanded["opens_on"]
    house.store.register(
        [Registration(name="order", version=2, fingerprint=fingerprint, raw=raw, expanded=expanded, opens_on=opens_on, is_opener=True)]
    )


def migrate(house: House, order_id: str, version: int, *, dry_run: bool = False) -> Outcome:
    """The act, on the order as it is."""
    act = OperatorAct(
        act="migrate",
        actor="ann",
        reason="release 2",
        seq=house.order(order_id).seq,
        is_admin=True,
        arguments={"version": version, "steps": {"take_payment": "charge"}},
    )
    [(_, outcome)] = house.handle(Work(order_id=order_id, input=act, dry_run=dry_run)).outcomes
    return outcome


def test_an_order_is_moved_and_goes_on_and_its_history_proves_it(house: House) -> None:
    """Else a migrated order cannot be rebuilt, or its answers are unknown."""
    house.handle(placed("o"))
    house.handle(answer("o", "reserve_inventory", "InventoryReserved"))
    register_second(house)
    assert migrate(house, "o", 2, dry_run=True).error is None
    assert house.order("o").version == 1
    migrate(house, "o", 2)
    house.handle(answer("o", "take_payment", "PaymentTaken", data={"payment_id": "p"}))
    house.handle(answer("o", "email_invoice", "InvoiceEmailed"))
    order = house.order("o")
    assert (order.version, order.status, set(order.replies)) == (2, "completed", {"reserve_inventory", "charge", "email_invoice"})
    report = restore.verify(verify.journals(house.engine), verify.Projection(), verify.counter_sums(house.engine))
    assert report.findings == ()


def test_a_version_that_is_not_registered_is_refused(house: House) -> None:
    """Else an order is pinned to what no worker can load."""
    house.handle(placed("o"))
    for version in (9, 0, 10**30):
        decision = migrate(house, "o", version).decision
        assert decision is not None
        assert decision.problem == "invalid"
    assert house.order("o").version == 1
