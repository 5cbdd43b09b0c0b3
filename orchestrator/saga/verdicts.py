"""The ways a message can end (R1), each with its journal entry."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from orchestrator.saga.decision import Decision, Verdict
from orchestrator.saga.draft import Draft
from orchestrator.saga.inputs import Message, message_document
from orchestrator.saga.policies import Cell

#: Events that one order keeps because they came too early.
PARKED_MAX: Final = 16


class Verdicts:
    """One message and the draft it is decided on. A message that was parked is parked no more, whatever becomes of it."""

    def __init__(self, draft: Draft, message: Message) -> None:
        draft.event = message.envelope.data
        self.draft = draft
        self.message = message
        self._was_parked = str(message.cause_seq) in draft.parked
        if self._was_parked:
            draft.parked = {key: parked for key, parked in draft.parked.items() if key != str(message.cause_seq)}

    def moved(self, reason: str | None = None) -> Decision:
        """It did what it says."""
        return self._finish("moved", reason)

    def duplicate(self, reason: str) -> Decision:
        """It says what is known."""
        return self._finish("duplicate", reason)

    def late(self, reason: str) -> Decision:
        """Its time is over."""
        return self._with_policy("late", "late", reason)

    def unexpected(self, reason: str) -> Decision:
        """Nothing awaits it."""
        return self._with_policy("ignored", "unexpected", f"unexpected: {reason}")

    def refused(self, reason: str) -> Decision:
        """A guard says no: the order goes on waiting."""
        return self._finish("refused", reason)

    def early(self) -> Decision:
        """Its state is still to come: it is kept until then, or until the order turns back."""
        draft, envelope = self.draft, self.message.envelope
        policy = draft.rulebook.policy(draft.state, envelope.type, "early")
        if policy == "ignore":
            return self._finish("ignored", "early: the definition lets it go")
        if policy == "quarantine":
            return self.quarantine("early", "the definition lets a human see it")
        if self._was_parked:
            return Decision(order=draft.before, verdict="parked", reason="early: its state is still to come")
        if len(draft.parked) >= PARKED_MAX:
            return self.quarantine("parked_full", f"the order keeps {PARKED_MAX} events that came too early, and no more")
        draft.parked = MappingProxyType({**draft.parked, str(draft.seq): message_document(envelope)})
        return self._finish("parked", "early: kept until its state is reached")

    def quarantine(self, code: str, reason: str) -> Decision:
        """Refused: noted in the journal without message id, so a replay is decided anew (R15)."""
        return self._finish("refused", f"{code}: {reason}", quarantine=code)

    def _with_policy(self, verdict: Verdict, cell: Cell, reason: str) -> Decision:
        """What a definition lets a human see is quarantined, beside what it did."""
        policy = self.draft.rulebook.policy(self.draft.before.state, self.message.envelope.type, cell)
        return self._finish(verdict, reason, quarantine=cell if policy == "quarantine" else None)

    def _finish(self, verdict: Verdict, reason: str | None, *, quarantine: str | None = None) -> Decision:
        name = self.message.envelope.type
        return self.draft.finish(self.message, verdict, kind="message", name=name, reason=reason, quarantine=quarantine)
