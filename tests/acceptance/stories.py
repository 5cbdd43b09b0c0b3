"""The definitions of the acceptance tests: the shipped saga with other participants and other durations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEMPLATE = """\
definition: {name}
version: 1
opens_on: {opens_on}
key: order_id
patience: 10m
abort_on: [OrderCancelRequested]
steps:
  - step: reserve_inventory
    state: reserving_inventory
    ask: {inventory}
    command: ReserveInventory
    with: [order_id, lines]
    done_on: InventoryReserved
    refused_on: InventoryRejected
    deadline: {deadline}
    retry: {{attempts: 3, first: {first}, factor: 2, max: 10s}}
    undo: {{command: ReleaseInventory, with: [order_id, lines], done_on: InventoryReleased, deadline: {deadline}, retry: {undo_retry}}}
  - step: take_payment
    state: taking_payment
    ask: {payment}
    command: TakePayment
    with: [order_id, amount_minor, currency]
    done_on: PaymentTaken
    refused_on: PaymentDeclined
    deadline: {later}
    retry: {{attempts: 3, first: {first}, factor: 2, max: 10s}}
    undo: {{command: RefundPayment, with: [order_id, take_payment.payment_id], done_on: PaymentRefunded, deadline: {later},
            retry: {undo_retry}}}
  - step: email_invoice
    state: emailing_invoice
    ask: {invoice}
    command: EmailInvoice
    with: [order_id, customer_email, lines, amount_minor, currency, take_payment.payment_id]
    done_on: InvoiceEmailed
    refused_on: InvoiceRejected
    deadline: {later}
    retry: {undo_retry}
    pivot: true
announce: {{completed: OrderCompleted, compensated: OrderCancelled}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One definition. Times in seconds."""

    name: str
    opens_on: str
    deadline_s: float
    first_s: float = 0.2
    #: Of the steps after the first; None: the same.
    later_deadline_s: float | None = None
    #: Asked by the definition, in the order of its steps.
    participants: tuple[str, str, str]

    def write(self, directory: Path) -> None:
        """Write it as a definition file."""
        inventory, payment, invoice = self.participants
        text = TEMPLATE.format(
            name=self.name,
            opens_on=self.opens_on,
            inventory=inventory,
            payment=payment,
            invoice=invoice,
            deadline=f"{self.deadline_s * 1000:.0f}ms",
            later=f"{(self.later_deadline_s or self.deadline_s) * 1000:.0f}ms",
            first=f"{self.first_s * 1000:.0f}ms",
            undo_retry=f"{{first: {self.first_s * 1000:.0f}ms, max: 1s, stuck_after: 2}}",
        )
        (directory / f"{self.name}.yaml").write_text(text, encoding="utf-8")


#: Sendings of a step before the pivot, in all.
ATTEMPTS = 3
REAL = ("inventory", "payment", "invoice")
PLAYED = ("stock", "till", "post")
#: Who closes a house.
CLOSING = ("agent", "bank", "registry")

#: Real participants, who have all the time they need.
ORDER = Story(name="order", opens_on="OrderPlaced", deadline_s=20, participants=REAL)
#: Real participants, with deadlines for which nobody wants to wait long.
SWIFT = Story(name="swift", opens_on="SwiftPlaced", deadline_s=0.7, participants=REAL)
#: Participants played by the test, who has all the time it needs.
CALM = Story(name="calm", opens_on="CalmPlaced", deadline_s=60, participants=PLAYED)
#: Participants played by the test, and deadlines that pass.
BRISK = Story(name="brisk", opens_on="BriskPlaced", deadline_s=0.7, participants=PLAYED)

#: Real participants; the first has two thirds of half a minute, the others all the time that a busy machine may need.
OUTAGE = Story(name="outage", opens_on="OutagePlaced", deadline_s=20, later_deadline_s=120, first_s=1, participants=REAL)

STORIES = (ORDER, SWIFT, CALM, BRISK, OUTAGE)

DATA = {
    "lines": [{"sku": "anvil", "quantity": 2}],
    "amount_minor": 4_200,
    "currency": "EUR",
    "customer_email": "wile@example.com",
}
