"""A counterexample told to people, and as a scenario file that plays it: `escrow definition test FILE`.

The exploration runs on limits that were lowered to its bound; the telling runs on the definition as it is written, so a silence may take
more attempts here than it took there. Each move is replayed on both, side by side. Where guards decide, the scenario says how they come
out, and its author gives the data that makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.explore.inputs import OLDER, ORDER_ID, START, Move, answer_of, input_of, opening
from orchestrator.explore.search import Counterexample
from orchestrator.explore.shape import names_of, shape, waits_of
from orchestrator.explore.variants import bounded, variants
from orchestrator.explore.world import Bound
from orchestrator.saga.decide import Decided, decide, decide_all
from orchestrator.saga.decision import Decision
from orchestrator.saga.definition import Definition
from orchestrator.saga.inputs import Message
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
    def __init__(self, documents: list[tuple[dict[str, Any], dict[str, str]]], bound: Bound) -> None:
        #: As it is written, and with lowered limits; each in all its variants.
        self._written = [Rulebook(document) for document, _ in documents]
        self._lowered = [Rulebook(bounded(document, bound.attempts)) for document, _ in documents]
        self._guards = [guards for _, guards in documents]
        self._rulebook = self._written[0]
        self._names = names_of(self._rulebook)
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
        self._given = self._so_that(move, [decision])
        self.lines.append(f"{move.subject} arrives{_outcome([decision])}")

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
        start = self._shape(self._near)
        for _, name in move.arguments:
            decided = self._decide(self._lowered, self._near, Move("deadline", name))
            if decided is None:
                break
            self._near = decided.order or self._near
        is_elsewhere = self._shape(self._near) != start
        for _ in range(_FIRED_MAX if is_elsewhere else len(move.arguments)):
            armed = next((one for one in self._order.deadlines if waits_of(one) == move.subject), None)
            if armed is None or (is_elsewhere and self._shape(self._order) == self._shape(self._near)):
                break
            self._happens(Move("deadline", armed))

    def _shape(self, order: Order) -> tuple[Any, ...]:
        return shape(order, self._names)

    def _sent_late(self, move: Move) -> None:
        near = self._decide(self._lowered, self._near, move)
        decided = self._decide(self._written, self._order, move)
        if near is not None:
            self._near = near.order or self._near
        self._add({"sent_late": move.subject}, _text(self._rulebook, self._order, move), decided)

    def _input(self, move: Move) -> None:
        near = self._decide(self._lowered, self._near, move)
        if near is not None:
            self._near = near.order or self._near
        self._happens(move)

    def _happens(self, move: Move) -> None:
        """Let the order as it is written decide a move."""
        text, does = _text(self._rulebook, self._order, move), self._does(move)
        decided = self._decide(self._written, self._order, move)
        self._comments += self._so_that(move, _decisions(decided))
        self._add(does, text, decided)
        if not move.again:
            self._heard[move.kind, move.subject] = len(self._items)

    def _add(self, does: dict[str, Any], text: str, decided: Decided | None) -> None:
        item = _Item(self._comments, does)
        self._comments = []
        self._items.append(item)
        self.lines.append(text + _outcome(_decisions(decided)))
        if decided is None:
            return
        self._order = decided.order or self._order
        # A scenario compares the verdict of what came last: of what was parked, if anything follows from that.
        if (verdict := _decisions(decided)[-1].verdict) != "moved":
            item.expect["verdict"] = verdict

    def _so_that(self, move: Move, decisions: list[Decision]) -> list[str]:
        """How the guards come out that a move asks."""
        guards = self._guards[move.variant]
        asked = dict.fromkeys((guards[text], held) for decision in decisions for text, held in decision.guards)
        return [f"let `{guard}` be {'true' if held else 'false'} here" for guard, held in asked]

    def _decide(self, rulebooks: list[Rulebook], order: Order, move: Move) -> Decided | None:
        """None: deciding raised, which is what was found."""
        rulebook = rulebooks[move.variant]
        input_, now = input_of(rulebook, order, move)
        try:
            return decide_all(rulebook, order, input_, now)
        except Exception:  # noqa: BLE001  # the exploration has said so
            return None

    def _does(self, move: Move) -> dict[str, Any]:
        """The move as an item of a scenario."""
        if move.again:
            return {"duplicate": self._heard.get((move.kind, move.subject), 0)}
        # A watched step that is not in the ledger yet goes by its name.
        step = move.subject if move.subject in self._order.asks else move.subject.rsplit(".", 2)[0]
        if move.kind in {"reply", "undone"}:
            return {move.kind: step}
        if move.kind in {"refusal", "too_late"}:
            return {"refusal": {"step": step, "event": _answer(self._rulebook, self._order, move)}}
        if move.kind == "deadline":
            return {"silence": move.subject}
        if move.kind == "excused":
            return {"silence": {"deadline": move.subject, "excused": True}}
        if move.kind == "act":
            return {"act": {"act": move.subject, "admin": True, **dict(move.arguments)}}
        input_, _ = input_of(self._rulebook, self._order, move)
        assert isinstance(input_, Message)
        event = {"type": move.subject, "id": input_.envelope.id, "source": input_.envelope.source, "data": dict(input_.envelope.data)}
        return {"event": event if move.subject in self._rulebook.events else move.subject}


def _text(rulebook: Rulebook, order: Order, move: Move) -> str:
    """A move in words."""
    arrives = "arrives again" if move.again else "arrives"
    match move.kind:
        case "works" | "declines" | "reverses":
            rule = rulebook.by_name[move.subject.rsplit(".", 2)[0]]
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
            return f"{'an older ' if move.arguments == OLDER else ''}{move.subject} {arrives}"


def _answer(rulebook: Rulebook, order: Order, move: Move) -> str:
    return answer_of(rulebook, order, move.subject, move.kind)[1]


def _decisions(decided: Decided | None) -> list[Decision]:
    """All that one input brought about, in turn."""
    if decided is None:
        return []
    return [*(decision for _, decision in decided.before), decided.own, *(decision for _, decision in decided.after)]


def _outcome(decisions: list[Decision]) -> str:
    """What became of an input, and after it of what had been parked; before it, when the order turns back."""
    if not decisions or (order := decisions[-1].order) is None:
        return " → deciding it raises"
    names = [command.name for decision in decisions for command in decision.commands]
    sent = f", sends {', '.join(names)}" if names else ""
    verdicts = [decision.verdict for decision in decisions]
    verdict = "" if set(verdicts) == {"moved"} else f"{', '.join(verdicts)}: "
    return f" → {verdict}{order.state} ({order.status}){sent}"


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000).rstrip()


def _flow(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=True).rstrip()
