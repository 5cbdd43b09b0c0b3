"""Static checks of a definition: what must hold before the first order runs on it (R31, R7, R12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.contract import COMMAND_TOO_LATE, RESYNC_REQUESTED
from orchestrator.errors import Finding
from orchestrator.saga.bounds import needed_ms
from orchestrator.saga.check_line import check_line
from orchestrator.saga.check_states import check_states
from orchestrator.saga.definition import Definition
from orchestrator.saga.order import ENDS, OPERATOR, OUTSIDE
from orchestrator.saga.plan import Findings, Plan
from orchestrator.saga.policies import CELLS
from orchestrator.saga.retry import RetryRule, worst_case_ms
from orchestrator.saga.rulebook import NEW, Rulebook, undoing

#: Steps of one definition, however nested.
STEPS_MAX = 200
#: Names that stand for somebody else in lists.
_STAND_INS = {OPERATOR: "a human", OUTSIDE: "anyone who publishes events"}


def check(definition: Definition) -> list[Finding]:
    """Every finding, in order of line. An empty list means that orders may run on it."""
    plan = Plan(definition)
    form = check_line(plan) if plan.document["way"] else check_states(plan)
    raised = [*form, *_names(plan), *_events(plan), *_effects(plan), *_retries(plan), *_fields(plan), *_policies(plan), *_ends(plan)]
    # What cannot be compiled has no longest way.
    raised += _patience(plan) if not raised else []
    findings = [definition.finding(path, message, fix) for path, message, fix in raised]
    return sorted(findings, key=lambda finding: (finding.line, finding.path))


def _names(plan: Plan) -> Findings:
    """Names of steps, blocks and states are unique, and none is one that Escrow gives."""
    reserved = {NEW, *ENDS, *(undoing(stage["stage"]) for stage in plan.stages)} - {plan.whole_end}
    names = [(f"{placed.path}.step", placed.step["step"]) for placed in plan.steps]
    names += [(f"{plan.places[n]}.parallel", stage["stage"]) for n, stage in enumerate(plan.stages) if len(stage["steps"]) > 1]
    yield from _twice([*names, *plan.blocks], "A second step or block is called {}.", "Give every step and every block its own name.")
    states = [(f"{path}.state", stage["state"]) for path, stage in zip(plan.places, plan.stages, strict=True)]
    yield from _twice(states, "A second step has the state {}.", "Give every step its own state.")
    for path, state in states:
        if state in reserved:
            yield path, f"The state {state} is one that Escrow itself uses.", "Choose another name."
    for path, participant in plan.participants():
        if participant in _STAND_INS:
            yield path, f"{participant} stands for {_STAND_INS[participant]} in lists.", "Give the participant another name."
    if len(plan.steps) > STEPS_MAX:
        yield "steps", f"There are {len(plan.steps)} steps.", f"Keep to {STEPS_MAX}: split the definition, or shorten it."


def _twice(names: Sequence[tuple[str, str]], message: str, fix: str) -> Findings:
    seen: set[str] = set()
    for path, name in names:
        if name in seen:
            yield path, message.format(name), fix
        seen.add(name)


def _events(plan: Plan) -> Findings:
    """In no state does one event have two meanings."""
    roles: dict[str, str] = {plan.document["opens_on"]: "opens an order"}
    for name in plan.document["abort_on"]:
        if name in roles:
            yield "abort_on", f"{name} also {roles[name]}.", "Let an event mean one thing."
        roles[name] = "aborts an order"
    for path, name in plan.awaited():
        if name in roles:
            yield path, f"{name} also {roles[name]}.", "Let an event mean one thing."
    roles |= dict.fromkeys(plan.document.get("events", ()), "comes from outside")
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
            if name == RESYNC_REQUESTED:
                yield f"{placed.path}.{path}", f"{name} is Escrow's own.", "Name the answer otherwise."


def _effects(plan: Plan) -> Findings:
    """Every effect before a pivot can be undone, or need not be."""
    for placed in plan.steps:
        step = placed.step
        if not placed.is_final and not step["harmless"] and step["undo"] is None:
            yield (
                placed.path,
                f"The effect of {step['step']} cannot be undone.",
                "Add `undo:`, or `harmless: true` if it may be left standing, or make it the pivot.",
            )
        if step["harmless"] and step["undo"] is not None:
            yield f"{placed.path}.harmless", "A harmless step has an undo.", "Remove one of the two."
        if placed.is_final and step["harmless"]:
            yield f"{placed.path}.harmless", "The pivot and the steps after it need no undo.", "Remove `harmless`."
        if plan.document["key"] in step.get("set", ()):
            yield f"{placed.path}.set.{plan.document['key']}", "The order's id cannot change.", "Remove this field."


def _retries(plan: Plan) -> Findings:
    """Limits stand where they can end a wait, alarms where nothing else does."""
    for placed in plan.steps:
        places: list[tuple[str, Mapping[str, Any], bool]] = [(f"{placed.path}.retry", placed.step["retry"], placed.is_final)]
        if placed.step["undo"]:
            places.append((f"{placed.path}.undo.retry", placed.step["undo"]["retry"], True))
        for path, retry, unlimited in places:
            if unlimited and retry["attempts"] is not None:
                yield f"{path}.attempts", "This is retried without limit: there is no way back.", "Use `stuck_after:` for the alarm."
            if not unlimited and retry["stuck_after"] is not None:
                yield f"{path}.stuck_after", "Before the pivot attempts end the wait.", "Use `attempts:`."
            if retry["first_ms"] > retry["max_ms"]:
                yield f"{path}.first", "The first backoff is longer than the longest.", "Raise `max:` or lower `first:`."
        patience_ms = placed.step.get("patience_ms")
        if patience_ms is not None and placed.is_final:
            yield f"{placed.path}.patience", "There is no way back from here, so nothing ends this wait.", "Remove `patience`."
        elif patience_ms is not None:
            watched_ms = placed.step["deadline_ms"] if placed.step.get("watched") else 0
            asked_ms = watched_ms + worst_case_ms(RetryRule(**placed.step["retry"]), placed.step["deadline_ms"])
            if patience_ms >= asked_ms:
                yield f"{placed.path}.patience", f"Its attempts end before that, after {asked_ms / 1000:g} s.", "Lower it, or remove it."


def _patience(plan: Plan) -> Findings:
    """What comes before the pivot fits into the patience, in the worst case (R7)."""
    rulebook = Rulebook(plan.document)
    longest_ms, patience_ms = needed_ms(rulebook), rulebook.patience_ms
    if longest_ms is not None and longest_ms > patience_ms:
        what = "The attempts" if rulebook.is_line else "The states"
        yield (
            "patience",
            f"{what} before the pivot can take {longest_ms / 1000:g} s, and patience is {patience_ms / 1000:g} s.",
            f"Raise `patience:` to {-(-longest_ms // 1000)}s or more, or lower attempts and deadlines.",
        )


def _fields(plan: Plan) -> Findings:
    """`with` names what can be known when the command is made, each field once."""
    for placed in plan.steps:
        yield from _with(f"{placed.path}.with", placed.step["with"], placed.known, "only what is done before it on every way")
        if placed.step["undo"]:
            yield from _with(f"{placed.path}.undo.with", placed.step["undo"]["with"], plan.names, "what this definition asks or awaits")


def _with(path: str, fields: Sequence[str] | Mapping[str, str] | None, known: Sequence[str], rule: str) -> Findings:
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


def _policies(plan: Plan) -> Findings:
    """A policy is about an event and states that there are, and lets no effect be forgotten."""
    known = {name for _, name in plan.awaited()} | set(plan.document["abort_on"])
    for placed in plan.steps:
        known |= {placed.step["done_on"], *placed.step["refused_on"]} | ({placed.step["undo"]["done_on"]} if placed.step["undo"] else set())
    states = {stage["state"] for stage in plan.stages} | {undoing(stage["stage"]) for stage in plan.stages} | ENDS
    facts = {fact["step"] for fact in plan.document.get("facts", ())}
    seen: set[tuple[str, str | None, str]] = set()
    for place, row in enumerate(plan.document.get("policies", ())):
        path = f"policies[{place}]"
        if row["event"] not in known:
            yield f"{path}.event", f"Nothing here is about {row['event']}.", f"Name one of {', '.join(sorted(known))}."
        for state in row["in"]:
            if state not in states:
                yield f"{path}.in", f"There is no state {state}.", "Name states of this definition."
        said = [cell for cell in CELLS if row[cell] is not None]
        if not said:
            yield path, "It says nothing.", f"Add one of {', '.join(CELLS)}."
        for cell in said:
            keys = {(row["event"], state, cell) for state in row["in"] or [None]}
            if keys & seen:
                yield f"{path}.{cell}", "Another row says this already.", "Keep one of them."
            seen |= keys
            if row["event"] in facts and (cell, row[cell]) not in {("early", "park"), ("late", "note")}:
                yield f"{path}.{cell}", f"What {row['event']} stands for would not be undone.", "Remove this: it has an undo."


def _ends(plan: Plan) -> Iterator[tuple[str, str, str]]:
    ends = plan.ends
    for end in plan.document["announce"]:
        if end not in ends:
            yield f"announce.{end}", f"{end} is no end of an order.", f"Announce {', '.join(ends)}."
