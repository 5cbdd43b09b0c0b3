"""What can happen next: to the order (by `decide`, asked once for each order and input), and to the world around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from orchestrator.contract import undo_id
from orchestrator.explore import promises
from orchestrator.explore.inputs import START, Kind, Move, acts, input_of, opening, places, sendings_of
from orchestrator.explore.world import (
    DONE,
    HEARD,
    LATE_HEARD,
    REFUSED,
    SENT,
    UNDO_SENT,
    UNDONE,
    VOUCHED,
    Bound,
    Orders,
    Sending,
    World,
    bounded,
    retry_phase,
    shape,
    undecided,
    variants,
    waits_of,
)
from orchestrator.saga.decide import decide
from orchestrator.saga.inputs import ActName, SentLate
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.standing import waits

#: Acts that bring on an order which only a human can: each ends a wait for good, so they are free when the order calls for one.
_CALLED: tuple[ActName, ...] = ("skip", "abandon")


class Outcome(NamedTuple):
    """What one input does to one order, and to the rows of its asks."""

    move: Move
    #: Number of the order after it.
    order: int
    sent: frozenset[Sending]
    #: Commands whose rows leave the outbox.
    answered: frozenset[Sending]
    #: Asks whose undo an operator confirmed.
    vouched: tuple[int, ...]
    #: Not while this command lies unpublished (R5).
    unless_unsent: Sending | None
    #: The promise that it breaks.
    broken: str | None


class Moves:
    """The moves of one definition, in all its variants. Remembers what it decided: an order is asked each thing once."""

    def __init__(self, document: Mapping[str, Any], bound: Bound) -> None:
        lowered = bounded(document, bound.attempts)
        self._rulebooks = [Rulebook(decided) for decided, _ in variants(lowered)]
        self._undecided = Rulebook(undecided(lowered))
        self.rulebook = self._rulebooks[0]
        self._attempts = bound.attempts
        self.orders = Orders()
        self._answers: dict[tuple[int, int, Kind], list[Outcome]] = {}
        self._own: dict[tuple[int, bool], list[Outcome]] = {}
        self._acts: dict[tuple[int, bool], list[Outcome]] = {}
        self._late: dict[tuple[int, Sending], int] = {}

    def first(self, bound: Bound) -> Iterator[tuple[Move, World, frozenset[Sending], str | None]]:
        """The order was opened, and its first commands published; which these are, and the promise that this breaks."""
        for variant, rulebook in enumerate(self._rulebooks):
            decision = decide(rulebook, None, opening(rulebook), START)
            order = decision.order
            assert order is not None
            sent = sendings_of(order, decision)
            rows = _published(bytes(len(order.asks)), sent)
            world = World(self.orders.number(order), rows, frozenset(), bound.acts, bound.crashes)
            yield Move("opens", rulebook.opens_on, variant=variant), world, sent, promises.broken_by_order(rulebook, order)

    def after(self, world: World, *, called: bool = False) -> Iterator[tuple[Move, World, str | None]]:
        """All that may happen next, each with the promise it breaks. Moves that lead nowhere new are left out.

        `called`: an operator does what the order calls for, whatever the bound says.
        """
        for outcome in self._own_moves(world.order, with_acts=world.acts > 0):
            if outcome.unless_unsent not in world.unsent:
                yield from self._taken(world, outcome, world.rows)
        yield from self._at_participants(world)
        yield from self._arriving(world)
        yield from self._published_at_last(world)
        if world.acts:
            for outcome in self._operator(world.order, called=False):
                for move, next_world, broken in self._taken(world, outcome, world.rows):
                    yield move, next_world._replace(acts=world.acts - 1), broken
        elif called:
            for outcome in self._operator(world.order, called=True):
                yield from self._taken(world, outcome, world.rows)

    def _at_participants(self, world: World) -> Iterator[tuple[Move, World, str | None]]:
        """Participants do what they are asked, refuse it, or undo it, at any time after it was published."""
        asks = self.orders.met[world.order].asks
        for place, (row, ask) in enumerate(zip(world.rows, asks.values(), strict=True)):
            if row & SENT and not row & (DONE | REFUSED | UNDONE):
                yield Move("works", ask.key), _with_row(world, place, row | DONE), None
                if self.rulebook.by_name[ask.step].refused_on:
                    yield Move("declines", ask.key), _with_row(world, place, row | REFUSED), None
            if row & UNDO_SENT and not row & UNDONE:
                yield Move("reverses", ask.key), _with_row(world, place, _settled(row | UNDONE)), None

    def _arriving(self, world: World) -> Iterator[tuple[Move, World, str | None]]:
        """Answers arrive, in any order."""
        for place, row in enumerate(world.rows):
            if row & SENT and row & (DONE | REFUSED) and not row & HEARD:
                kind: Kind = "reply" if row & DONE else "refusal"
                # Who heard of the success after an operator's word knows better than the operator did.
                heard = _settled((row | HEARD) & ~VOUCHED if row & DONE else row | HEARD)
                for outcome in self._answer(world.order, place, kind):
                    yield from self._taken(world, outcome, _set(world.rows, place, heard))
            if row & SENT and row & UNDONE and not row & LATE_HEARD:
                for outcome in self._answer(world.order, place, "too_late"):
                    # Where it says nothing new the world in which it is still to come can do all that the other can.
                    if outcome.order != world.order or outcome.sent or outcome.broken:
                        yield from self._taken(world, outcome, _set(world.rows, place, row | LATE_HEARD))
            if row & UNDO_SENT and row & UNDONE:
                for outcome in self._answer(world.order, place, "undone"):
                    yield from self._taken(world, outcome, world.rows)

    def _published_at_last(self, world: World) -> Iterator[tuple[Move, World, str | None]]:
        """What a crash left unpublished goes out; at once, or so late that its deadlines count anew (R5)."""
        if not world.unsent:
            return
        out = world._replace(rows=_published(world.rows, world.unsent), unsent=frozenset())
        yield Move("publishes", ""), out, None
        keys = list(self.orders.met[world.order].asks)
        for sending in sorted(world.unsent):
            out = out._replace(order=self._sent_late(out.order, sending))
        late = tuple((keys[place], "undo" if is_undo else "do") for place, is_undo in sorted(world.unsent))
        yield Move("sent_late", "", late), out, None

    def _taken(self, world: World, outcome: Outcome, rows: bytes) -> Iterator[tuple[Move, World, str | None]]:
        """The world after an outcome; and the one in which Escrow died before it published what it had committed."""
        if outcome.order == world.order and rows is world.rows and not outcome.sent and not outcome.answered & world.unsent:
            if outcome.broken:
                yield outcome.move, world, outcome.broken
            return
        missing = len(self.orders.met[outcome.order].asks) - len(rows)
        rows += bytes(missing)
        for place in outcome.vouched:
            rows = _set(rows, place, rows[place] | VOUCHED)
        waiting = world.unsent - outcome.answered if world.unsent else world.unsent
        if not outcome.sent:
            yield outcome.move, World(outcome.order, rows, waiting, world.acts, world.crashes), outcome.broken
            return
        # A transaction that writes for an order sends its older rows first (R17).
        out = _published(rows, waiting | outcome.sent if waiting else outcome.sent)
        yield outcome.move, World(outcome.order, out, frozenset(), world.acts, world.crashes), outcome.broken
        # What was published before can come anyway: a copy that is kept back does nothing that one under way does not.
        unsent = frozenset(sending for sending in outcome.sent if not rows[sending[0]] & (UNDO_SENT if sending[1] else SENT))
        if world.crashes and unsent:
            crashed = outcome.move._replace(crash=True)
            yield crashed, World(outcome.order, rows, waiting | unsent, world.acts, world.crashes - 1), outcome.broken

    # --- what the order decides ------------------------------------------------------------------------------------------------

    def _own_moves(self, number: int, *, with_acts: bool) -> list[Outcome]:
        """Deadlines, events from outside, and copies of what was heard, which must do nothing. `with_acts`: an operator may still act."""
        known = self._own.get((number, with_acts))
        if known is None:
            order = self.orders.met[number]
            armed = [name for name, deadline in order.deadlines.items() if deadline.due_at is not None]
            moves = [Move("deadline", name) for name in armed if waits_of(name) == name]
            moves += [Move("excused", name) for name in armed if order.deadlines[name].participant]
            moves += [Move("event", name) for name in sorted(self.rulebook.abort_on)]
            moves += [Move("opens", self.rulebook.opens_on, again=True)]
            for key, ask in order.asks.items():
                heard: dict[str, Kind] = {"done": "reply", "refused": "refusal"}
                moves += [Move(heard[ask.forward], key, again=True)] if ask.forward in heard and ask.attempts else []
                moves += [Move("undone", key, again=True)] if ask.undo == "undone" else []
            known = self._own[number, with_acts] = [outcome for move in moves for outcome in self._decided(number, move)]
            for name in armed:
                if waits_of(name) != name:
                    known += self._silence(number, name, with_acts=with_acts)
        return known

    def _operator(self, number: int, *, called: bool) -> list[Outcome]:
        known = self._acts.get((number, called))
        if known is None:
            order = self.orders.met[number]
            is_called = any(wait.is_for_operator for wait in waits(order))
            moves = [] if called and not is_called else [m for m in acts(self.rulebook, order) if not called or m.subject in _CALLED]
            decided = [outcome for move in moves for outcome in self._decided(number, move)]
            known = self._acts[number, called] = [
                outcome for outcome in decided if outcome.order != number or outcome.sent or outcome.broken
            ]
        return known

    def _answer(self, number: int, place: int, kind: Kind) -> list[Outcome]:
        known = self._answers.get((number, place, kind))
        if known is None:
            key = list(self.orders.met[number].asks)[place]
            known = self._answers[number, place, kind] = self._decided(number, Move(kind, key))
        return known

    def _sent_late(self, number: int, sending: Sending) -> int:
        known = self._late.get((number, sending))
        if known is None:
            order = self.orders.met[number]
            ask = list(order.asks.values())[sending[0]]
            command = undo_id(ask.command_id) if sending[1] else ask.command_id
            decision = decide(self.rulebook, order, SentLate(command_id=command), order.updated_at)
            assert decision.order is not None
            known = self._late[number, sending] = self.orders.number(decision.order)
        return known

    def _silence(self, number: int, name: str, *, with_acts: bool) -> list[Outcome]:
        """A participant stays silent: attempt by attempt, until that changes more than how far the retry is, or the retry repeats itself.

        On the way every answer, event, act and other deadline is held to do what it does at the first attempt. So what is under way may
        come at any attempt, and need be tried at the first only: the attempts in between are no states of the exploration.
        """
        wait, first = waits_of(name), self.orders.met[number]
        others = self._all_but(first, wait, with_acts=with_acts)
        futures = [self._effect(first, move) for move in others]
        guard = places(first).get(first.deadlines[name].command_id or "")
        own = (list(first.asks).index(wait.partition(":")[2]), wait.startswith("undo"))
        #: Phases passed, and the sendings until then.
        at, phases = first, {retry_phase(first, self._attempts): 0}
        fired: tuple[tuple[str, str], ...] = (("fires", name),)
        outcomes: list[Outcome] = []
        sendings = 0
        while True:
            outcome, after = self._try(at, Move("deadline", fired[-1][1]))
            outcome = outcome._replace(move=Move("silence", wait, fired), unless_unsent=guard)
            if outcome.broken or after is None or outcome.answered or not outcome.sent <= {own} or shape(after) != shape(first):
                return [*outcomes, outcome._replace(order=number if after is None else self.orders.number(after))]
            if outcome.sent:
                outcomes.append(outcome._replace(order=number))
            phase = retry_phase(after, self._attempts)
            sendings += bool(outcome.sent)
            if phases.get(phase) == sendings:
                return [*outcomes, outcome._replace(order=number, broken=f"No end: {wait} passes for ever, and nobody is asked again.")]
            if phase in phases:
                return outcomes
            if [self._effect(after, move) for move in others] != futures:
                return [*outcomes, outcome._replace(order=self.orders.number(after, phase))]
            phases[phase] = sendings
            at, fired = after, (*fired, ("fires", next(one for one in after.deadlines if waits_of(one) == wait)))

    def _all_but(self, order: Order, wait: str, *, with_acts: bool) -> list[Move]:
        """All that may happen to an order but the passing of one wait, and what is about other asks alone."""
        moves = [Move("event", name) for name in sorted(self.rulebook.abort_on)]
        moves += [Move("deadline", name) for name in order.deadlines if waits_of(name) == name and order.deadlines[name].due_at]
        moves += acts(self.rulebook, order) if with_acts else ()
        key = wait.partition(":")[2]
        kinds: tuple[Kind, ...] = ("reply", "refusal", "too_late", "undone")
        return moves + [Move(kind, key) for kind in kinds if kind != "undone" or order.asks[key].undo_attempts]

    def _effect(self, order: Order, move: Move) -> list[tuple[Any, ...]]:
        return [_gist(outcome, after) for outcome, after in self._tried(order, move)]

    def _decided(self, number: int, move: Move) -> list[Outcome]:
        """What a move leads to, each once."""
        outcomes: dict[Outcome, Outcome] = {}
        for outcome, after in self._tried(self.orders.met[number], move):
            numbered = outcome._replace(order=number if after is None else self.orders.number(after))
            outcomes.setdefault(numbered._replace(move=move), numbered)
        return list(outcomes.values())

    def _tried(self, order: Order, move: Move) -> list[tuple[Outcome, Order | None]]:
        """What a move leads to with each variant of the definition; once where no guard is asked."""
        first = self._try(order, move)
        if len(self._rulebooks) == 1 or _gist(*self._try(order, move, self._undecided)) == _gist(*first):
            return [first]
        return [first, *(self._try(order, move._replace(variant=variant)) for variant in range(1, len(self._rulebooks)))]

    def _try(self, order: Order, move: Move, rulebook: Rulebook | None = None) -> tuple[Outcome, Order | None]:
        """Decide a move, and judge it. The outcome's order is not numbered yet; None: decide raised."""
        input_, now = input_of(self.rulebook, order, move)
        guard = None
        if move.kind in {"deadline", "excused"}:
            guard = places(order).get(order.deadlines[move.subject].command_id or "")
        try:
            decision = decide(rulebook or self._rulebooks[move.variant], order, input_, now)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            return Outcome(move, -1, frozenset(), frozenset(), (), guard, f"R1: decide raised {type(error).__name__}: {error}"), None
        after = decision.order
        assert after is not None
        is_answer = move.kind in {"reply", "refusal", "too_late", "undone"}
        broken = promises.broken_by_decision(self.rulebook, order, input_, decision, is_answer=is_answer)
        known = places(after) if decision.answered else {}
        confirmed = move.kind == "act" and [
            key for key, ask in after.asks.items() if ask.undo == "undone" and order.asks[key].undo != "undone"
        ]
        outcome = Outcome(
            move=move,
            order=-1,
            sent=sendings_of(after, decision),
            answered=frozenset(known[command] for command in decision.answered if command in known),
            vouched=tuple(list(after.asks).index(key) for key in confirmed or ()),
            unless_unsent=guard,
            broken=broken or promises.broken_by_order(self.rulebook, after),
        )
        return outcome, after


def _gist(outcome: Outcome, after: Order | None) -> tuple[Any, ...]:
    return after and shape(after), outcome.sent, outcome.answered, outcome.vouched, outcome.broken


def _published(rows: bytes, sendings: frozenset[Sending]) -> bytes:
    changed = bytearray(rows)
    for place, is_undo in sendings:
        changed[place] |= UNDO_SENT if is_undo else SENT
    return bytes(changed)


def _set(rows: bytes, place: int, row: int) -> bytes:
    return rows[:place] + bytes((row,)) + rows[place + 1 :]


def _with_row(world: World, place: int, row: int) -> World:
    return world._replace(rows=_set(world.rows, place, row))


def _settled(row: int) -> int:
    """A row whose stored reply was heard and which is undone: what it was before matters to nobody."""
    return row & ~(DONE | REFUSED) if row & UNDONE and row & HEARD else row
