"""Small definitions to explore, and how a test explores them."""

from __future__ import annotations

from orchestrator.explore.search import Exploration, explore
from orchestrator.explore.world import Bound
from orchestrator.saga.definition import Definition, read
from tests.saga.listening import HOUSE_TEXT, ORDER_WATCHED_TEXT
from tests.saga.world import ORDER_TEXT

_RESERVE = """
  - step: reserve
    ask: store
    command: Reserve
    done_on: Reserved
    refused_on: ReserveRefused
    deadline: 10s
    retry: {attempts: 2, first: 1s}
    undo: {command: Release, done_on: Released, deadline: 10s, retry: {stuck_after: 2}}
"""
_PAY = """
  - step: pay
    ask: bank
    command: Pay
    done_on: Paid
    refused_on: Declined
    deadline: 10s
"""
_HEAD = """
definition: {name}
version: 1
opens_on: Placed
key: order_id
patience: 10m
abort_on: [Cancelled]
steps:
"""

_OPEN = _HEAD.replace("steps:", "").replace("patience: 10m", "patience: 10d")
_WATCHED = """
  - step: stock
    ask: store
    command: Take
    send: on_silence
    done_on: Taken
    refused_on: TakeRefused
    deadline: 10s
    retry: {attempts: 1}
    undo: {command: PutBack, done_on: IsBack, deadline: 10s, retry: {stuck_after: 1}}
"""
_DEPOSIT = "undo: {command: GiveBack, done_on: GivenBack, deadline: 10s, retry: {stuck_after: 1}}"

TEXTS = {
    # Both steps can be undone, and there is no point of no return.
    "pair": _HEAD.format(name="pair") + _RESERVE + _PAY + "    undo: {command: Refund, done_on: Refunded, deadline: 10s}\n",
    # The second step is the point of no return.
    "pivot": _HEAD.format(name="pivot") + _RESERVE + _PAY + "    pivot: true\n",
    # A step after the point of no return, which may be refused.
    "after": _HEAD.format(name="after")
    + _PAY.replace("pay", "take")
    + "    pivot: true\n"
    + _RESERVE.replace("attempts: 2", "stuck_after: 2"),
    "order": ORDER_TEXT,
    "order_watched": ORDER_WATCHED_TEXT,
    "house_closing": HOUSE_TEXT,
    # A step is asked, then others bring one about, or refuse it; what they did may be heard of early.
    "watched": _HEAD.format(name="watched") + _PAY + "    undo: {command: Refund, done_on: Refunded, deadline: 10s}\n" + _WATCHED,
    # A watched step beside one that is asked.
    "beside": _HEAD.format(name="beside")
    + "  - parallel: both\n    steps:"
    + (_WATCHED + _PAY + "    undo: {command: Refund, done_on: Refunded, deadline: 10s}\n").replace("\n  ", "\n      "),
    # The point of no return on each way.
    "ways": _HEAD.format(name="ways")
    + _RESERVE
    + """
  - choose: how
    cases:
      - when: order.by_card
        steps: [{step: charge, ask: bank, command: Charge, done_on: Charged, refused_on: ChargeRefused, deadline: 10s, pivot: true}]
    otherwise: [{step: bill, ask: bank, command: Bill, done_on: Billed, deadline: 10s, pivot: true}]
""",
    # Two events that must both come, one of which can be undone; and an end that leaves one effect and undoes the other.
    "join": _OPEN.format(name="join")
    + f"""
states:
  gathering:
    all_of: [Paid, Signed]
    then: reserving
    on: {{Paid: {{from: bank, {_DEPOSIT}}}}}
    deadline: {{after: 1d, then: split}}
    remind: {{every: 1h, ask: store, command: Chase}}
  reserving:
    step: reserve
    ask: store
    command: Reserve
    done_on: Reserved
    refused_on: ReserveRefused
    deadline: 10s
    retry: {{attempts: 1}}
    undo: {{command: Release, done_on: Released, deadline: 10s, retry: {{stuck_after: 1}}}}
    then: handing_over
    on_refused: split
  handing_over:
    on: {{HandedOver: whole}}
    deadline: {{after: 1d, then: split}}
  whole: {{outcome: completed}}
  split: {{outcome: failed, undo: [Paid]}}
""",
    # States that come twice at most, a guarded event that can be undone and that only a younger one beats, and a guarded step.
    "cycle": _OPEN.format(name="cycle")
    + f"""
states:
  scoring:
    step: score
    ask: bureau
    command: Score
    done_on: Scored
    done_when: event.points > 0
    set: {{points: event.points}}
    deadline: 10s
    retry: {{attempts: 1}}
    harmless: true
    at_most: 2
    then: bidding
  bidding:
    at_most: 2
    on:
      Bid:
        from: bidder
        order_by: number
        cases: [{{when: event.amount >= 100, then: sold}}, {{when: event.amount >= 50, then: scoring}}]
        {_DEPOSIT}
    deadline: {{at: order.ends_at, then: unsold}}
  sold: {{outcome: completed}}
  unsold: {{outcome: failed}}
""",
}


def definition(name: str) -> Definition:
    """One of the definitions, unchecked."""
    return read(TEXTS[name], f"{name}.yaml")


def explored(name: str, *, attempts: int = 2, acts: int = 1, crashes: int = 1, events: int = 2, states: int = 200_000) -> Exploration:
    """What the exploration of a definition finds."""
    return explore(definition(name), Bound(attempts=attempts, acts=acts, crashes=crashes, events=events, states=states))
