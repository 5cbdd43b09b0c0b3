"""`escrow definition explain`: a definition in plain sentences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.files import read_checked
from orchestrator.cli.output import Format, OutputOption, print_json, print_line


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A definition file (YAML); - for stdin.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Tell a definition in plain sentences: each step, its silence, refusal and undo, and how long an order can take to each end."""
    from orchestrator.saga.explain import explain
    from orchestrator.saga.rulebook import Rulebook

    definition = read_checked(file)
    explanation = explain(Rulebook(definition.expanded))
    if output is Format.JSON:
        print_json({"definition": definition.name, "version": definition.version, **asdict(explanation)})
        return
    print_line(f"{definition.name} version {definition.version}")
    for section in explanation.sections:
        print_line("")
        print_line(section.title)
        for line in section.lines:
            print_line(f"{'  ' * (line.depth + 1)}{line.text}")
