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
    "a participant that stands for a human": ("ask: payment", "ask: operator", "steps[1].ask", "stands for a human"),
    "the order's id changed": (
        "    state: taking_payment\n",
        "    state: taking_payment\n    set: {order_id: event.x}\n",
        "steps[1].set.order_id",
        "id cannot change",
    ),
    "patience without a way back": ("    pivot: true\n", "    pivot: true\n    patience: 1h\n", "steps[2].patience", "no way back"),
    "patience that never ends": (
        "    state: taking_payment\n",
        "    state: taking_payment\n    patience: 1h\n",
        "steps[1].patience",
        "end before",
    ),
    "a policy about nothing": ("announce:", "policies: [{event: Nothing, late: note}]\nannounce:", "policies[0].event", "Nothing here"),
    "a policy in no state": (
        "announce:",
        "policies: [{event: PaymentTaken, in: [taking], late: note}]\nannounce:",
        "policies[0].in",
        "no state taking",
    ),
    "a policy that says nothing": ("announce:", "policies: [{event: PaymentTaken}]\nannounce:", "policies[0]", "says nothing"),
    "a policy said twice": (
        "announce:",
        "policies: [{event: PaymentTaken, late: note}, {event: PaymentTaken, late: quarantine}]\nannounce:",
        "policies[1].late",
        "says this already",
    ),
    "a watched step that nothing stops": (
        "    pivot: true\n",
        "    pivot: true\n    send: on_silence\n",
        "steps[2].send",
        "while the order is being undone",
    ),
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


WATCHED = "{step: w, ask: p, command: W, send: on_silence, done_on: Wed, deadline: 1s, undo: {command: U, done_on: Ud, deadline: 1s}}"
PLAIN = "{step: a, ask: p, command: A, done_on: Aed, deadline: 1s, harmless: true}"
PIVOT = "{step: b, ask: p, command: B, done_on: Bed, deadline: 1s, pivot: true}"
OTHER_PIVOT, LAST_PIVOT = PIVOT.replace("step: b", "step: e"), PIVOT.replace("step: b", "step: f")
HEAD = "definition: d\nversion: 1\nopens_on: O\nkey: id\npatience: 1h\nsteps:\n"

LINES = {
    "watched in a choice": (
        f"  - {{choose: c, cases: [{{when: order.x, steps: [{WATCHED}]}}]}}\n",
        "steps[0].cases[0].steps[0].send",
        "not every order comes to it just once",
    ),
    "watched in a loop": (
        f"  - {{repeat: r, until: order.x, at_most: 2, steps: [{WATCHED}]}}\n",
        "steps[0].steps[0].send",
        "not every order comes to it just once",
    ),
    "watched steps with one answer": (
        f"  - {WATCHED}\n  - {WATCHED.replace('step: w', 'step: v')}\n",
        "steps[1].done_on",
        "also answers w",
    ),
    "a pivot in a loop": (
        f"  - {{repeat: r, until: order.x, at_most: 2, steps: [{PIVOT}]}}\n",
        "steps[0].steps[0].pivot",
        "more than once",
    ),
    "two pivots on one way": (
        f"  - {{choose: c, cases: [{{when: order.x, steps: [{PIVOT}]}}], otherwise: [{OTHER_PIVOT}]}}\n  - {LAST_PIVOT}\n",
        "steps[1].pivot",
        "A second pivot",
    ),
    "a pivot on some ways": (
        f"  - {{choose: c, cases: [{{when: order.x, steps: [{PIVOT}]}}], otherwise: [{PLAIN}]}}\n",
        "steps[0].choose",
        "Only some of its ways",
    ),
    "too many steps": (
        "".join(f"  - {PLAIN.replace('step: a', f'step: a{n}')}\n" for n in range(99))
        + "  - {choose: c, cases: [{when: order.x, steps: ["
        + ", ".join(PLAIN.replace("step: a", f"step: b{n}") for n in range(100))
        + "]}], otherwise: ["
        + ", ".join(PLAIN.replace("step: a", f"step: c{n}") for n in range(2))
        + "]}\n",
        "steps",
        "There are 201 steps",
    ),
    "a watched step whose first wait does not fit": (
        f"  - {WATCHED.replace('deadline: 1s, undo', 'deadline: 30m, retry: {attempts: 1}, undo')}\n  - {PIVOT}\n".replace("30m", "31m"),
        "patience",
        "can take 3720 s",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_planted_defect_of_a_line_is_found_where_it_stands(name: str) -> None:
    """Else a definition with this defect starts, and orders run into it."""
    steps, path, word = LINES[name]
    text = HEAD + steps
    found = [finding for finding in check(read(text, "d.yaml")) if finding.path == path and word in finding.message]
    assert found, check(read(text, "d.yaml"))
    assert found[0].fix
    assert path.partition("[")[0] in text.splitlines()[found[0].line - 1] or found[0].line > HEAD.count("\n")


def test_a_pivot_on_each_way_is_no_defect() -> None:
    """Else a choice cannot have points of no return of its own."""
    cases = f"cases: [{{when: order.x, steps: [{PLAIN}, {PIVOT}]}}], otherwise: [{OTHER_PIVOT}]"
    after = PLAIN.replace("step: a", "step: f").replace(", harmless: true", "")
    assert check(read(f"{HEAD}  - {{choose: c, {cases}}}\n  - {after}\n", "d.yaml")) == []


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
