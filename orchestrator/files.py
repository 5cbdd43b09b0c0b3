"""Definition files: how one is read, and those that come with Escrow."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from orchestrator.errors import RequestError
from orchestrator.saga.definition import Definition, read
from orchestrator.saga.source import FILE_BYTES_MAX


def read_definition(file: Path) -> Definition:
    """The definition in a YAML file. Raises: RequestError when it cannot be read, DefinitionError when it is none."""
    return read(read_text(file), str(file))


def shipped_definitions() -> list[Definition]:
    """Every definition that comes with Escrow, by file name."""
    directory = Path(str(resources.files("orchestrator") / "definitions"))
    return [read_definition(file) for file in sorted(directory.glob("*.yaml"))]


def shipped_definition(name: str) -> Definition:
    """The definition of this name that comes with Escrow. Raises: RequestError when there is none."""
    shipped = {definition.name: definition for definition in shipped_definitions()}
    if name not in shipped:
        raise RequestError(f"No definition {name} comes with Escrow, only {', '.join(shipped)}.")
    return shipped[name]


def read_text(file: Path) -> str:
    """The text of a definition or scenario file in UTF-8. Raises: RequestError, naming the file and what is wrong."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise RequestError(f"{file} has more than {FILE_BYTES_MAX} bytes.")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{file} is not text in UTF-8: byte {error.start} is not.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{file} cannot be read: {reason}.") from error
