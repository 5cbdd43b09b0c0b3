"""Static checks of a definition: what must hold before the first order runs on it (R31, R7, R12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.contract import COMMAND_TOO_LATE
from orchestrator.errors import Finding
from orchestrator.saga.definition import Definition
from orchestrator.saga.order import ENDS
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import NEW, undoing

_Findings = Iterator[tuple[str, str, str]]
_ENDS = ("completed", "compensated", "abandoned")


def check(definition: Definition) -> list[Finding]:
    """Every finding, in order of line. An empty list means that orders may run on it."""
    document = definition.expanded
    raised = [
        *_names(document),
        *_events(document),
        *_effects(document),
        *_retries(document),
        *_patience(document),
        *_fields(document),
        *_announcements(document),
    ]
    findings = [definition.finding(path, message, fix) for path, message, fix in raised]
    return sorted(findings, key=lambda finding: (finding.line, finding.path))


def _names(document: Mapping[str, Any]) -> _Findings:
    """Step and state names are unique, and no state has a name that Escrow gives."""
    steps = document["steps"]
    reserved = {NEW, *ENDS, *(undoing(step["step"]) for step in steps)}
    seen_steps: set[str] = set()
    seen_states: set[str] = set()
    for index, step in enumerate(steps):
        if step["step"] in seen_steps:
            yield f"steps[{index}].step", f"A second step is called {step['step']}.", "Give every step its own name."
        if step["state"] in seen_states:
            yield f"steps[{index}].state", f"A second step has the state {step['state']}.", "Give every step its own state."
        if step["state"] in reserved:
            yield f"steps[{index}].state", f"The state {step['state']} is one that Escrow itself uses.", "Choose another name."
        seen_steps.add(step["step"])
        seen_states.add(step["state"])


def _events(document: Mapping[str, Any]) -> _Findings:
    """In no state does one event have two meanings."""
    roles: dict[str, str] = {document["opens_on"]: "opens an order"}
    for name in document["abort_on"]:
        if name in roles:
            yield "abort_on", f"{name} also {roles[name]}.", "Let an event mean one thing."
        roles[name] = "aborts an order"
    for index, step in enumerate(document["steps"]):
        answers = [("done_on", step["done_on"]), *(("refused_on", name) for name in step["refused_on"])]
        for twice in [name for name, count in Counter(name for _, name in answers).items() if count > 1]:
            yield f"steps[{index}]", f"{twice} means two answers of one step.", "Use one event for success, others for refusal."
        if step["undo"]:
            answers.append(("undo.done_on", step["undo"]["done_on"]))
        for path, name in answers:
            if name in roles:
                yield f"steps[{index}].{path}", f"{name} also {roles[name]}.", "Let an event mean one thing."
            if name == COMMAND_TOO_LATE:
                yield f"steps[{index}].{path}", f"{name} is Escrow's own.", "It is read as a refusal already; remove it."


def _effects(document: Mapping[str, Any]) -> _Findings:
    """Every effect can be undone, or need not be; there is one pivot at most."""
    pivots = [index for index, step in enumerate(document["steps"]) if step["pivot"]]
    for index in pivots[1:]:
        yield f"steps[{index}].pivot", "A second pivot.", "Keep one point of no return."
    last = pivots[0] if pivots else len(document["steps"])
    for index, step in enumerate(document["steps"]):
        needs_undo = index < last and not step["harmless"]
        if needs_undo and step["undo"] is None:
            yield (
                f"steps[{index}]",
                f"The effect of {step['step']} cannot be undone.",
                "Add `undo:`, or `harmless: true` if it may be left standing, or make it the pivot.",
            )
        if step["harmless"] and step["undo"] is not None:
            yield f"steps[{index}].harmless", "A harmless step has an undo.", "Remove one of the two."
        if index >= last and step["harmless"]:
            yield f"steps[{index}].harmless", "The pivot and the steps after it need no undo.", "Remove `harmless`."


def _retries(document: Mapping[str, Any]) -> _Findings:
    """Limits stand where they can end a wait, alarms where nothing else does."""
    pivots = [index for index, step in enumerate(document["steps"]) if step["pivot"]]
    last = pivots[0] if pivots else len(document["steps"])
    for index, step in enumerate(document["steps"]):
        places: list[tuple[str, Mapping[str, Any], bool]] = [(f"steps[{index}].retry", step["retry"], index >= last)]
        if step["undo"]:
            places.append((f"steps[{index}].undo.retry", step["undo"]["retry"], True))
        for path, retry, unlimited in places:
            if unlimited and retry["attempts"] is not None:
                yield f"{path}.attempts", "This is retried without limit: there is no way back.", "Use `stuck_after:` for the alarm."
            if not unlimited and retry["stuck_after"] is not None:
                yield f"{path}.stuck_after", "Before the pivot attempts end the wait.", "Use `attempts:`."
            if retry["first_ms"] > retry["max_ms"]:
                yield f"{path}.first", "The first backoff is longer than the longest.", "Raise `max:` or lower `first:`."


def _patience(document: Mapping[str, Any]) -> _Findings:
    """The attempts before the pivot fit into the patience, in the worst case (R7)."""
    needed_ms = 0
    for step in document["steps"]:
        if step["pivot"]:
            break
        needed_ms += worst_case_ms(RetryRule(**step["retry"]), step["deadline_ms"])
    if needed_ms > document["patience_ms"]:
        yield (
            "patience",
            f"The attempts before the pivot can take {needed_ms / 1000:g} s, and patience is {document['patience_ms'] / 1000:g} s.",
            f"Raise `patience:` to {-(-needed_ms // 1000)}s or more, or lower attempts and deadlines.",
        )


def _fields(document: Mapping[str, Any]) -> _Findings:
    """`with` names what can be known when the command is made, each field once."""
    names = [step["step"] for step in document["steps"]]
    for index, step in enumerate(document["steps"]):
        yield from _with(f"steps[{index}].with", step["with"], names[:index], "only steps done before it")
        if step["undo"]:
            yield from _with(f"steps[{index}].undo.with", step["undo"]["with"], names, "a step of this definition")


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
