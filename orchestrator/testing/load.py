"""The definition that a test is about: a file of the author's, or one that comes with Escrow."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from orchestrator.contract import is_name
from orchestrator.errors import DefinitionError, RequestError
from orchestrator.saga.check import check
from orchestrator.saga.definition import Definition, read
from orchestrator.saga.source import FILE_BYTES_MAX


def load(reference: str, directory: Path) -> Definition:
    """The definition in a YAML file, whose path is taken from `directory`; without `.yaml` or `.yml` the shipped one of that name.

    Raises: RequestError when it cannot be read; DefinitionError with every finding, so nobody tests what would not start.
    """
    if reference.endswith((".yaml", ".yml")):
        file = directory / reference
    elif is_name(reference):
        file = Path(str(resources.files("orchestrator") / "definitions" / f"{reference}.yaml"))
    else:
        raise RequestError(f"{reference!r} is neither the name of a shipped definition nor a .yaml file.")
    definition = read(read_text(file), str(file))
    if findings := check(definition):
        raise DefinitionError(findings)
    return definition


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
