"""The performance of `escrow demo`: the stage is set, the story is played, and what must hold is checked."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
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

#: Plays one story in a directory of its own, on the services or embedded: whether everything held. Raises: DemoFailed.
Play = Callable[[Session, Path, bool], bool]


def perform(session: Session, play: Play, *, services: bool) -> None:
    """Play a story; ends the command with `ExitCode.FINDINGS` when something did not hold, and keeps the data then."""
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="escrow-demo-"))
    try:
        held = play(session, directory, services)
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


def outage(session: Session, directory: Path, services: bool) -> bool:  # as `Play` has it
    """The outage story: whether everything held. Raises: DemoFailed, SettingsError, TemporaryError."""
    definitions = demo_definition.write_faster(directory, "order", demo_definition.NAME)
    with Screen(session) as screen, _stage(session, directory, definitions, services=services) as stage:
        screen.title(f"The outage story on {stage.title}.")
        screen.title(
            f"Definition {demo_definition.NAME}: the shipped order definition, every duration divided by {demo_definition.FASTER}.\n"
        )
        with Customers(stage) as customers:
            end = Story(session, stage, screen, customers).play()
        screen.close_table()
        return screen.proof(demo_proof.checks(end))


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
