"""The way between stages: every next stage is found, in time that grows with the definition and not with the number of ways."""

from __future__ import annotations

import time

from orchestrator.saga.way import exits
from tests.saga.world import LOAN_RULES, compiled

HEAD = "definition: d\nversion: 1\nopens_on: O\nkey: id\npatience: 1h\nsteps:\n"


def choice(number: int) -> str:
    """A choice whose case begins with another that may take no way at all."""
    step = f"{{step: s{number}, ask: p, command: C, done_on: D, deadline: 1s, harmless: true}}"
    inner = f"{{choose: i{number}, cases: [{{when: order.x, steps: [{step}]}}]}}"
    return f"  - {{choose: o{number}, cases: [{{when: order.y, steps: [{inner}]}}]}}\n"


def test_every_next_stage_is_found() -> None:
    """Else the machine has no move to where the order goes."""
    way = LOAN_RULES.way
    nexts = {stage.name: {following.name if following else "" for following, _ in exits(way.after(stage))} for stage in LOAN_RULES.stages}
    assert nexts == {
        "visit": {"sign"},
        "sign": {"score"},
        "complain": {"score"},
        "score": {"score", "pay"},
        "pay": {"thank"},
        "thank": {"thank", ""},
    }
    assert {following.name for following, _ in exits(way.first) if following} == {"visit", "complain", "score"}


def test_many_choices_one_after_the_other_are_compiled_at_once() -> None:
    """Else thirty choices stop every process that reads the definition: their ways are more than a thousand million."""
    began = time.process_time()
    rulebook = compiled(HEAD + "".join(map(choice, range(30))))
    assert time.process_time() - began < 5
    assert len({following.name if following else None for following, _ in exits(rulebook.way.first)}) == 31
