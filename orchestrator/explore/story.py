"""A run with the moves of its participants, made from one without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.explore.inputs import Move
from orchestrator.explore.rows import SEEN, SENT, UNDO_SENT, Act, Answer, Beliefs, acts_of, after_answer

_ANSWERS: tuple[Answer, ...] = ("reply", "refusal", "too_late", "undone")
#: What a participant has done by the end of a step: the acts at each step so far.
_Acts = tuple[tuple[int, Act], ...]


def told_whole(beliefs: Beliefs, moves: Sequence[Move], rows: Sequence[bytes], keys: Sequence[str], last: Mapping[int, int]) -> list[Move]:
    """The moves, and between them what participants did, as little as must be, so that it comes out like this.

    `rows`: the beliefs after each move, by place of the ask; `keys`: its keys in the end; `last`: rows at the end, for the asks where they
    matter; there what is published counts as it is in the belief.
    """
    acts: list[tuple[int, Move]] = []
    for place, key in enumerate(keys):
        steps = [(moves[step], after[place]) for step, after in enumerate(rows) if place < len(after)]
        first = len(rows) - len(steps)
        acts += [(first + step, Move(act, key)) for step, act in _done_by(beliefs, key, steps, last.get(place))]
    whole: list[Move] = []
    for step, move in enumerate(moves):
        whole += [move, *(act for at, act in acts if at == step)]
    return whole


def _done_by(beliefs: Beliefs, key: str, steps: Sequence[tuple[Move, int]], last: int | None) -> _Acts:
    """What the participant of one ask did, and after which step: the least that leads to the beliefs after the steps, and to a last row."""
    ways: dict[int, _Acts] = {0: ()}
    for step, (move, belief) in enumerate(steps):
        is_answer = move.subject == key and not move.again and move.kind in _ANSWERS
        arrived: dict[int, _Acts] = {}
        for row, way in ways.items():
            after: int | None = row
            for answer in _ANSWERS:
                if is_answer and answer == move.kind:
                    after = after_answer(row, answer)
            if after is not None:
                arrived.setdefault(after & ~SEEN | beliefs.seen(belief), way)
        ways = _with_acts(arrived, step, may_refuse=beliefs.may_refuse(belief))
    kept = ~(SENT | UNDO_SENT)
    return min((way for row, way in ways.items() if last is None or row & kept == last & kept), key=len, default=())


def _with_acts(ways: Mapping[int, _Acts], step: int, *, may_refuse: bool) -> dict[int, _Acts]:
    """The ways, and those on which the participant acts after this step; of two to the same row the shorter."""
    found: dict[int, _Acts] = {}
    todo = sorted(ways.items(), key=lambda item: len(item[1]))
    for row, way in todo:
        if row not in found:
            found[row] = way
            todo += [(after, (*way, (step, act))) for act, after in acts_of(row, may_refuse=may_refuse)]
    return found
