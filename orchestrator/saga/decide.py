"""decide(rulebook, order, input, now) -> Decision, and decide_all for what follows from it: the only doors into the core.

Theory of operation. An order is a position (`state`, moved by the definition's machine alone), a ledger of asks, and a set of
armed deadlines. Everything that happens is an input; every input has a verdict (R1). A change is made on a `Draft`, which collects what
is to be sent, and closes with one journal entry whose patch says exactly what changed: folding the journal gives the order (R25). Nothing
here does I/O, reads a clock or makes an id (R2), and no transition has a callback (R3).

The way forward is in `forward` and `asking`, the way back in `undoing`, messages in `messages` and `events`, passed deadlines in `silence`,
operators in `acts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.saga.acts import decide_act
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct, SentLate, message_of
from orchestrator.saga.messages import decide_message
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.silence import decide_deadline, decide_sent_late


def decide(rulebook: Rulebook, order: Order | None, input_: Input, now: datetime, *, target: Rulebook | None = None) -> Decision:
    """What the input does to the order. Total and deterministic; raises only for a bug of ours.

    `order` is None for an order that does not exist yet: then only a message that opens it does anything. `target`: the version that a
    migration goes to; None when there is no such version.
    """
    if isinstance(input_, Message):
        return decide_message(rulebook, order, input_, now)
    if order is None:
        return Decision(order=None, verdict="ignored", reason="no_order: there is no such order")
    if isinstance(input_, DeadlineDue):
        return decide_deadline(rulebook, order, input_, now)
    if isinstance(input_, SentLate):
        return decide_sent_late(rulebook, order, input_, now)
    assert isinstance(input_, OperatorAct)
    return decide_act(rulebook, order, input_, now, target)


@dataclass(frozen=True, slots=True)
class Decided:
    """What one input brings about: decision by decision, each an entry of its own. For most inputs it is one."""

    #: What the order had parked, when the input makes it turn back (R11).
    before: tuple[tuple[Message, Decision], ...]
    own: Decision
    #: What was parked and fits by then, or never will.
    after: tuple[tuple[Message, Decision], ...] = ()

    @property
    def order(self) -> Order | None:
        """The order after all of it."""
        return self.after[-1][1].order if self.after else self.own.order


def decide_all(rulebook: Rulebook, order: Order | None, input_: Input, now: datetime, *, target: Rulebook | None = None) -> Decided:
    """`decide`, and what follows from it for the events that the order has parked. As total and deterministic."""
    own = decide(rulebook, order, input_, now, target=target)
    if order is not None and order.parked and _turns_back(order, own):
        before: list[tuple[Message, Decision]] = []
        for message in _parked(order):
            counted = replace(message, at_last=True)
            before.append((counted, decide(rulebook, order, counted, now)))
            order = before[-1][1].order
            assert order is not None
        # The operator saw the order as it was before what it had kept was counted.
        again = replace(input_, seq=order.seq) if isinstance(input_, OperatorAct) else input_
        return Decided(tuple(before), decide(rulebook, order, again, now, target=target))
    if own.order is None or not own.order.parked:
        return Decided((), own)
    if target is not None and own.order.version == target.version:
        rulebook = target
    return Decided((), own, tuple(_fitting(rulebook, own.order, now)))


def _fitting(rulebook: Rulebook, order: Order, now: datetime) -> Iterator[tuple[Message, Decision]]:
    """What is parked no longer: in order of arrival, and from the first again after each."""
    found = True
    while found:
        found = False
        for message in _parked(order):
            decision = decide(rulebook, order, message, now)
            if decision.entry is not None and decision.order is not None:
                yield message, decision
                order, found = decision.order, True
                break


def _turns_back(order: Order, decision: Decision) -> bool:
    """Whether the order goes forward no longer, and has not come to its end whole."""
    after = decision.order
    if order.direction != "forward" or after is None or after.direction == "forward":
        return False
    return after.direction == "undoing" or (after.outcome or after.state) != "completed"


def _parked(order: Order) -> list[Message]:
    """What is parked, in order of arrival."""
    kept = sorted(order.parked.items(), key=lambda item: int(item[0]))
    return [Message(envelope=message_of(document), cause_seq=int(seq)) for seq, document in kept]
