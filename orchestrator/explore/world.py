"""What is explored: an order without its history, what its participants may have done, and what is left of the bound.

**Orders.** Two orders are one when they differ only in what deciding copies and never asks (seq, hash, ids, times, generations, the
cause), and in how far the retry of what they wait for is: how often it was sent, whether a reply or the next attempt is due, whether the
alarm was given. What is left out is named; every field that is not named counts, so a new one does. That the retry makes no other
difference is not believed but tried, for each order (`Moves`); where it does, the order counts as one of its own.

**Messages under way are not kept, for they follow from the rest.** A copy of any message may come at any later time (duplicates without
number, delays without end), so what was published once can always come: a command and an undo when their bit is set here; the stored
reply when the participant's row holds one; `CommandTooLate` when an undo came first; the confirmation of an undo when the row is undone
(each sending of an undo is confirmed under its own message id, so one that is new to Escrow can be had; of the others R15 lets copies do
nothing). What may come need not: a message that is never delivered is a lost one. So this world does everything that one with a bounded
number of duplicates does, and more.

**A crash between commit and publish is a delay**, so it has no states of its own. Escrow comes back and publishes what it had committed; a
command that is out so late does nothing that one which the broker delivered late does not, and until it is out less can happen, not
more: nothing can come of it, and its deadline does not run (R5). What is left of a crash is the input that says so, `SentLate`. It
may come for any command that is awaited, and takes one crash of the bound where it leads to another order.

**Rows are what participants may have done** (`orchestrator.explore.rows`): their moves are no moves of the exploration.

**One world may cover another**, which then need not be gone into: all that breaks a promise from there breaks one from here. The orders
are alike but for what is known of asks whose undo was begun, or that were left standing: one knows no answer to them (`unknown`) where
the other knows one. For the undo is on its way, or closed, whatever the answer: it is decided by the participant's row and not by what is
known of it, its body is fixed by the first sending (R6), and the order goes on by the confirmation alone. What the answer decides is only
what the next one to the same ask does; the world that has not heard any can still hear them all. An asking of the pivot counts as it is:
whether it was refused decides if there is a way back (R12). Their replies count no more than they do: what they fill are bodies. And of
an order on the way back the state says only which undo was sent last: every such state can go where each of them can.

In an order that was forced and has not come to its end, undos of earlier epochs go on beside it, and there a world in which such an undo
is open covers the one in which it was confirmed. For neither the way forward nor the way back of the epoch looks at it, but where the order
comes to its end, or has nothing else left to undo: there the one waits, and the confirmation that can come at any time brings it to
where the other is. What an operator confirmed is not covered by what no operator did: no participant needs to agree to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.contract import canonical
from orchestrator.saga.order import Ask, Order

#: One command of an order: (place of its ask in the ledger, whether it is the undo).
Sending = tuple[int, bool]

_LEFT_OUT = {"order_id", "definition", "version", "seq", "hash", "generation", "opened_at", "updated_at", "state_entered_at", "cause"}
#: Nothing but the opening sets them.
_LEFT_OUT |= {"data", "labels"}
#: Maps that have rules of their own; others count as they are.
_LEDGERS = {"asks", "deadlines", "replies"}
_MAPS = [field.name for field in fields(Order) if str(field.type).startswith("Mapping") and field.name not in _LEDGERS | _LEFT_OUT]
_ASK_LEFT_OUT = {"command_id", "since", "body_seq", "undo_body_seq"}
_RETRY = {"attempts", "attempts_base", "undo_attempts", "undo_attempts_base", "undo", "alarm"}
_order_values = attrgetter(*(field.name for field in fields(Order) if field.name not in {*_LEFT_OUT, *_LEDGERS, *_MAPS, "state"}))
_ask_values = attrgetter(*(field.name for field in fields(Ask) if field.name not in {*_ASK_LEFT_OUT, *_RETRY, "forward"}))
#: What is known of an ask whose undo was begun, or that was left standing; 0: what is known of it makes a difference.
_KNOWN = {"unknown": 1, "done": 2, "refused": 3}
_UNHEARD = 1
_ANSWER = 3
#: Of an ask of an earlier epoch, whether its undo is open or confirmed is told beside that.
OPEN = 4
_CONFIRMED = 8
#: An expression that compiles, and has no value for any order.
_FAILS = "order.there_is_no_such_field == 1"
#: Deadlines that follow each other in one wait.
_WAITS = {"reply": "answer", "retry": "answer", "undo_reply": "undo", "undo_retry": "undo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far a run is explored. Duplicates, delays and losses of messages are not bounded."""

    #: Sendings of a command before silence is final, and of an undo before the alarm; a definition with fewer keeps its own.
    attempts: int = 2
    #: Operator acts a run.
    acts: int = 1
    #: Crashes between commit and publish a run.
    crashes: int = 1
    #: States after which the exploration is given up as too large.
    states: int = 2_000_000


