"""Small definitions to explore, and how a test explores them."""

from __future__ import annotations

from orchestrator.explore.search import Exploration, explore
from orchestrator.explore.world import Bound
from orchestrator.saga.definition import Definition, read
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
}


def definition(name: str) -> Definition:
    """One of the definitions, unchecked."""
    return read(TEXTS[name], f"{name}.yaml")


def explored(name: str, *, attempts: int = 2, acts: int = 1, crashes: int = 1, states: int = 200_000) -> Exploration:
    """What the exploration of a definition finds."""
    return explore(definition(name), Bound(attempts=attempts, acts=acts, crashes=crashes, states=states))
