"""Static checks of a line of steps: its pivots, loops and watched steps (R12, R31)."""

from __future__ import annotations

from orchestrator.saga.plan import Findings, Placed, Plan
from orchestrator.saga.ways import asked, choices, inner_ways, passed, repeats, stages_in


def check_line(plan: Plan) -> Findings:
    """What the form itself asks for."""
    yield from _pivots(plan)
    yield from _loops(plan)
    yield from _watched(plan)


def _pivots(plan: Plan) -> Findings:
    """On each way there is one point of no return at most, nothing is beside it, and no order comes to it twice."""
    before, _ = passed(plan.document["way"], plan.pivots)
    for placed in plan.steps:
        if not placed.step["pivot"]:
            continue
        if before[placed.stage]:
            yield f"{placed.path}.pivot", "A second pivot.", "Keep one point of no return on each way."
        if len(plan.stages[placed.stage]["steps"]) > 1:
            yield f"{placed.path}.pivot", "The pivot stands beside other steps.", "Ask it by itself: there is one point of no return."
        if placed.is_repeated:
            yield f"{placed.path}.pivot", "An order can come to this pivot more than once.", "Put it outside of the loop."
    paths = {name: path for path, name in plan.blocks}
    for choice in choices(plan.document["way"]):
        through = [passed(way, plan.pivots)[1] for way in inner_ways(choice)]
        if any(through) and not all(through):
            yield (
                paths[choice["choose"]],
                "Only some of its ways come to a pivot, so nobody can say whether what follows comes after one.",
                "Put a pivot on each of its ways, or on the way that all orders take.",
            )


def _loops(plan: Plan) -> Findings:
    """Every turn asks something, and what cannot be undone does not ask to be."""
    paths = {name: path for path, name in plan.blocks}
    before, _ = passed(plan.document["way"], plan.pivots)
    for item in repeats(plan.document["way"]):
        path = paths[item["repeat"]]
        if not asked(item["way"]):
            yield path, "A turn of this loop may ask nothing.", "Put a step into it that every turn comes to."
        if item["then"] == "undo" and any(before[stage] for stage in stages_in(item["way"])):
            yield path, "After the pivot nothing is undone.", "Add `then: go_on`."


def _watched(plan: Plan) -> Findings:
    """What others bring about can be stopped, and its answers are told from all others without a commandid."""
    answers: dict[str, Placed] = {}
    for placed in plan.steps:
        step = placed.step
        if not step.get("watched"):
            continue
        if step["undo"] is None and not step["harmless"]:
            yield (
                f"{placed.path}.send",
                f"Others may bring {step['step']} about while the order is being undone.",
                "Add an `undo:`: it stops them. The pivot's is sent only when it was not reached.",
            )
        if placed.is_chosen or placed.is_repeated:
            yield (
                f"{placed.path}.send",
                "Others bring this about once for every order, and not every order comes to it just once.",
                "Put it outside of choices and loops, or ask for it by command.",
            )
        for name in (step["done_on"], *step["refused_on"]):
            if name in answers:
                other = answers[name].step["step"]
                yield f"{placed.path}.done_on", f"{name} also answers {other}, and need not say which it means.", "Use two events."
            answers[name] = placed