class World(NamedTuple):
    """One state of the exploration."""

    #: Number of the order in the `Orders`.
    order: int
    #: A belief for each ask, by its place in the ledger.
    rows: bytes
    #: What is left of the bound.
    acts: int
    crashes: int


def bounded(document: Mapping[str, Any], attempts: int) -> dict[str, Any]:
    """An expanded document whose limits are at most `attempts`, wherever a retry stands in it."""
    lowered: dict[str, Any] = _bounded(document, attempts, is_retry=False)
    return lowered


def _bounded(value: Any, attempts: int, *, is_retry: bool) -> Any:
    if isinstance(value, Mapping):
        limits = ("attempts", "stuck_after") if is_retry else ()
        return {
            name: min(item, attempts) if name in limits and item is not None else _bounded(item, attempts, is_retry=name == "retry")
            for name, item in value.items()
        }
    return [_bounded(item, attempts, is_retry=False) for item in value] if isinstance(value, list) else value


def variants(document: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, bool]]]:
    """The document with its guards decided beforehand, in every way they can come out; and how they do, by their text.

    What a guard says depends on data that nobody knows here. So each input is decided with each variant, and an order may go one way at one
    time and another way at the next: all that any data can bring about, and more. Computed fields are null; what an expression that fails
    leads to is not explored.
    """
    return [(_decided(document, iter(picks)), _texts(document, iter(picks))) for picks in product(*map(range, _guards(document)))]


def undecided(document: Any) -> Any:
    """The document with guards that fail whenever they are asked, so that it shows whether they are."""
    if isinstance(document, Mapping):
        return {
            name: _FAILS if name in {"when", "until"} else dict.fromkeys(item, "null") if _is_computed(name, item) else undecided(item)
            for name, item in document.items()
        }
    return [undecided(item) for item in document] if isinstance(document, list) else document


def _is_computed(name: str, item: Any) -> bool:
    return name == "with" and isinstance(item, Mapping)


