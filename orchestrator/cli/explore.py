"""`escrow definition explore`: every interleaving of a definition's messages, silences, acts and crashes, up to a bound."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.files import read_checked
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_text
from orchestrator.cli.session import session_of

if TYPE_CHECKING:
    from orchestrator.explore.scenario import Told
    from orchestrator.explore.search import Exploration
    from orchestrator.saga.definition import Definition

#: What no bound is set for.
_UNBOUNDED = "other events, and duplicates, delays and losses of messages, without limit"


def command(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A definition file (YAML); - for stdin.")],
    attempts: Annotated[int, typer.Option(min=1, max=1000, help="Sendings of a command before its silence is final, or alarms.")] = 2,
    acts: Annotated[int, typer.Option(min=0, max=10, help="Operator acts a run.")] = 1,
    crashes: Annotated[int, typer.Option(min=0, max=10, help="Crashes between commit and publish a run.")] = 1,
    states: Annotated[int, typer.Option(min=1, help="Give up after so many states.")] = 2_000_000,
    output: OutputOption = Format.TABLE,
) -> None:
    """Explore every interleaving of replies, refusals, duplicates, silence, late replies, operator acts and crashes.

    Ends with 1 when a promise can be broken, told as the shortest trace and as a scenario file, or when there are too many states.
    """
    from orchestrator.explore.search import explore
    from orchestrator.explore.world import Bound

    definition = read_checked(file)
    bound = Bound(attempts=attempts, acts=acts, crashes=crashes, states=states)
    monotonic = session_of(ctx).monotonic
    started_s = monotonic()
    exploration = explore(definition, bound)
    took_s = monotonic() - started_s
    told = _told(definition, exploration, file)
    if output is Format.JSON:
        print_json(_document(definition, exploration, told, took_s))
    else:
        _print(definition, exploration, told, took_s)
    if exploration.counterexample is not None or not exploration.complete:
        raise typer.Exit(ExitCode.FINDINGS)


def _told(definition: Definition, exploration: Exploration, file: str) -> Told | None:
    from orchestrator.explore.scenario import tell

    found = exploration.counterexample
    return None if found is None else tell(definition, exploration.bound, found, definition.name if file == "-" else Path(file).name)


def _document(definition: Definition, exploration: Exploration, told: Told | None, took_s: float) -> dict[str, Any]:
    found = exploration.counterexample
    return {
        "definition": definition.name,
        "version": definition.version,
        "bound": asdict(exploration.bound),
        "states": exploration.states,
        "transitions": exploration.transitions,
        "orders": exploration.orders,
        "ends": exploration.ends,
        "seconds": round(took_s, 3),
        "complete": exploration.complete,
        "counterexample": None
        if found is None or told is None
        else {"promise": found.promise, "trace": told.lines, "scenario": told.scenario},
    }


def _print(definition: Definition, exploration: Exploration, told: Told | None, took_s: float) -> None:
    bound = exploration.bound
    print_line(
        f"{definition.name} version {definition.version}: {exploration.states} states, {exploration.transitions} moves, {took_s:.1f} s."
    )
    print_line(
        f"Bound: attempts a command {bound.attempts}, operator acts a run {bound.acts}, crashes a run {bound.crashes}; "
        f"of each type of event from outside, {bound.events} a run where it can be undone, else {bound.events} kept early at a time; "
        f"{_UNBOUNDED}."
    )
    found = exploration.counterexample
    if found is not None and told is not None:
        print_line("")
        print_line(f"Broken: {found.promise}")
        for line in told.lines:
            print_line(line)
        print_line("")
        print_text(told.scenario)
        note("escrow: a promise can be broken. Save the scenario above beside the definition, and play it with `escrow definition test`.")
    elif not exploration.complete:
        note(f"escrow: there are more than {bound.states} states, and not all were visited. Lower the bound, or raise --states.")
    else:
        print_line("No promise can be broken.")
