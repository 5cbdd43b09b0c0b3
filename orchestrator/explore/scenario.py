"""A counterexample told to people, and as a scenario file that plays it: `escrow definition test FILE`.

The exploration runs on limits that were lowered to its bound; the telling runs on the definition as it is written, so a silence may take
more attempts here than it took there. Each move is replayed on both, side by side. Where guards decide, the scenario says how they come
out, and its author gives the data that makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.explore.inputs import ORDER_ID, START, Move, answer_of, input_of, opening
from orchestrator.explore.search import Counterexample
from orchestrator.explore.world import Bound, bounded, shape, variants, waits_of
from orchestrator.saga.decide import decide
from orchestrator.saga.decision import Decision
from orchestrator.saga.definition import Definition
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook

#: No definition has more attempts than this, each a reply's and a retry's deadline.
_FIRED_MAX = 2_002


@dataclass(frozen=True, slots=True)
class Told:
    """A counterexample in words, and as a scenario document (YAML)."""

    lines: list[str]
    scenario: str


def tell(definition: Definition, bound: Bound, found: Counterexample, reference: str) -> Told:
    """Replay a counterexample. `reference`: what the scenario calls the definition, a shipped name or a file beside it."""
    telling = _Telling(variants(definition.expanded), bound)
    telling.open(found.moves[0])
    for move in found.moves[1:]:
        telling.take(move)
    lines = [f"{number}. {line}" for number, line in enumerate(telling.lines, start=1)]
    return Told(lines=lines, scenario=telling.scenario(found.promise, reference))


@dataclass(slots=True)
class _Item:
    """An item of `when`; `comments` are what happens before it and is no input of the order."""

    comments: list[str]
    does: dict[str, Any]
    expect: dict[str, Any] = field(default_factory=dict)


class _Telling:
    def __init__(self, documents: list[tuple[dict[str, Any], dict[str, bool]]], bound: Bound) -> None:
        #: As it is written, and with lowered limits; each in all its variants.
        self._written = [Rulebook(document) for document, _ in documents]
        self._lowered = [Rulebook(bounded(document, bound.attempts)) for document, _ in documents]
        self._guards = [guards for _, guards in documents]
        self._rulebook = self._written[0]
        self.lines: list[str] = []
        self._items: list[_Item] = []
        self._comments: list[str] = []
        #: Messages by what they are → the item that delivered them; 0 is the opening.
        self._heard: dict[tuple[str, str], int] = {("opens", self._rulebook.opens_on): 0}

    def open(self, move: Move) -> None:
        """Open the order, in both."""
        rulebooks = self._written[move.variant], self._lowered[move.variant]
        decision, near = (decide(rulebook, None, opening(rulebook), START) for rulebook in rulebooks)
        assert decision.order is not None
        assert near.order is not None
        self._order, self._near = decision.order, near.order
        self._given = self._so_that(move)
        self.lines.append(f"{move.subject} arrives{_outcome(decision)}")

    def take(self, move: Move) -> None:
        """Let one move happen."""
        if move.kind in {"works", "declines", "reverses"}:
            self.lines.append(_text(self._rulebook, self._order, move))
            self._comments.append(self.lines[-1])
        elif move.kind == "silence":
            self._silence(move)
        elif move.kind == "sent_late":
            self._sent_late(move)
        else:
            self._input(move)

    def scenario(self, promise: str, reference: str) -> str:
        """The document."""
        head = {"scenario": promise, "definition": reference, "given": {"order_id": ORDER_ID}}
        text = ["# What the exploration found. It plays as it is written while the promise is broken.", _yaml(head)]
        text[1:1] = [f"# {comment}" for comment in self._given]
        text.append("when:" if self._items else "when: []")
        for item in self._items:
            text += [f"  # {comment}" for comment in item.comments]
            text.append(f"  - {_flow(item.does | ({'expect': item.expect} if item.expect else {}))}")
        text += [f"  # {comment}" for comment in self._comments]
        text.append(f"then: {_flow({'state': self._order.state, 'status': self._order.status})}")
        return "\n".join(text) + "\n"

    def _silence(self, move: Move) -> None:
        """Let the same wait pass in both: there by the deadlines that were found, here until that comes to the same."""
        start = shape(self._near)
        for _, name in move.arguments:
            decision = self._decide(self._lowered, self._near, Move("deadline", name))
            if decision is None:
                break
            assert decision.order is not None
            self._near = decision.order
        is_elsewhere = shape(self._near) != start
        for _ in range(_FIRED_MAX if is_elsewhere else len(move.arguments)):
            armed = next((one for one in self._order.deadlines if waits_of(one) == move.subject), None)
            if armed is None or (is_elsewhere and shape(self._order) == shape(self._near)):
                break
            self._happens(Move("deadline", armed))

    def _sent_late(self, move: Move) -> None:
        near = self._decide(self._lowered, self._near, move)
        decision = self._decide(self._written, self._order, move)
        if near is not None and near.order is not None:
            self._near = near.order
        self._add({"sent_late": move.subject}, _text(self._rulebook, self._order, move), decision)

    def _input(self, move: Move) -> None:
        near = self._decide(self._lowered, self._near, move)
        if near is not None and near.order is not None:
            self._near = near.order
        self._happens(move)

    def _happens(self, move: Move) -> None:
        """Let the order as it is written decide a move."""
        text, does = _text(self._rulebook, self._order, move), self._does(move)
        decision = self._decide(self._written, self._order, move)
        self._comments += self._so_that(move)
        self._add(does, text, decision)
        if not move.again:
            self._heard[move.kind, move.subject] = len(self._items)

    def _add(self, does: dict[str, Any], text: str, decision: Decision | None) -> None:
        item = _Item(self._comments, does)
        self._comments = []
        self._items.append(item)
        self.lines.append(text + _outcome(decision))
        if decision is None:
            return
        assert decision.order is not None
        self._order = decision.order
        if decision.verdict != "moved":
            item.expect["verdict"] = decision.verdict

    def _so_that(self, move: Move) -> list[str]:
        """How the guards come out at a move, where there are any."""
        if move.kind not in {"opens", "reply", "act"}:
            return []
        return [f"let `{guard}` be {'true' if is_true else 'false'} here" for guard, is_true in self._guards[move.variant].items()]

    def _decide(self, rulebooks: list[Rulebook], order: Order, move: Move) -> Decision | None:
        """None: deciding raised, which is what was found."""
        rulebook = rulebooks[move.variant]
        input_, now = input_of(rulebook, order, move)
        try:
            return decide(rulebook, order, input_, now)
        except Exception:  # noqa: BLE001  # the exploration has said so
            return None

    def _does(self, move: Move) -> dict[str, Any]:
        """The move as an item of a scenario."""
        if move.again:
            return {"duplicate": self._heard.get((move.kind, move.subject), 0)}
        if move.kind in {"reply", "undone"}:
            return {move.kind: move.subject}
        if move.kind in {"refusal", "too_late"}:
            return {"refusal": {"step": move.subject, "event": _answer(self._rulebook, self._order, move)}}
        if move.kind == "deadline":
            return {"silence": move.subject}
        if move.kind == "excused":
            return {"silence": {"deadline": move.subject, "excused": True}}
        if move.kind == "act":
            return {"act": {"act": move.subject, "admin": True, **dict(move.arguments)}}
        return {"event": move.subject}


def _text(rulebook: Rulebook, order: Order, move: Move) -> str:
    """A move in words."""
    arrives = "arrives again" if move.again else "arrives"
    match move.kind:
        case "works" | "declines" | "reverses":
            rule = rulebook.by_name[order.asks[move.subject].step]
            command = rule.undo.command if move.kind == "reverses" and rule.undo is not None else rule.command
            return f"{rule.participant} {'refuses' if move.kind == 'declines' else 'does'} {command} ({move.subject})"
        case "sent_late":
            which = "undo" if move.arguments else "command"
            return f"Escrow dies before it publishes the {which} of {move.subject}, and publishes it late"
        case "reply" | "refusal" | "too_late" | "undone":
            return f"{_answer(rulebook, order, move)} {arrives} ({move.subject})"
        case "deadline":
            return f"the deadline {move.subject} passes"
        case "excused":
            return f"the deadline {move.subject} passes, and nobody could have heard a reply"
        case "act":
            return " ".join(["an operator does", move.subject, *(f"{name}={value}" for name, value in move.arguments)])
        case _:
            return f"{move.subject} {arrives}"


def _answer(rulebook: Rulebook, order: Order, move: Move) -> str:
    return answer_of(rulebook, order.asks[move.subject], move.kind)[1]


def _outcome(decision: Decision | None) -> str:
    if decision is None or decision.order is None:
        return " → deciding it raises"
    sent = f", sends {', '.join(command.name for command in decision.commands)}" if decision.commands else ""
    verdict = "" if decision.verdict == "moved" else f"{decision.verdict}: "
    return f" → {verdict}{decision.order.state} ({decision.order.status}){sent}"


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000).rstrip()


def _flow(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=True).rstrip()
