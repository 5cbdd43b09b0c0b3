"""Static checks of a definition: what must hold before the first order runs on it (R31, R7, R12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.errors import Finding
from orchestrator.saga.definition import Definition
from orchestrator.saga.order import ENDS, OPERATOR
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import NEW, undoing

#: Steps of one definition, however nested.
STEPS_MAX = 200

_Findings = Iterator[tuple[str, str, str]]
_ENDS = ("completed", "compensated", "abandoned")


def check(definition: Definition) -> list[Finding]:
    """Every finding, in order of line. An empty list means that orders may run on it."""
    plan = _Plan(definition)
    raised = [
        *_names(plan),
        *_events(plan),
        *_effects(plan),
        *_retries(plan),
        *_patience(plan),
        *_loops(plan),
        *_fields(plan),
        *_announcements(definition.expanded),
    ]
    findings = [definition.finding(path, message, fix) for path, message, fix in raised]
    return sorted(findings, key=lambda finding: (finding.line, finding.path))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A step, where it stands in the document as written, and in which stage."""

    path: str
    stage: int
    #: Whether not every order comes to it, or some come again.
    nested: bool
    step: Mapping[str, Any]


class _Plan:
    """The expanded document, with the places of its parts in the document as written."""

    def __init__(self, definition: Definition) -> None:
        self.document = definition.expanded
        self.stages: Sequence[Mapping[str, Any]] = self.document["stages"]
        #: Paths of the stages, and of the choices and loops, each with its name.
        self.places: list[str] = []
        self.blocks: list[tuple[str, str]] = []
        #: Paths of the steps, and whether they are nested.
        self._steps: list[tuple[str, int, bool]] = []
        self._walk(definition.raw["steps"], "steps", nested=False)
        self.steps = [_Placed(*where, step) for where, step in zip(self._steps, self.document["steps"], strict=True)]
        #: The stage of the first pivot; without one, the end.
        self.pivot = next((placed.stage for placed in self.steps if placed.step["pivot"]), len(self.stages))

    def _walk(self, items: Sequence[Mapping[str, Any]], path: str, *, nested: bool) -> None:
        """In the order of `expand`."""
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if "choose" in item:
                self.blocks.append((f"{place}.choose", item["choose"]))
                for number, case in enumerate(item["cases"]):
                    self._walk(case["steps"], f"{place}.cases[{number}].steps", nested=True)
                self._walk(item.get("otherwise", ()), f"{place}.otherwise", nested=True)
            elif "repeat" in item:
                self.blocks.append((f"{place}.repeat", item["repeat"]))
                self._walk(item["steps"], f"{place}.steps", nested=True)
            else:
                inner = [f"{place}.steps[{n}]" for n in range(len(item["steps"]))] if "parallel" in item else [place]
                self._steps += [(step, len(self.places), nested) for step in inner]
                self.places.append(place)


def _names(plan: _Plan) -> _Findings:
    """Names of steps, blocks and states are unique, and none is one that Escrow gives."""
    reserved = {NEW, *ENDS, *(undoing(stage["stage"]) for stage in plan.stages)}
    names = [(f"{placed.path}.step", placed.step["step"]) for placed in plan.steps]
    names += [(f"{plan.places[n]}.parallel", stage["stage"]) for n, stage in enumerate(plan.stages) if len(stage["steps"]) > 1]
    yield from _twice([*names, *plan.blocks], "A second step or block is called {}.", "Give every step and every block its own name.")
    states = [(f"{path}.state", stage["state"]) for path, stage in zip(plan.places, plan.stages, strict=True)]
    yield from _twice(states, "A second step has the state {}.", "Give every step its own state.")
    for path, state in states:
        if state in reserved:
            yield path, f"The state {state} is one that Escrow itself uses.", "Choose another name."
    for placed in plan.steps:
        if placed.step["participant"] == OPERATOR:
            yield f"{placed.path}.ask", f"{OPERATOR} stands for a human in lists.", "Give the participant another name."
    if len(plan.steps) > STEPS_MAX:
        yield "steps", f"There are {len(plan.steps)} steps.", f"Keep to {STEPS_MAX}: split the definition, or shorten it."


