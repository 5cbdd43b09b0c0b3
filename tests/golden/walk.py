"""A life at random, the same for the same seed: anything that can happen to an order, fitting or not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.saga.inputs import ActName
from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.harness import Harness

Happening = Callable[[], Any]


def walk(rulebook: Rulebook, seed: int, *, inputs: int) -> Harness:
    """An order after its opening and `inputs` further inputs. Half of them answer what the order waits for, so that it comes somewhere."""
    # `random()` of a text seed gives the same in every version of Python; its other methods need not.
    dice = random.Random(f"{rulebook.name}:{seed}")
    harness = Harness(rulebook)
    harness.open({"amount_minor": 500}, order_id=f"{rulebook.name}-{seed}")
    for _ in range(inputs):
        awaited = list(_awaited(harness)) if dice.random() < 0.5 else []
        possible = awaited or list(_anything(harness))
        possible[int(dice.random() * len(possible))]()
    return harness


def _awaited(harness: Harness) -> Iterator[Happening]:
    for ask in harness.order.asks.values():
        if ask.undo_is_open:
            yield partial(harness.undone, ask.key)
        elif ask.forward == "asked":
            yield partial(harness.reply, ask.key, {"payment_id": "p-1"})


def _anything(harness: Harness) -> Iterator[Happening]:
    rulebook, order = harness.rulebook, harness.order
    for ask in order.asks.values():
        step = rulebook.by_name[ask.step]
        if ask.attempts:
            yield partial(harness.reply, ask.key, {"payment_id": "p-2"})
            yield partial(harness.refuse, ask.key)
            yield partial(harness.refuse, ask.key, event=COMMAND_TOO_LATE)
            yield partial(harness.event, step.done_on, source="stranger", command_id=ask.command_id)
        if ask.attempts and step.undo is not None:
            yield partial(harness.event, step.undo.done_on, source=step.participant, command_id=ask.command_id)
        if ask.undo_attempts:
            yield partial(harness.undone, ask.key)
    yield partial(harness.event, rulebook.opens_on, dict(order.data))
    yield partial(harness.event, rulebook.opens_on, {"other": True})
    yield partial(harness.event, rulebook.steps[0].done_on)
    yield from (partial(harness.event, name) for name in sorted(rulebook.abort_on))
    for name, deadline in sorted(order.deadlines.items()):
        if deadline.due_at is not None:
            yield partial(harness.silence, name)
            yield partial(harness.silence, name, excused=True)
            yield partial(harness.act, "deadline", name=name, due_at="90s")
        if deadline.command_id is not None:
            yield partial(harness.sent_late, name.partition(":")[2])
    plain: tuple[ActName, ...] = ("retry", "abort", "hold", "release", "abandon")
    yield from (partial(harness.act, act, admin=True) for act in plain)
    yield partial(harness.act, "hold", until="1h")
    for step in rulebook.steps:
        yield partial(harness.act, "force", to=step.state)
        yield partial(harness.act, "skip", step=step.name)
        yield partial(harness.act, "confirm", step=step.name)
    yield partial(harness.act, "force", to="completed", admin=True)
