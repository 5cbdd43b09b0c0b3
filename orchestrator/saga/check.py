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
    step: Mapping[str, Any]


class _Plan:
    """The expanded document, with the places of its parts in the document as written."""

    def __init__(self, definition: Definition) -> None:
        self.document = definition.expanded
        self.stages: Sequence[Mapping[str, Any]] = self.document["stages"]
        paths: list[tuple[str, int]] = []
        for index, item in enumerate(definition.raw["steps"]):
            place = f"steps[{index}]"
            paths += [(f"{place}.steps[{n}]", index) for n in range(len(item["steps"]))] if "parallel" in item else [(place, index)]
        self.steps = [_Placed(path, stage, step) for (path, stage), step in zip(paths, self.document["steps"], strict=True)]
        #: The stage of the first pivot; without one, the end.
        self.pivot = next((placed.stage for placed in self.steps if placed.step["pivot"]), len(self.stages))


def _names(plan: _Plan) -> _Findings:
    """Names of steps, blocks and states are unique, and none is one that Escrow gives."""
    reserved = {NEW, *ENDS, *(undoing(stage["stage"]) for stage in plan.stages)}
    seen: set[str] = set()
    for placed in plan.steps:
        if placed.step["step"] in seen:
            yield f"{placed.path}.step", f"A second step is called {placed.step['step']}.", "Give every step its own name."
        if placed.step["participant"] == OPERATOR:
            yield f"{placed.path}.ask", f"{OPERATOR} stands for a human in lists.", "Give the participant another name."
        seen.add(placed.step["step"])
    states: set[str] = set()
    for index, stage in enumerate(plan.stages):
        is_block = len(stage["steps"]) > 1
        if is_block and stage["stage"] in seen:
            yield f"steps[{index}].parallel", f"{stage['stage']} is the name of a step or another block.", "Give every block its own name."
        if is_block:
            seen.add(stage["stage"])
        if stage["state"] in states:
            yield f"steps[{index}].state", f"A second step has the state {stage['state']}.", "Give every step its own state."
        if stage["state"] in reserved:
            yield f"steps[{index}].state", f"The state {stage['state']} is one that Escrow itself uses.", "Choose another name."
        states.add(stage["state"])


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
    """The attempts before the pivot fit into the patience, in the worst case: side by side the longest counts (R7)."""
    longest: Counter[int] = Counter()
    for placed in plan.steps:
        if placed.stage < plan.pivot:
            needed_ms = worst_case_ms(RetryRule(**placed.step["retry"]), placed.step["deadline_ms"])
            longest[placed.stage] = max(longest[placed.stage], needed_ms)
    needed_ms, patience_ms = sum(longest.values()), plan.document["patience_ms"]
    if needed_ms > patience_ms:
        yield (
            "patience",
            f"The attempts before the pivot can take {needed_ms / 1000:g} s, and patience is {patience_ms / 1000:g} s.",
            f"Raise `patience:` to {-(-needed_ms // 1000)}s or more, or lower attempts and deadlines.",
        )


def _fields(plan: _Plan) -> _Findings:
    """`with` names what can be known when the command is made, each field once."""
    names = [placed.step["step"] for placed in plan.steps]
    for placed in plan.steps:
        before = [other.step["step"] for other in plan.steps if other.stage < placed.stage]
        yield from _with(f"{placed.path}.with", placed.step["with"], before, "only steps done before it")
        if placed.step["undo"]:
            yield from _with(f"{placed.path}.undo.with", placed.step["undo"]["with"], names, "a step of this definition")


def _with(path: str, fields: Sequence[str] | None, known: Sequence[str], rule: str) -> _Findings:
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
