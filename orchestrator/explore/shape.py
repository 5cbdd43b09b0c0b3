"""What of an order makes a difference: two orders of the same shape are one, and one may cover another (`orchestrator.explore.world`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.contract import canonical
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook

_LEFT_OUT = {"order_id", "definition", "version", "seq", "hash", "generation", "opened_at", "updated_at", "state_entered_at", "cause"}
#: Nothing but the opening sets them.
_LEFT_OUT |= {"data", "labels"}
#: What the definition changes of the data fills bodies, and is asked by guards, which come out either way whatever it is.
_LEFT_OUT |= {"amended"}
#: Maps that have rules of their own; others count as they are.
_LEDGERS = {"asks", "deadlines", "replies", "turns", "joined", "parked"}
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
#: Deadlines that follow each other in one wait.
_WAITS = {"reply": "answer", "retry": "answer", "undo_reply": "undo", "undo_retry": "undo"}


class Names(NamedTuple):
    """What the names of a definition stand for, as far as the shape of its orders hangs on it."""

    #: Steps of which every answer counts.
    pivots: frozenset[str]
    #: What rounds of notices are counted under: nothing asks how many there were.
    notices: frozenset[str]
    #: Types of events from outside, with the field that orders them. Of each the last that was applied is kept: what it fills is bodies,
    #: and one that comes later is the younger, or older than any.
    events: Mapping[str, str | None]
    #: First asks of watched steps, in the order of the definition.
    watched: tuple[str, ...]


def names_of(rulebook: Rulebook) -> Names:
    """The names of a definition."""
    return Names(
        pivots=frozenset(name for name, step in rulebook.by_name.items() if step.pivot),
        notices=frozenset(notice.name for stage in rulebook.stages for notice in stage.notices),
        events={name: event.order_by for name, event in rulebook.events.items()},
        watched=tuple(f"{step.name}.0.1" for step in rulebook.watched),
    )


def keys_of(order: Order, names: Names) -> tuple[str, ...]:
    """The asks whose participants may have done something, each in its place for good: watched ones first, in the ledger or not."""
    return (*names.watched, *[key for key in order.asks if key not in names.watched]) if names.watched else tuple(order.asks)


def shape(order: Order, names: Names) -> tuple[Any, ...]:
    """All of an order that makes a difference; how far a retry is makes none."""
    return whole_shape(order, names, plain_shape(order, names), knowledge(order, names))


def whole_shape(order: Order, names: Names, plain: tuple[Any, ...], known: bytes) -> tuple[Any, ...]:
    """The shape, made of its parts: `plain_shape` and `knowledge`."""
    return plain, known, order.state, _replies(order, names, ())


def plain_shape(order: Order, names: Names) -> tuple[Any, ...]:
    """The shape, but for what is known of asks whose undo was begun."""
    behind: set[str] = set()
    past: set[str] = set()
    asks: list[tuple[Any, ...]] = []
    for ask in order.asks.values():
        is_behind = _is_behind(ask, names.pivots)
        is_past = is_behind and _is_past(order, ask)
        if is_behind:
            behind.add(ask.step)
        if is_past:
            past.add(f"undo:{ask.key}")
        asks.append(_ask_shape(ask, is_behind=is_behind, is_past=is_past))
    return (
        _order_values(order),
        None if order.direction == "undoing" else order.state,
        tuple(asks),
        tuple([wait for wait in _waits(order) if wait[0] not in past]) if past else _waits(order),
        _replies(order, names, behind),
        _kept(order, names),
        tuple(sorted((name, turn) for name, turn in order.turns.items() if name not in names.notices)),
        canonical.encode([dict(getattr(order, name)) for name in _MAPS]) if _MAPS else b"",
    )


def standing(order: Order, key: str, names: Names) -> tuple[Any, ...]:
    """How an order stands and what it waits for, with one ask as it is and none of the others."""
    ask = order.asks[key]
    return _order_values(order), order.state, _waits(order), _ask_shape(ask, is_behind=False, is_past=False), _kept(order, names)


def _kept(order: Order, names: Names) -> tuple[Any, ...]:
    """Which events of a join have come, and what is parked, in order of arrival: not when."""
    if not order.joined and not order.parked:
        return ()
    parked = [order.parked[seq] for seq in sorted(order.parked, key=int)]
    marks = [(message["type"], "commandid" in message, (names.events.get(message["type"]) or "") in message["data"]) for message in parked]
    return tuple(sorted(order.joined)), tuple(marks)


def _replies(order: Order, names: Names, behind: Iterable[str]) -> bytes:
    """What steps answered."""
    kept = {step: reply for step, reply in order.replies.items() if step not in names.events and step not in behind}
    return canonical.encode(kept) if kept else b""


def _waits(order: Order) -> tuple[tuple[str, bool], ...]:
    """What the deadlines are about, and whether they are stopped."""
    return tuple(sorted([(waits_of(name), deadline.due_at is None) for name, deadline in order.deadlines.items()]))


def knowledge(order: Order, names: Names) -> bytes:
    """What is known of each ask whose undo was begun, or that was left standing; 0 for others, of which it makes a difference.

    By place (`keys_of`).
    """
    asks = (order.asks.get(key) for key in keys_of(order, names))
    return bytes([_known(order, ask) if ask and _is_behind(ask, names.pivots) else 0 for ask in asks])


def knowledge_covers(known: int, other: int) -> bool:
    """Whether all that can come of an ask of which the other is known can come of one of which this is (`knowledge`)."""
    if not known or not other:
        return known == other
    answer, undo = known & _ANSWER, known & ~_ANSWER
    return answer in {_UNHEARD, other & _ANSWER} and (undo == other & ~_ANSWER or is_confirmed_in_between(known, other))


def is_confirmed_in_between(known: int, other: int) -> bool:
    """Whether the undo is open in the one and confirmed in the other."""
    return bool(known & OPEN and other & _CONFIRMED)


def _known(order: Order, ask: Ask) -> int:
    undo = (OPEN if ask.undo_is_open else _CONFIRMED) if _is_past(order, ask) else 0
    return _KNOWN[ask.forward] + undo


def _is_behind(ask: Ask, pivots: frozenset[str]) -> bool:
    return ask.undo != "none" and ask.forward in _KNOWN and ask.step not in pivots


def _is_past(order: Order, ask: Ask) -> bool:
    """Whether the undo of an ask that is behind goes on beside an order that was forced, and that has not come to its end."""
    return ask.epoch < order.epoch and order.direction != "ended" and ask.undo != "skipped"


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


@lru_cache(maxsize=10_000)
def waits_of(deadline: str) -> str:
    """What a deadline is about: an ask's reply and its next attempt are one wait, those of its undo another; others are themselves."""
    what, colon, key = deadline.partition(":")
    return _WAITS.get(what, what) + colon + key


def _ask_shape(ask: Ask, *, is_behind: bool, is_past: bool) -> tuple[Any, ...]:
    return (
        _ask_values(ask),
        None if is_behind else ask.forward,
        None if is_past else "asked" if ask.undo_is_open else ask.undo,
        ask.alarm and ask.forward != "asked",
        ask.attempts > 0,
        ask.body_seq > 0,
        ask.undo_attempts > 0,
    )
