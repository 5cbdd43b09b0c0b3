"""The performance of `escrow demo`: the stage is set, the story is played, and what must hold is checked."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import typer

from orchestrator.cli import demo_definition, demo_proof
from orchestrator.cli.demo_child import DemoFailed
from orchestrator.cli.demo_orders import Customers
from orchestrator.cli.demo_screen import Screen
from orchestrator.cli.demo_stage import EmbeddedStage, Stage, services_stage
from orchestrator.cli.demo_story import Story
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import note
from orchestrator.cli.session import Session
from orchestrator.files import shipped_definition


def perform(session: Session, *, services: bool) -> None:
    """Play the story; ends the command with `ExitCode.FINDINGS` when something did not hold, and keeps the data then."""
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="escrow-demo-"))
    try:
        held = _play(session, directory, services=services)
    except (DemoFailed, httpx.HTTPError) as failed:
        note(f"escrow: {failed}", lines=True)
        held = False
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    if not held:
        note(f"escrow: The data and the logs are in {directory}.")
        raise typer.Exit(ExitCode.FINDINGS)
    shutil.rmtree(directory, ignore_errors=True)


def _play(session: Session, directory: Path, *, services: bool) -> bool:
    """Whether everything held. Raises: DemoFailed, SettingsError, TemporaryError."""
    definitions = directory / "definitions"
    definitions.mkdir()
    text = demo_definition.faster(shipped_definition("order"))
    (definitions / f"{demo_definition.NAME}.yaml").write_text(text, encoding="utf-8")
    with Screen(session) as screen, _stage(session, directory, definitions, services=services) as stage:
        screen.title(f"The outage story on {stage.title}.")
        screen.title(
            f"Definition {demo_definition.NAME}: the shipped order definition, every duration divided by {demo_definition.FASTER}.\n"
        )
        with Customers(stage) as customers:
            end = Story(session, stage, screen, customers).play()
        screen.close_table()
        checks = demo_proof.checks(end)
        screen.say("the end, as the API and the participants' own tables tell it:\n")
        screen.checks(checks)
        held = all(holds for holds, _, _ in checks)
        screen.verdict(f"\n{'All of it held' if held else 'NOT all of it held'}, in {screen.elapsed_s:.0f} s.", good=held)
        return held


@contextmanager
def _stage(session: Session, directory: Path, definitions: Path, *, services: bool) -> Iterator[Stage]:
    if services:
        with services_stage(session, directory, definitions) as stage:
            yield stage
        return
    embedded = EmbeddedStage(session, directory, definitions)
    try:
        yield embedded
    finally:
        embedded.stop()
