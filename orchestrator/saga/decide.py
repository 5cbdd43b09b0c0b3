"""decide(rulebook, order, input, now) -> Decision: the only door into the core.

Theory of operation. An order is a position (`state`, moved by the definition's machine alone), a ledger of asks, and a set of
armed deadlines. Everything that happens is an input; every input has a verdict (R1). A change is made on a `Draft`, which collects what
is to be sent, and closes with one journal entry whose patch says exactly what changed: folding the journal gives the order (R25). Nothing
here does I/O, reads a clock or makes an id (R2), and no transition has a callback (R3).

The way forward is in `asking`, the way back in `undoing`, messages in `messages`, passed deadlines in `silence`, operators in `acts`.
"""

from __future__ import annotations

from datetime import datetime

from orchestrator.saga.acts import decide_act
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct, SentLate
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