def _twice(names: Sequence[tuple[str, str]], message: str, fix: str) -> _Findings:
    seen: set[str] = set()
    for path, name in names:
        if name in seen:
            yield path, message.format(name), fix
        seen.add(name)


def _events(plan: _Plan) -> _Findings:
    """In no state does one event have two meanings."""
    roles: dict[str, str] = {plan.document["opens_on"]: "opens an order"}
    for name in plan.document["abort_on"]:
        if name in roles:
            yield "abort_on", f"{name} also {roles[name]}.", "Let an event mean one thing."
        roles[name] = "aborts an order"
    for placed in plan.steps:
        step = placed.step
        answers = [("done_on", step["done_on"]), *(("refused_on", name) for name in step["refused_on"])]
        for twice in [name for name, count in Counter(name for _, name in answers).items() if count > 1]:
            yield placed.path, f"{twice} means two answers of one step.", "Use one event for success, others for refusal."
        if step["undo"]:
            answers.append(("undo.done_on", step["undo"]["done_on"]))
        for path, name in answers:
            if name in roles:
                yield f"{placed.path}.{path}", f"{name} also {roles[name]}.", "Let an event mean one thing."
            if name == COMMAND_TOO_LATE:
                yield f"{placed.path}.{path}", f"{name} is Escrow's own.", "It is read as a refusal already; remove it."


def _effects(plan: _Plan) -> _Findings:
    """Every effect can be undone, or need not be; there is one pivot at most, and nothing is beside it."""
    for placed in plan.steps:
        step = placed.step
        if step["pivot"] and placed.stage != plan.pivot:
            yield f"{placed.path}.pivot", "A second pivot.", "Keep one point of no return."
        if step["pivot"] and len(plan.stages[placed.stage]["steps"]) > 1:
            yield f"{placed.path}.pivot", "The pivot stands beside other steps.", "Ask it by itself: there is one point of no return."
        if step["pivot"] and placed.nested:
            yield f"{placed.path}.pivot", "Not every order comes to this pivot just once.", "Put it on the way that all orders take."
        if placed.stage < plan.pivot and not step["harmless"] and step["undo"] is None:
            yield (
                placed.path,
                f"The effect of {step['step']} cannot be undone.",
                "Add `undo:`, or `harmless: true` if it may be left standing, or make it the pivot.",
            )
        if step["harmless"] and step["undo"] is not None:
            yield f"{placed.path}.harmless", "A harmless step has an undo.", "Remove one of the two."
        if placed.stage >= plan.pivot and step["harmless"]:
            yield f"{placed.path}.harmless", "The pivot and the steps after it need no undo.", "Remove `harmless`."


def _retries(plan: _Plan) -> _Findings:
    """Limits stand where they can end a wait, alarms where nothing else does."""
    for placed in plan.steps:
        places: list[tuple[str, Mapping[str, Any], bool]] = [
            (f"{placed.path}.retry", placed.step["retry"], placed.stage >= plan.pivot),
        ]
        if placed.step["undo"]:
            places.append((f"{placed.path}.undo.retry", placed.step["undo"]["retry"], True))
        for path, retry, unlimited in places:
            if unlimited and retry["attempts"] is not None:
                yield f"{path}.attempts", "This is retried without limit: there is no way back.", "Use `stuck_after:` for the alarm."
            if not unlimited and retry["stuck_after"] is not None:
                yield f"{path}.stuck_after", "Before the pivot attempts end the wait.", "Use `attempts:`."
            if retry["first_ms"] > retry["max_ms"]:
                yield f"{path}.first", "The first backoff is longer than the longest.", "Raise `max:` or lower `first:`."


def _patience(plan: _Plan) -> _Findings:
    """The attempts before the pivot fit into the patience, in the worst case (R7)."""
    longest: Counter[int] = Counter()
    for placed in plan.steps:
        if placed.stage < plan.pivot:
            alone_ms = worst_case_ms(RetryRule(**placed.step["retry"]), placed.step["deadline_ms"])
            longest[placed.stage] = max(longest[placed.stage], alone_ms)
    needed_ms, patience_ms = _longest_ms(plan.document["way"], longest), plan.document["patience_ms"]
    if needed_ms > patience_ms:
        yield (
            "patience",
            f"The attempts before the pivot can take {needed_ms / 1000:g} s, and patience is {patience_ms / 1000:g} s.",
            f"Raise `patience:` to {-(-needed_ms // 1000)}s or more, or lower attempts and deadlines.",
        )


