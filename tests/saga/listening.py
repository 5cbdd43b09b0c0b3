"""Rulebooks that listen: watched steps, the state form, guards, data that changes, and limits of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.saga.world import DEFINITIONS, compiled

HOUSE_TEXT = (DEFINITIONS / "house_closing.yaml").read_text()
HOUSE_RULES = compiled(HOUSE_TEXT)
HOUSE_DATA = {"closing_id": "o1", "property_id": "p1", "price_minor": 500, "funds_due_at": "2026-12-01T12:00:00Z"}

ORDER_WATCHED_TEXT = (DEFINITIONS / "order_watched.yaml").read_text()
ORDER_WATCHED_RULES = compiled(ORDER_WATCHED_TEXT)

#: Watched by itself, beside a step that is asked, at the pivot and after it; with a guard, a change of the data and a limit of its own.
WATCHED_RULES = compiled("""
definition: shipping
version: 1
opens_on: ShippingPlaced
key: order_id
patience: 10m
abort_on: [ShippingCancelled]
steps:
  - step: stock
    ask: inventory
    command: TakeStock
    send: on_silence
    done_on: StockTaken
    done_when: has(event.shelf) && event.shelf > 0
    set: {shelf: event.shelf}
    refused_on: StockRefused
    deadline: 10s
    patience: 15s
    retry: {attempts: 2, first: 1s}
    undo: {command: PutBack, with: [order_id, shelf], done_on: StockBack, deadline: 10s, retry: {stuck_after: 1}}
  - parallel: prepare
    steps:
      - step: label
        ask: printer
        command: PrintLabel
        send: on_silence
        done_on: LabelPrinted
        refused_on: LabelRefused
        deadline: 10s
        retry: {attempts: 1}
        undo: {command: VoidLabel, done_on: LabelVoid, deadline: 10s, retry: {stuck_after: 1}}
      - step: weigh
        ask: scale
        command: Weigh
        done_on: Weighed
        deadline: 10s
        retry: {attempts: 1}
        harmless: true
  - step: bill
    ask: bank
    command: Bill
    send: on_silence
    done_on: Billed
    refused_on: BillRefused
    deadline: 10s
    pivot: true
    retry: {stuck_after: 1}
    undo: {command: Credit, done_on: Credited, deadline: 10s, retry: {stuck_after: 1}}
  - step: send
    ask: post
    command: Send
    send: on_silence
    done_on: Sent
    refused_on: SendRefused
    deadline: 10s
    retry: {stuck_after: 1}
    undo: {command: CallBack, done_on: CalledBack, deadline: 10s, retry: {stuck_after: 1}}
policies:
  - {event: Weighed, unexpected: quarantine}
  - {event: LabelPrinted, in: [stock], early: ignore}
announce: {completed: ShippingDone, compensated: ShippingOff, abandoned: ShippingLost}
""")

#: One of each of the state form: joins, guards in cases, a return that is counted, notices, both deadlines, every kind of end, and a pivot
#: whose refusal leads on.
STATES_RULES = compiled("""
definition: sale
version: 1
opens_on: SaleOpened
key: order_id
patience: 30d
abort_on: [SaleCalledOff]
begins_in: offering
states:
  counting:
    at_most: 2
    on:
      Bid:
        from: bidder
        order_by: number
        cases:
          - {when: event.amount >= 100, then: reserving, set: {amount: event.amount}}
          - {when: event.amount >= 50, then: signing}
          - {when: event.amount < 0, then: dropped}
        undo: {command: ReturnBid, with: [order_id, Bid.amount], done_on: BidReturned, deadline: 1h, retry: {first: 1m, stuck_after: 1}}
      Extended: {order_by: number, set: {bids_due_at: event.until}}
      Withdrawn: {then: split}
    deadline: {at: order.bids_due_at, then: split}
  offering:
    any_of: [Listed, Shown]
    then: signing
    ask: agent
    command: Advertise
    deadline: {after: 1d, then: dropped}
  signing:
    all_of: [BuyerSigned, SellerSigned]
    then: counting
    at_most: 2
    on:
      SellerSigned: {from: seller, when: has(event.name)}
    remind: [{every: 1h, ask: agent, command: Chase}, {every: 2h, ask: seller, command: Chase, with: {left: order.nothing}}]
  reserving:
    step: reserve
    ask: registry
    command: Reserve
    done_on: Reserved
    done_when: event.ok
    set: {place: event.place}
    refused_on: ReserveRefused
    deadline: 1m
    patience: 90s
    retry: {attempts: 2, first: 1s}
    remind: {every: 40s, ask: agent, command: Hurry}
    undo: {command: Unreserve, done_on: Unreserved, deadline: 1m, retry: {stuck_after: 1}}
    on: {Hastened: {then: recording}}
    then: recording
    on_refused: split
  recording:
    ask: registry
    command: Record
    done_on: Recorded
    refused_on: RecordRefused
    deadline: 1m
    retry: {stuck_after: 1}
    pivot: true
    then: handing_over
    on_refused: settling
  settling:
    on: {Settled: split}
  handing_over:
    on:
      KeysHandedOver: {undo: {ask: agent, command: TakeKeysBack, done_on: KeysTakenBack, deadline: 1m}, then: paying}
      KeysLost: {then: kept}
    deadline: {after: 1d, then: paying}
  paying:
    ask: bank
    command: Pay
    done_on: Paid
    refused_on: PayRefused
    deadline: 1m
    retry: {stuck_after: 1}
    then: sold
  sold: {outcome: completed}
  kept: {outcome: failed, undo: none}
  split: {outcome: failed, undo: [reserve]}
  dropped: {outcome: failed}
announce: {sold: SaleDone, split: SaleSplit, compensated: SaleOff}
""")
SALE_DATA = {"order_id": "o1", "bids_due_at": "2026-11-05T12:00:00Z"}

#: What an order is opened with, by definition, where it needs more than any other.
OPENED_WITH: Mapping[str, Mapping[str, Any]] = {HOUSE_RULES.name: HOUSE_DATA, STATES_RULES.name: SALE_DATA}
