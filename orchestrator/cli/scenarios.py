"""`escrow definition test`: play scenario files. Needs no database, no broker, and no time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table
from orchestrator.errors import RequestError

if TYPE_CHECKING:
    from orchestrator.testing.coverage import GuardCoverage, StepCoverage
    from orchestrator.testing.play import Result


def command(
    places: Annotated[list[str], typer.Argument(metavar="DIR...", help="Directories with scenario files (YAML), or single ones.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Play scenario files, and say which steps they saw done, refused, silent and undone, and which guards true and false.

    Ends with 1 when a scenario fails.
    """
    from orchestrator.testing.coverage import coverage, guard_coverage

    results = [result for place in places for result in _played(place)]
    if not results:
        raise RequestError(f"There is no scenario in {', '.join(places)}.")
    played = [result.harness for result in results if result.harness is not None]
    covered, guards = coverage(played), guard_coverage(played)
    failed = [result for result in results if result.failures]
    if output is Format.JSON:
        rows = {"coverage": [_row(line) for line in covered], "guards": [_row(line) for line in guards]}
        print_json({"scenarios": [_view(result) for result in results], **rows})
    else:
        _print(results, covered, guards)
    if failed:
        note(f"escrow: {len(failed)} of {len(results)} scenarios failed.")
        raise typer.Exit(ExitCode.FINDINGS)


def _played(place: str) -> list[Result]:
    from orchestrator.testing.play import play_file
    from orchestrator.testing.scenario import scenario_files

    if not Path(place).exists():
        raise RequestError(f"{place} is not there.")
    return [result for file in scenario_files(Path(place)) if (result := play_file(file)) is not None]


def _print(results: list[Result], covered: list[StepCoverage], guards: list[GuardCoverage]) -> None:
    for result in results:
        print_line(f"{'failed' if result.failures else 'passed'}  {result.file}: {result.title}")
        for failure in result.failures:
            print_line(f"  {failure}")
        if result.failures and result.harness is not None:
            for line in result.harness.story():
                print_line(f"  {line}")
    print_line("")
    columns = ("definition", "version", "step", "done", "refused", "silent", "undone")
    rows = [[_cell(value) for value in asdict(line).values()] for line in covered]
    print_table(columns, rows, empty="No definition was played.")
    if guards:
        print_line("")
        told = [(line.definition, line.version, line.guard, ", ".join(line.at), _cell(line.true), _cell(line.false)) for line in guards]
        print_table(("definition", "version", "guard", "at", "true", "false"), told, empty="")


def _cell(value: object) -> object:
    """A number of scenarios as a table shows it."""
    return "–" if value is None else "never" if value == 0 else value


def _row(line: StepCoverage | GuardCoverage) -> dict[str, Any]:
    return {**asdict(line), "never": line.never}


def _view(result: Result) -> dict[str, Any]:
    return {
        "file": result.file,
        "title": result.title,
        "passed": not result.failures,
        "failures": [asdict(failure) for failure in result.failures],
        "story": [] if result.harness is None else result.harness.story()[1:],
    }