def _guards(value: Any) -> Iterator[int]:
    """The number of ways in which each guard, or list of cases, can come out; in the order of `_decided`."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in {"when", "until"} and isinstance(item, str):
                yield 2
            elif name == "cases":
                yield len(item) + 1
                yield from _guards([case["way"] for case in item])
            else:
                yield from _guards(item)
    elif isinstance(value, list):
        for item in value:
            yield from _guards(item)


def _decided(value: Any, picks: Iterator[int]) -> Any:
    if isinstance(value, list):
        return [_decided(item, picks) for item in value]
    if not isinstance(value, Mapping):
        return value
    decided: dict[str, Any] = {}
    for name, item in value.items():
        if name in {"when", "until"} and isinstance(item, str):
            decided[name] = "true" if next(picks) else "false"
        elif name == "cases":
            taken = next(picks)
            ways = _decided([case["way"] for case in item], picks)
            decided[name] = [{"when": "true" if place == taken else "false", "way": way} for place, way in enumerate(ways)]
        elif _is_computed(name, item):
            decided[name] = dict.fromkeys(item, "null")
        else:
            decided[name] = _decided(item, picks)
    return decided


def _texts(value: Any, picks: Iterator[int]) -> dict[str, bool]:
    texts: dict[str, bool] = {}
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in {"when", "until"} and isinstance(item, str):
                texts[item] = bool(next(picks))
            elif name == "cases":
                taken = next(picks)
                texts |= {case["when"]: place == taken for place, case in enumerate(item)}
                texts |= _texts([case["way"] for case in item], picks)
            else:
                texts |= _texts(item, picks)
    elif isinstance(value, list):
        for item in value:
            texts |= _texts(item, picks)
    return texts


def shape(order: Order, *, pivots: frozenset[str] = frozenset()) -> tuple[Any, ...]:
    """All of an order that makes a difference; how far a retry is makes none. `pivots`: steps of which every answer counts."""
    return (*_plain_shape(order, pivots), knowledge(order, pivots), order.state, canonical.encode(order.replies))


def _plain_shape(order: Order, pivots: frozenset[str]) -> tuple[Any, ...]:
    """The shape, but for what is known of asks whose undo was begun."""
    behind = {ask.step for ask in order.asks.values() if _is_behind(ask, pivots)}
    past = {f"undo:{ask.key}" for ask in order.asks.values() if _is_past(order, ask, pivots)}
    return (
        _order_values(order),
        None if order.direction == "undoing" else order.state,
        tuple([_ask_shape(order, ask, pivots) for ask in order.asks.values()]),
        tuple([wait for wait in _waits(order) if wait[0] not in past]) if past else _waits(order),
        canonical.encode({step: reply for step, reply in order.replies.items() if step not in behind}) if order.replies else b"",
        canonical.encode([dict(getattr(order, name)) for name in _MAPS]),
    )


def standing(order: Order, key: str) -> tuple[Any, ...]:
    """How an order stands and what it waits for, with one ask as it is and none of the others."""
    ask = order.asks[key]
    return _order_values(order), order.state, _waits(order), _ask_shape(order, ask, frozenset({ask.step}))


def _waits(order: Order) -> tuple[tuple[str, bool], ...]:
    """What the deadlines are about, and whether they are stopped."""
    return tuple(sorted([(waits_of(name), deadline.due_at is None) for name, deadline in order.deadlines.items()]))


def knowledge(order: Order, pivots: frozenset[str]) -> bytes:
    """What is known of each ask whose undo was begun, or that was left standing; 0 for others, of which it makes a difference."""
    return bytes([_known(order, ask, pivots) if _is_behind(ask, pivots) else 0 for ask in order.asks.values()])


def knowledge_covers(known: int, other: int) -> bool:
    """Whether all that can come of an ask of which the other is known can come of one of which this is (`knowledge`)."""
    if not known or not other:
        return known == other
    answer, undo = known & _ANSWER, known & ~_ANSWER
    return answer in {_UNHEARD, other & _ANSWER} and (undo == other & ~_ANSWER or is_confirmed_in_between(known, other))


def is_confirmed_in_between(known: int, other: int) -> bool:
    """Whether the undo is open in the one and confirmed in the other."""
    return bool(known & OPEN and other & _CONFIRMED)


def _known(order: Order, ask: Ask, pivots: frozenset[str]) -> int:
    undo = (OPEN if ask.undo_is_open else _CONFIRMED) if _is_past(order, ask, pivots) else 0
    return _KNOWN[ask.forward] + undo


def _is_behind(ask: Ask, pivots: frozenset[str]) -> bool:
    return ask.undo != "none" and ask.forward in _KNOWN and ask.step not in pivots


def _is_past(order: Order, ask: Ask, pivots: frozenset[str]) -> bool:
    """Whether an undo goes on beside an order that was forced, and that has not come to its end."""
    return ask.epoch < order.epoch and order.direction != "ended" and ask.undo != "skipped" and _is_behind(ask, pivots)


def retry_phase(order: Order, attempts: int) -> tuple[Any, ...]:
    """How far the retries of an order are, with sendings counted no further than any limit."""
    return (
        tuple(sorted(order.deadlines)),
        tuple(
            (
                ask.undo,
                ask.alarm,
                min(ask.attempts - ask.attempts_base, attempts),
                min(ask.undo_attempts - ask.undo_attempts_base, attempts),
            )
            for ask in order.asks.values()
        ),
    )


def waits_of(deadline: str) -> str:
    """What a deadline is about: an ask's reply and its next attempt are one wait, those of its undo another; others are themselves."""
    what, colon, key = deadline.partition(":")
    return _WAITS.get(what, what) + colon + key


def _ask_shape(order: Order, ask: Ask, pivots: frozenset[str]) -> tuple[Any, ...]:
    return (
        _ask_values(ask),
        None if _is_behind(ask, pivots) else ask.forward,
        None if _is_past(order, ask, pivots) else "asked" if ask.undo_is_open else ask.undo,
        ask.alarm and ask.forward != "asked",
        ask.attempts > 0,
        ask.undo_attempts > 0,
    )


class Orders:
    """Every order met so far, one for all that are the same; by number."""

    def __init__(self, pivots: frozenset[str]) -> None:
        self._pivots = pivots
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._families: dict[tuple[Any, ...], int] = {}
        #: The first of each.
        self.met: list[Order] = []
        #: The family of each: the number of all that differ only in what is known of asks whose undo was begun.
        self.family: list[int] = []
        #: What is known of those asks, for each order (`knowledge`).
        self.known: list[bytes] = []

    def number(self, order: Order, phase: tuple[Any, ...] = ()) -> int:
        """The number of an order; one that is new gets the next. `phase`: it differs by how far its retry is."""
        key = (shape(order, pivots=self._pivots), phase)
        number = self._numbers.setdefault(key, len(self.met))
        if number == len(self.met):
            plain = (_plain_shape(order, self._pivots), phase)
            self.met.append(order)
            self.family.append(self._families.setdefault(plain, len(self._families)))
            self.known.append(knowledge(order, self._pivots))
        return number
