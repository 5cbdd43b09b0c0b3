"""The static checks: one planted defect each, found where it stands (R31, R7, R12)."""

from __future__ import annotations

import pytest

from orchestrator.saga.check import check
from orchestrator.saga.definition import read
from tests.saga.world import DEFINITIONS, ORDER_TEXT

DEFECTS = {
    "effect without undo": ("undo: {command: ReleaseInventory", "x", "steps[0]", "cannot be undone"),
    "second pivot": ("    state: reserving_inventory\n", "    state: reserving_inventory\n    pivot: true\n", "steps[2].pivot", "pivot"),
    "patience": ("patience: 30m", "patience: 1m", "patience", "can take"),
    "two steps of one name": ("step: take_payment", "step: reserve_inventory", "steps[1].step", "second step"),
    "two steps of one state": ("state: taking_payment", "state: reserving_inventory", "steps[1].state", "second step"),
    "state of an end": ("state: taking_payment", "state: completed", "steps[1].state", "itself uses"),
    "state of another end": ("state: taking_payment", "state: failed", "steps[1].state", "itself uses"),
    "state of an undo": ("state: taking_payment", "state: undoing_take_payment", "steps[1].state", "itself uses"),
    "abort by the opening": ("[OrderCancelRequested]", "[OrderPlaced]", "abort_on", "also opens"),
    "answer that opens": ("done_on: PaymentTaken", "done_on: OrderPlaced", "steps[1].done_on", "also opens"),
    "answer that aborts": ("done_on: PaymentTaken", "done_on: OrderCancelRequested", "steps[1].done_on", "also aborts"),
    "success and refusal in one": ("refused_on: PaymentDeclined", "refused_on: PaymentTaken", "steps[1]", "two answers"),
    "our own event": ("refused_on: PaymentDeclined", "refused_on: CommandTooLate", "steps[1].refused_on", "Escrow's own"),
    "harmless with undo": ("    state: taking_payment\n", "    harmless: true\n", "steps[1].harmless", "has an undo"),
    "harmless pivot": ("    pivot: true\n", "    pivot: true\n    harmless: true\n", "steps[2].harmless", "need no undo"),
    "limit at the pivot": ("    pivot: true\n", "    pivot: true\n    retry: {attempts: 3}\n", "steps[2].retry.attempts", "without limit"),
    "limit of an undo": ("deadline: 30s, retry: {first: 5s, max: 5m}}\n  - step: t", None, "steps[0].undo.retry.attempts", "without limit"),
    "alarm before the pivot": ("    state: taking_payment\n", None, "steps[1].retry.stuck_after", "end the wait"),
    "first backoff above the last": ("    pivot: true\n", "    pivot: true\n    retry: {first: 1h}\n", "steps[2].retry.first", "longer"),
    "reply of a later step": ("with: [order_id, amount_minor", "with: [email_invoice.number, amount_minor", "steps[1].with[0]", "names"),
    "undo that names nobody": ("[order_id, take_payment.payment_id], done", "[order_id, pay.id], done", "steps[1].undo.with[1]", "names"),
    "field given twice": ("with: [order_id, amount_minor", "with: [order_id, reserve_inventory.order_id", "steps[1].with[1]", "twice"),
    "unknown end": ("compensated: OrderCancelled", "cancelled: OrderCancelled", "announce.cancelled", "no end"),
}


def _plant(name: str) -> str:
    old, new, _, _ = DEFECTS[name]
    if name == "effect without undo":
        return "".join(line for line in ORDER_TEXT.splitlines(keepends=True) if old not in line)
    if name == "limit of an undo":
        new = old.replace("{first", "{attempts: 3, first")
    if name == "alarm before the pivot":
        head, tail = ORDER_TEXT.split("  - step: take_payment")
        return head + "  - step: take_payment" + tail.replace("{attempts: 4,", "{stuck_after: 4,", 1)
    assert ORDER_TEXT.count(old) == 1
    assert new is not None
    return ORDER_TEXT.replace(old, new)


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found_where_it_stands(name: str) -> None:
    """Else a definition with this defect starts, and orders run into it."""
    _, _, path, word = DEFECTS[name]
    text = _plant(name)
    found = [finding for finding in check(read(text, "order.yaml")) if finding.path == path and word in finding.message]
    assert found, check(read(text, "order.yaml"))
    assert found[0].fix
    field = path.rpartition(".")[2].partition("[")[0]
    assert field in text.splitlines()[found[0].line - 1] or field == "steps"


def test_a_step_after_the_pivot_is_not_declared_harmless() -> None:
    """Else an author believes that something else would be undone there."""
    after = """
  - step: thank
    ask: mail
    command: Thank
    done_on: Thanked
    refused_on: ThanksFailed
    deadline: 10s
    harmless: true
"""
    head, announce = ORDER_TEXT.split("\nannounce:")
    findings = check(read(f"{head}{after}announce:{announce}", "order.yaml"))
    assert [finding.path for finding in findings] == ["steps[3].harmless"]


@pytest.mark.parametrize("path", sorted(DEFINITIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_definitions_are_clean(path: object) -> None:
    """Else Escrow does not start on its own definitions."""
    assert check(read((DEFINITIONS / str(path)).read_text(), str(path))) == []
