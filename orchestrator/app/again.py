"""Decide again: every recorded input, on the order as it was, at the recorded time, must give the recorded entry, byte for byte (R25).

An entry that differs is one of two things. Either today's core decides otherwise: another verdict, another order after it, other messages;
that is a finding. Or the entry says the same in another form: an older release wrote its input, its patch or the text of its reason
otherwise, and everything that follows from it is equal; that is counted, and no finding. An input that this release cannot read is of
another form as well, and said to be so: nothing can be said of what it decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.app.registry import Registry
from orchestrator.app.replay import LINE, Line, Replay, entry_of, thawed
from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga import inputs
from orchestrator.saga.decide import decide
from orchestrator.saga.decision import Entry
from orchestrator.saga.fold import apply_patch
from orchestrator.saga.order import Order, to_document

#: Differences told of one order: one leads to the next.
TOLD_MAX = 3

_INPUT, _AT = LINE.index("input"), LINE.index("at")
_LOOK = "compare the releases that wrote and that read it (CHANGELOG.md); where one release did both, report it. The history stands"


class Again:
    """Decides again with the registered definitions."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def order(self, order_id: str) -> Second:
        """One order from its opening."""
        return Second(self._registry, order_id)


class Second:
    """One order, decided a second time."""

    def __init__(self, registry: Registry, order_id: str) -> None:
        self._registry = registry
        self._order_id = order_id
        #: As it was before the next entry.
        self._order: Order | None = None
        self.decided = 0
        self.other_form = 0
        #: (what, mend).
        self.findings: list[tuple[str, str]] = []

    def take(self, line: Line, replay: Replay) -> None:
        """Decide the input of an entry; `replay` has taken it already."""
        self.decided += 1
        before, after = self._order, None
        try:
            input_ = inputs.from_document(canonical.load(line[_INPUT]))
        except (LookupError, TypeError, ValueError):
            self.other_form += 1
        else:
            after = self._judge(before, input_, line, replay)
        # Whatever was decided, the history is what happened.
        self._order = after if after is not None else thawed(replay)

    def close(self, replay: Replay) -> None:
        """The order that deciding gave must be the one that folding gives."""
        if self._order is not None and canonical.encode(to_document(self._order)) != replay.bytes():
            self._tell("folding its journal gives another order than deciding its inputs")

    def _judge(self, before: Order | None, input_: inputs.Input, line: Line, replay: Replay) -> Order | None:
        """The order after it; None when it is to be taken from the journal."""
        recorded = entry_of(line)
        where = f"entry {recorded.seq} ({recorded.name})"
        fields = replay.document["fields"]
        pinned = (before.definition, before.version) if before is not None else (fields["definition"], fields["version"])
        target = None
        try:
            rulebook = self._registry.rulebook(*pinned)
            if isinstance(input_, inputs.OperatorAct) and input_.act == "migrate":
                target = self._registry.find(pinned[0], input_.arguments.get("version"))
        except InvariantViolated as missing:
            self._tell(f"{where} cannot be decided again: {missing}", "register that version again: start a process with its file")
            return None
        try:
            decision = decide(rulebook, before, input_, recorded.at, target=target)
        except Exception as error:  # noqa: BLE001  # whatever it is, the order that brings it about must be named
            self._tell(f"{where}: deciding again raises {type(error).__name__}: {error}")
            return None
        if decision.entry == recorded:
            return decision.order
        if decision.entry is None:
            self._tell(f"{where}: decided again, it is not journaled ({decision.reason})")
        elif _says_the_same(before, decision.entry, recorded):
            self.other_form += 1
        else:
            self._tell(f"{where}: decided again, {_difference(decision.entry, recorded)}")
        return None

    def _tell(self, what: str, mend: str = _LOOK) -> None:
        if len(self.findings) < TOLD_MAX:
            self.findings.append((what, mend))


def _says_the_same(before: Order | None, today: Entry, recorded: Entry) -> bool:
    """Whether two entries differ in nothing but how input, patch and reason are written."""
    in_form = replace(today, input=recorded.input, patch=recorded.patch, reason=recorded.reason, hash=recorded.hash)
    return in_form == recorded and _after(before, today) == _after(before, recorded)


def _after(before: Order | None, entry: Entry) -> bytes:
    """The order that an entry leads to, but for the hash."""
    document: dict[str, Any] = to_document(before) if before is not None else Replay(entry.order_id).document
    # Its own: a patch changes the document in place, and it shares its parts with the order.
    document = canonical.load(canonical.encode(document))
    apply_patch(document, canonical.load(entry.patch))
    return canonical.encode(document)


def _difference(today: Entry, recorded: Entry) -> str:
    """What differs first, in a few words."""
    for name in ("verdict", "to_state", "from_state", "kind", "name", "source", "message_id", "cause_seq", "actor", "at", "prev_hash"):
        if getattr(today, name) != getattr(recorded, name):
            return f"its {name} is {getattr(today, name)}, and {getattr(recorded, name)} is recorded"
    return "what it sends and announces differs" if today.effects != recorded.effects else "it changes the order otherwise"