def _longest_ms(way: Sequence[Mapping[str, Any]], stages: Mapping[int, int]) -> int:
    """Side by side the longest counts, of several ways the longest, of a loop every turn."""
    total_ms = 0
    for item in way:
        if "stage" in item:
            total_ms += stages.get(item["stage"], 0)
        elif "choose" in item:
            total_ms += max(_longest_ms(case, stages) for case in [*(case["way"] for case in item["cases"]), item["otherwise"]])
        else:
            total_ms += item["at_most"] * _longest_ms(item["way"], stages)
    return total_ms


def _loops(plan: _Plan) -> _Findings:
    """Every turn asks something, and what cannot be undone does not ask to be."""
    paths = {name: path for path, name in plan.blocks}
    for item, first in _repeats(plan.document["way"]):
        path = paths[item["repeat"]]
        if not _asked(item["way"]):
            yield path, "A turn of this loop may ask nothing.", "Put a step into it that every turn comes to."
        if item["then"] == "undo" and first > plan.pivot:
            yield path, "After the pivot nothing is undone.", "Add `then: go_on`."


def _repeats(way: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every loop, with the first stage in it."""
    for item in way:
        if "choose" in item:
            for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
                yield from _repeats(inner)
        elif "repeat" in item:
            yield item, min(_stages_in(item["way"]), default=0)
            yield from _repeats(item["way"])


def _stages_in(way: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    for item in way:
        if "stage" in item:
            yield item["stage"]
        elif "choose" in item:
            for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
                yield from _stages_in(inner)
        else:
            yield from _stages_in(item["way"])


def _asked(way: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """The stages that every way through comes to."""
    asked: frozenset[int] = frozenset()
    for item in way:
        if "stage" in item:
            asked |= {item["stage"]}
        elif "choose" in item:
            ways = [_asked(case["way"]) for case in item["cases"]]
            asked |= _asked(item["otherwise"]).intersection(*ways)
        else:
            asked |= _asked(item["way"])
    return asked


def _known(way: Sequence[Mapping[str, Any]], before: frozenset[int]) -> Iterator[tuple[int, frozenset[int]]]:
    """Every stage, with those that are done when an order first comes to it, whichever way it took."""
    for item in way:
        if "stage" in item:
            yield item["stage"], before
        elif "choose" in item:
            for inner in [*(case["way"] for case in item["cases"]), item["otherwise"]]:
                yield from _known(inner, before)
        else:
            yield from _known(item["way"], before)
        before |= _asked([item])


def _fields(plan: _Plan) -> _Findings:
    """`with` names what can be known when the command is made, each field once."""
    names = [placed.step["step"] for placed in plan.steps]
    known = dict(_known(plan.document["way"], frozenset()))
    for placed in plan.steps:
        before = [other.step["step"] for other in plan.steps if other.stage in known[placed.stage]]
        yield from _with(f"{placed.path}.with", placed.step["with"], before, "only steps done before it on every way")
        if placed.step["undo"]:
            yield from _with(f"{placed.path}.undo.with", placed.step["undo"]["with"], names, "a step of this definition")


def _with(path: str, fields: Sequence[str] | Mapping[str, str] | None, known: Sequence[str], rule: str) -> _Findings:
    if isinstance(fields, Mapping):
        return
    taken: set[str] = set()
    for place, field in enumerate(fields or ()):
        step, dot, rest = field.partition(".")
        if dot and step not in known:
            yield f"{path}[{place}]", f"`{field}` names the reply of {step}.", f"A path may name {rule}: {', '.join(known) or 'none'}."
        name = rest.rpartition(".")[2] if dot else field
        if name in taken:
            yield f"{path}[{place}]", f"The command would have {name} twice.", "Name each field once."
        taken.add(name)


def _announcements(document: Mapping[str, Any]) -> _Findings:
    for end in document["announce"]:
        if end not in _ENDS:
            yield f"announce.{end}", f"{end} is no end of an order.", f"Announce {', '.join(_ENDS)}."
