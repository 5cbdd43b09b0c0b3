"""No command outgrows a message: what an order is to hold is sized before it is taken in, against every command that can be made of it.

Commands are made of the order's data and of what its replies brought, and of nothing else. So it is enough to look when one of the two
changes: when the order opens, when a step is done, when an event changes its data; and when one is parked that will.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.contract import canonical
from orchestrator.contract.envelope import BODY_BYTES_MAX
from orchestrator.saga.asking import body, surely
from orchestrator.saga.draft import Draft
from orchestrator.saga.expression import ExpressionError
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import Fields

#: Bytes that the attributes of a command may take: ids and names have limits, so they need fewer.
ENVELOPE_BYTES_MAX = 4_096
#: Bytes of the data of a command, as canonical JSON.
COMMAND_DATA_BYTES_MAX = BODY_BYTES_MAX - ENVELOPE_BYTES_MAX


def too_large(rulebook: Rulebook, before: Order | None, after: Order) -> str | None:
    """Why the order cannot be kept as it would be `after`: which command or undo of it would outgrow a message. None: it can."""
    if before is not None and not _may_have_grown(before, after):
        return None
    draft = Draft(rulebook, after, after.updated_at)
    for message in after.parked.values():
        step = rulebook.watched_answers.get(message["type"])
        draft.replies[step.name if step else message["type"]] = message["data"]
    for command, data in _commands(draft):
        size = len(canonical.encode(data))
        if size > COMMAND_DATA_BYTES_MAX:
            return f"{command} would carry {size} bytes of data; at most {COMMAND_DATA_BYTES_MAX} are sent"
    return None


def _commands(draft: Draft) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything that can be sent, with its data: commands, undos (of events from outside, too), and notices."""
    rulebook = draft.rulebook
    for step in rulebook.by_name.values():
        if step.name not in rulebook.events:
            yield step.command, _body(draft, step.fields)
        if step.undo is not None:
            yield step.undo.command, surely(draft, step.undo.fields)
    for stage in rulebook.stages:
        for notice in stage.notices:
            yield notice.command, surely(draft, notice.fields)


def _may_have_grown(before: Order, after: Order) -> bool:
    if before.amended != after.amended or not after.parked.keys() <= before.parked.keys():
        return True
    return any(before.replies.get(step) is not reply for step, reply in after.replies.items())


def _body(draft: Draft, fields: Fields) -> Mapping[str, Any]:
    """A command's data; nothing while it cannot be computed: what it needs is still to come, and is sized then."""
    try:
        return body(draft, fields)
    except ExpressionError:
        return {}
