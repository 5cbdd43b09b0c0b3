"""What scenarios have tried of a definition: how many saw each step done, refused, silent and undone, and each guard true and false."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.saga.inputs import DeadlineDue
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule
from orchestrator.saga.ways import choices, repeats
from orchestrator.testing.harness import Harness, Turn

#: What can become of a step.
OUTCOMES: Final = ("done", "refused", "silent", "undone")
#: What a guard can say.
SAYS: Final = ("true", "false")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCoverage:
    """One step of one definition. A number says in how many scenarios; None: it cannot happen to this step."""

    definition: str
    version: int
    step: str
    done: int | None
    refused: int | None
    silent: int | None
    undone: int | None

    @property
    def never(self) -> list[str]:
        """What can happen, and did in no scenario."""
        return [outcome for outcome in OUTCOMES if getattr(self, outcome) == 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardCoverage:
    """One guard of one definition. A number says in how many scenarios it was asked and said so; both 0: it was never asked."""

    definition: str
    version: int
    #: The expression. The same one in several places is one guard.
    guard: str
    #: Where it stands: `choose NAME`, `repeat NAME`, `step NAME` or `EVENT in STATE`.
    at: tuple[str, ...]
    true: int
    false: int

    @property
    def never(self) -> list[str]:
        """What it said in no scenario."""
        return [says for says in SAYS if getattr(self, says) == 0]


def guard_coverage(harnesses: Iterable[Harness]) -> list[GuardCoverage]:
    """A line for each guard of each definition that was played, in the order first met."""
    seen: dict[tuple[str, int], Counter[tuple[str, bool]]] = {}
    rulebooks: dict[tuple[str, int], Rulebook] = {}
    for harness in harnesses:
        key = harness.rulebook.name, harness.rulebook.version
        rulebooks[key] = harness.rulebook
        seen.setdefault(key, Counter()).update({asked for turn in harness.turns for asked in turn.decision.guards})
    return [
        GuardCoverage(
            definition=rulebook.name,
            version=rulebook.version,
            guard=text,
            at=tuple(places),
            true=seen[key][text, True],
            false=seen[key][text, False],
        )
        for key, rulebook in rulebooks.items()
        for text, places in _guards(rulebook).items()
    ]


def _guards(rulebook: Rulebook) -> dict[str, list[str]]:
    """The guards of a definition, by text, each with its places."""
    way = rulebook.document["way"]
    found = [(case["when"], f"choose {choice['choose']}") for choice in choices(way) for case in choice["cases"]]
    found += [(loop["until"], f"repeat {loop['repeat']}") for loop in repeats(way)]
    found += [(step.done_when.text, f"step {step.name}") for step in rulebook.steps if step.done_when is not None]
    for stage in rulebook.stages:
        for name, cases in stage.events.items():
            found += [(case.when.text, f"{name} in {stage.state}") for case in cases if case.when is not None]
    places: dict[str, list[str]] = {}
    for text, place in dict.fromkeys(found):
        places.setdefault(text, []).append(place)
    return places


def coverage(harnesses: Iterable[Harness]) -> list[StepCoverage]:
    """A line for each step of each definition that was played, in the order first met."""
    seen: dict[tuple[str, int], Counter[tuple[str, str]]] = {}
    rulebooks: dict[tuple[str, int], Rulebook] = {}
    for harness in harnesses:
        key = harness.rulebook.name, harness.rulebook.version
        rulebooks[key] = harness.rulebook
        seen.setdefault(key, Counter()).update({fact for turn in harness.turns for fact in _facts(turn)})
    return [_line(rulebook, step, seen[key]) for key, rulebook in rulebooks.items() for step in rulebook.steps]


def _facts(turn: Turn) -> Iterator[tuple[str, str]]:
    order = turn.decision.order
    if order is None:
        return
    for ask in order.asks.values():
        yield ask.step, ask.forward
        yield ask.step, ask.undo
    if isinstance(turn.input, DeadlineDue):
        what, _, key = turn.input.name.partition(":")
        if what == "reply" and key in order.asks and turn.decision.verdict == "moved":
            yield order.asks[key].step, "silent"


def _line(rulebook: Rulebook, step: StepRule, seen: Counter[tuple[str, str]]) -> StepCoverage:
    return StepCoverage(
        definition=rulebook.name,
        version=rulebook.version,
        step=step.name,
        done=seen[step.name, "done"],
        refused=seen[step.name, "refused"] if step.refused_on else None,
        silent=seen[step.name, "silent"],
        undone=seen[step.name, "undone"] if step.undo is not None else None,
    )
