"""What can happen next: to the order (by `decide`, asked once for each order and input), and to the world around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrator.explore import promises
from orchestrator.explore.inputs import START, Kind, Move, acts, copies, events, input_of, opening, places, sendings_of
from orchestrator.explore.rows import Answer, Beliefs
from orchestrator.explore.shape import names_of, retry_phase, standing, waits_of
from orchestrator.explore.variants import bounded, says, variants
from orchestrator.explore.world import Bound, Orders, Sending, World
from orchestrator.saga.decide import Decided, decide, decide_all
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import ActName
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.waiting import waits

#: Acts that bring on an order which only a human can: each ends a wait for good, so they are free when the order calls for one.
_CALLED: tuple[ActName, ...] = ("skip", "abandon")
_ANSWERS: tuple[Answer, ...] = ("reply", "refusal", "too_late", "undone")


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
    #: The promise that it breaks.
    broken: str | None


class Moves:
    """The moves of one definition, in all its variants. Remembers what it decided: an order is asked each thing once."""

    def __init__(self, document: Mapping[str, Any], bound: Bound) -> None:
        decided = variants(bounded(document, bound.attempts))
        self._rulebooks = [Rulebook(variant) for variant, _ in decided]
        #: What the guards of each variant say, by their texts there.
        self._said = [frozenset((text, says(text)) for text in guards) for _, guards in decided]
        self.rulebook = self._rulebooks[0]
        self._bound = bound
        self.orders = Orders(names_of(self.rulebook))
        self.beliefs = Beliefs()
        self._answers: dict[tuple[int, int, Answer], list[Outcome]] = {}
        self._own: dict[tuple[int, bool], list[Outcome]] = {}
        self._acts: dict[tuple[int, bool], list[Outcome]] = {}
        self._late: dict[int, list[Outcome]] = {}
        #: The promise that each order breaks by how it stands.
        self._broken: dict[int, str | None] = {}
        #: How far the retry is of the first order of each number.
        self._phases: dict[int, tuple[Any, ...]] = {}
        #: Where the retry makes no difference: how orders stand, for what they wait, and whether acts were tried, too.
        self._steady: set[tuple[tuple[Any, ...], str, bool]] = set()
        self._passed: dict[tuple[int, str], list[Outcome]] = {}
        #: Number and phase of an order, and a move → what it leads to, by all that matters.
        self._effects: dict[tuple[int, tuple[Any, ...], Move], list[Outcome]] = {}

    def first(self, bound: Bound) -> Iterator[tuple[Move, World, str | None]]:
        """The order was opened, and its first commands published; with the promise that this breaks."""
        for variant, rulebook in enumerate(self._rulebooks):
            decision = decide(rulebook, None, opening(rulebook), START)
            order = decision.order
            assert order is not None
            number = self.orders.number(order)
            sent = sendings_of(places(order, self.orders.keys[number]), [decision])
            rows = self._published(self._with_blanks(b"", number), sent)
            broken = promises.broken_by_order(rulebook, order)
            yield Move("opens", rulebook.opens_on, variant=variant), World(number, rows, bound.acts, bound.crashes), broken

    def after(self, world: World) -> Iterator[tuple[Move, World, str | None]]:
        """All that may happen next, each with the promise it breaks. Moves that lead nowhere new are left out."""
        for outcome in self._own_moves(world.order, with_acts=world.acts > 0):
            yield from self._taken(world, outcome, world.rows)
        for place, row in enumerate(world.rows):
            for answer in _ANSWERS:
                yield from self._arriving(world, place, row, answer)
        if world.crashes:
            for outcome in self._sent_late(world.order):
                for move, next_world, broken in self._taken(world, outcome, world.rows):
                    yield move, next_world._replace(crashes=world.crashes - 1), broken
        if world.acts:
            for outcome in self._operator(world.order, called=False):
                for move, next_world, broken in self._taken(world, outcome, world.rows):
                    yield move, next_world._replace(acts=world.acts - 1), broken

    def towards_an_end(self, world: World) -> Iterator[World]:
        """Worlds that may follow and be nearer to an end, the likeliest first: without the luck of a late answer or an act of free will.

        An operator does what the order calls for, whatever the bound says. No answer to a command arrives once its undo was begun, for an
        undo must come to its end by being confirmed, whatever else was heard.
        """
        order = self.orders.met[world.order]
        for place, (row, ask) in enumerate(zip(world.rows, self.orders.asks[world.order], strict=True)):
            if ask is None:
                continue
            if ask.undo != "none":
                yield from self._worlds(self._arriving(world, place, row, "undone"))
            elif ask.forward == "asked" and ask.undo == "none":
                yield from self._worlds(self._arriving(world, place, row, "reply"))
                yield from self._worlds(self._arriving(world, place, row, "refusal"))
        for name, deadline in order.deadlines.items():
            if deadline.due_at is not None:
                for outcome in self._passes(world.order, name):
                    yield from self._worlds(self._taken(world, outcome, world.rows))
        for outcome in self._operator(world.order, called=True):
            yield from self._worlds(self._taken(world, outcome, world.rows))

    @staticmethod
    def _worlds(moves: Iterator[tuple[Move, World, str | None]]) -> Iterator[World]:
        return (world for _, world, _ in moves)

    def _arriving(self, world: World, place: int, row: int, answer: Answer) -> Iterator[tuple[Move, World, str | None]]:
        """An answer arrives, if the participant can have sent it."""
        after = self.beliefs.answered(row, answer)
        if after is None:
            return
        for outcome in self._answer(world.order, place, answer):
            # Where a `too_late` or a confirmation says nothing new, the world in which it is still to come can do all that the other can.
            if answer in {"reply", "refusal"} or outcome.order != world.order or outcome.sent or outcome.broken:
                yield from self._taken(world, outcome, _set(world.rows, place, after))

    def _taken(self, world: World, outcome: Outcome, rows: bytes) -> Iterator[tuple[Move, World, str | None]]:
        """The world after an outcome."""
        if outcome.order == world.order and rows is world.rows and not outcome.sent:
            if outcome.broken:
                yield outcome.move, world, outcome.broken
            return
        rows = self._with_blanks(rows, outcome.order)
        for place in outcome.vouched:
            rows = _set(rows, place, self.beliefs.vouched(rows[place]))
        if outcome.sent:
            rows = self._published(rows, outcome.sent)
        yield outcome.move, World(outcome.order, rows, world.acts, world.crashes), outcome.broken

    def _with_blanks(self, rows: bytes, number: int) -> bytes:
        """Rows for the asks that have none yet."""
        keys = self.orders.keys[number]
        return rows if len(keys) == len(rows) else rows + bytes(map(self._blank, keys[len(rows) :]))

    def _blank(self, key: str) -> int:
        """The belief about an ask of which nothing was heard."""
        rule = self.rulebook.by_name[key.rsplit(".", 2)[0]]
        if rule.name in self.rulebook.events:
            return self.beliefs.fact
        blanks = self.beliefs.watched if key in self.orders.names.watched else self.beliefs.blank
        return blanks[bool(rule.refused_on)]

    def _published(self, rows: bytes, sendings: frozenset[Sending]) -> bytes:
        changed = bytearray(rows)
        for place, is_undo in sendings:
            changed[place] = self.beliefs.published(changed[place], is_undo=is_undo)
        return bytes(changed)

    # --- what the order decides ------------------------------------------------------------------------------------------------

    def _own_moves(self, number: int, *, with_acts: bool) -> list[Outcome]:
        """Deadlines, events from outside, and copies of what was heard, which must do nothing. `with_acts`: an operator may still act."""
        known = self._own.get((number, with_acts))
        if known is None:
            order = self.orders.met[number]
            armed = [name for name, deadline in order.deadlines.items() if deadline.due_at is not None]
            moves = [Move("deadline", name) for name in armed if waits_of(name) == name]
            moves += [Move("excused", name) for name in armed if order.deadlines[name].participant]
            moves += [*events(self.rulebook, order, self._bound.events), *copies(self.rulebook, order)]
            known = self._own[number, with_acts] = [outcome for move in moves for outcome in self._decided(number, move)]
            for name in armed:
                if waits_of(name) != name:
                    known += self._silence(number, name, with_acts=with_acts)
        return known

    def _operator(self, number: int, *, called: bool) -> list[Outcome]:
        known = self._acts.get((number, called))
        if known is None:
            order = self.orders.met[number]
            is_called = any(wait.is_for_operator or self._cannot_answer(wait.ask) for wait in waits(order))
            moves = [] if called and not is_called else [m for m in acts(self.rulebook, order) if not called or m.subject in _CALLED]
            decided = [outcome for move in moves for outcome in self._decided(number, move)]
            known = self._acts[number, called] = [outcome for outcome in decided if _is_new(number, outcome)]
        return known

    def _cannot_answer(self, ask: Ask | None) -> bool:
        """Whether a human was called for an ask whose success may have been refused by its guard: a copy of it says nothing new."""
        return ask is not None and ask.alarm and self.rulebook.by_name[ask.step].done_when is not None

    def _answer(self, number: int, place: int, answer: Answer) -> list[Outcome]:
        known = self._answers.get((number, place, answer))
        if known is None:
            move = Move(answer, self.orders.keys[number][place])
            known = self._answers[number, place, answer] = self._decided(number, move)
        return known

    def _sent_late(self, number: int) -> list[Outcome]:
        """A command that is awaited reached the broker late; only where that makes a difference."""
        known = self._late.get(number)
        if known is None:
            order, keys = self.orders.met[number], self.orders.keys[number]
            sendings = places(order, keys)
            awaited = [sendings[d.command_id] for d in order.deadlines.values() if d.command_id in sendings]
            moves = [Move("sent_late", keys[place], (("of", "undo"),) if is_undo else ()) for place, is_undo in sorted(awaited)]
            decided = [outcome for move in moves for outcome in self._decided(number, move)]
            known = self._late[number] = [outcome for outcome in decided if _is_new(number, outcome)]
        return known

    def _passes(self, number: int, name: str) -> list[Outcome]:
        """What the passing of a deadline leads to, whatever else could happen on the way."""
        known = self._passed.get((number, name))
        if known is None:
            is_retry = waits_of(name) != name
            known = self._passing(number, name, [])[0] if is_retry else self._decided(number, Move("deadline", name))
            self._passed[number, name] = known
        return known

    def _silence(self, number: int, name: str, *, with_acts: bool) -> list[Outcome]:
        """A participant stays silent: attempt by attempt, until that changes more than how far the retry is, or the retry repeats itself.

        On the way every answer, event, act and other deadline is held to do what it does at the first attempt. So what is under way may
        come at any attempt, and need be tried at the first only: the attempts in between are no states of the exploration. Orders that
        stand alike, wait for the same and have this ask alike are held to it once: what else is in the ledger is done with, or is a wait
        of its own, and no attempt of one ask looks at it.
        """
        wait, first = waits_of(name), self.orders.met[number]
        tried = (standing(first, wait.partition(":")[2], self.orders.names), wait, with_acts)
        if tried in self._steady:
            return self._passes(number, name)
        passed, phase = self._passing(number, name, self._all_but(first, wait, with_acts=with_acts))
        if phase is None:
            self._steady.add(tried)
            self._passed[number, name] = passed
        return passed

    def _passing(self, number: int, name: str, others: Sequence[Move]) -> tuple[list[Outcome], tuple[Any, ...] | None]:
        """What the passing of a wait leads to; and the phase of the retry in which one of the other moves does what it did not at first."""
        wait, first = waits_of(name), self.orders.met[number]
        at, phase = first, retry_phase(first, self._bound.attempts)
        futures: list[list[Outcome]] | None = None
        first_phase = phase
        own = (self.orders.keys[number].index(wait.partition(":")[2]), wait.startswith("undo"))
        #: Phases passed, and the sendings until then.
        phases = {phase: 0}
        fired: tuple[tuple[str, str], ...] = (("fires", name),)
        outcomes: list[Outcome] = []
        sendings = 0
        while True:
            outcome, after, _ = self._try(number, at, Move("deadline", fired[-1][1]))
            outcome = outcome._replace(move=Move("silence", wait, fired))
            if outcome.broken or after is None or outcome.answered or not outcome.sent <= {own} or outcome.order != number:
                return [*outcomes, outcome], None
            if outcome.sent:
                outcomes.append(outcome)
            phase = retry_phase(after, self._bound.attempts)
            sendings += bool(outcome.sent)
            if phases.get(phase) == sendings:
                return [*outcomes, outcome._replace(broken=f"No end: {wait} passes for ever, and nobody is asked again.")], None
            if phase in phases:
                return outcomes, None
            futures = [self._effect(number, first, first_phase, move) for move in others] if futures is None else futures
            if any(self._effect(number, after, phase, move) != future for move, future in zip(others, futures, strict=True)):
                return [*outcomes, outcome._replace(order=self.orders.number(after, phase))], phase
            phases[phase] = sendings
            at, fired = after, (*fired, ("fires", next(one for one in after.deadlines if waits_of(one) == wait)))

    def _all_but(self, order: Order, wait: str, *, with_acts: bool) -> list[Move]:
        """All that may happen to an order but the passing of one wait, and what is about other asks alone."""
        moves = [*events(self.rulebook, order, self._bound.events)]
        moves += [Move("deadline", name) for name in order.deadlines if waits_of(name) == name and order.deadlines[name].due_at]
        moves += acts(self.rulebook, order) if with_acts else ()
        key = wait.partition(":")[2]
        kinds: tuple[Kind, ...] = ("reply", "refusal", "too_late", "undone")
        return moves + [Move(kind, key) for kind in kinds if kind != "undone" or order.asks[key].undo_attempts]

    def _effect(self, number: int, order: Order, phase: tuple[Any, ...], move: Move) -> list[Outcome]:
        """What a move leads to, each once. `order`: the one of this number whose retries are in this phase."""
        known = self._effects.get((number, phase, move))
        if known is None:
            outcomes = {outcome._replace(move=move): outcome for outcome in reversed(self._tried(number, order, move))}
            known = self._effects[number, phase, move] = list(reversed(outcomes.values()))
        return known

    def _decided(self, number: int, move: Move) -> list[Outcome]:
        """What a move leads to from the order of a number."""
        if number not in self._phases:
            self._phases[number] = retry_phase(self.orders.met[number], self._bound.attempts)
        return self._effect(number, self.orders.met[number], self._phases[number], move)

    def _tried(self, number: int, order: Order, move: Move) -> list[Outcome]:
        """What a move leads to, whichever way the guards come out that it asks."""
        first, _, asked = self._try(number, order, move)
        outcomes, tried = [first], [asked]
        # Variants in which every guard that was asked says the same decide the same.
        for variant, said in enumerate(self._said if asked else ()):
            if not any(asked <= said for asked in tried):
                outcome, _, asked = self._try(number, order, move._replace(variant=variant))
                outcomes.append(outcome)
                tried.append(asked)
        return outcomes

    def _try(self, number: int, order: Order, move: Move) -> tuple[Outcome, Order | None, frozenset[tuple[str, bool]]]:
        """Decide a move of the order of a number, and judge it; with the order after it (None: decide raised) and the guards it asked."""
        input_, now = input_of(self.rulebook, order, move)
        try:
            decided = decide_all(self._rulebooks[move.variant], order, input_, now)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            broken = f"R1: decide raised {type(error).__name__}: {error}"
            return Outcome(move, number, frozenset(), frozenset(), (), broken), None, frozenset()
        after = decided.order
        assert after is not None
        reached = number if after is order else self.orders.number(after)
        is_answer = move.kind in _ANSWERS
        broken_now = promises.broken_by_input(self.rulebook, order, input_, decided, is_answer=is_answer)
        if reached not in self._broken:
            self._broken[reached] = promises.broken_by_order(self.rulebook, after)
        keys, decisions = self.orders.keys[reached], _decisions(decided)
        known = places(after, keys) if any(decision.commands or decision.answered for decision in decisions) else {}
        outcome = Outcome(
            move=move,
            order=reached,
            sent=sendings_of(known, decisions),
            answered=frozenset(known[command] for decision in decisions for command in decision.answered if command in known),
            vouched=_vouched(keys, order, after) if move.kind == "act" else (),
            broken=broken_now or self._broken[reached],
        )
        return outcome, after, frozenset(asked for decision in decisions for asked in decision.guards)


def _decisions(decided: Decided) -> list[Decision]:
    """All that one input brought about, in turn."""
    return [*(decision for _, decision in decided.before), decided.own, *(decision for _, decision in decided.after)]


def _vouched(keys: Sequence[str], before: Order, after: Order) -> tuple[int, ...]:
    """The asks, by place, whose undo an act has confirmed."""
    undone = [key for key, ask in after.asks.items() if ask.undo == "undone" and key in before.asks and before.asks[key].undo != "undone"]
    return tuple(map(keys.index, undone))


def _is_new(number: int, outcome: Outcome) -> bool:
    return bool(outcome.order != number or outcome.sent or outcome.broken)


def _set(rows: bytes, place: int, row: int) -> bytes:
    return rows[:place] + bytes((row,)) + rows[place + 1 :]
