"""`escrow definition`: check, draw, explain, explore and test definition files, and look at those that are registered.

Only the registered ones need a database, and nothing here a broker.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from orchestrator.cli import explain, explore, migrate, registered, scenarios, schema
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.files import read_checked, read_definition
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_text
from orchestrator.errors import DefinitionError, Finding

app = typer.Typer(no_args_is_help=True, help="Check, draw, explain, explore and test definitions; see what is registered.")


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Definition files (YAML); - for stdin.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Check definitions: every finding names file, line and fix. Ends with 1 when there is one."""
    results = [_check(file) for file in files]
    findings = [finding for result in results for finding in result["findings"]]
    if output is Format.JSON:
        print_json([{**result, "findings": [asdict(finding) for finding in result["findings"]]} for result in results])
    else:
        for result in results:
            for finding in result["findings"]:
                print_line(str(finding))
            if not result["findings"]:
                print_line(f"{result['file']}: {result['definition']} version {result['version']} is right.")
    if findings:
        note(f"escrow: {len(findings)} finding{'s' if len(findings) > 1 else ''}.")
        raise typer.Exit(ExitCode.FINDINGS)


@app.command()
def graph(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A definition file (YAML); - for stdin.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Draw the states of a definition as Mermaid text."""
    from orchestrator.saga.graph import mermaid
    from orchestrator.saga.rulebook import Rulebook

    definition = read_checked(file)
    drawing = mermaid(Rulebook(definition.expanded))
    if output is Format.JSON:
        print_json({"definition": definition.name, "version": definition.version, "mermaid": drawing})
    else:
        print_text(drawing)


app.command("test")(scenarios.command)
app.command("migrate")(migrate.command)
app.command("explain")(explain.command)
app.command("schema")(schema.command)
app.command("explore")(explore.command)
registered.register(app)


def _check(file: str) -> dict[str, Any]:
    """What is found in one file: `definition` and `version` are None when it cannot be read as one."""
    from orchestrator.saga.check import check as check_definition

    findings: list[Finding]
    try:
        definition = read_definition(file)
    except DefinitionError as error:
        findings = list(error.findings)
        return {"file": file, "definition": None, "version": None, "findings": findings}
    return {"file": file, "definition": definition.name, "version": definition.version, "findings": check_definition(definition)}
