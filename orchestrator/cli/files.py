"""Reading what the command line names: files and stdin, no further than a limit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import DefinitionError, RequestError

if TYPE_CHECKING:
    from orchestrator.saga.definition import Definition

#: Bytes of a file or of stdin that are read; the API takes 64 KiB, a definition is smaller than this.
INPUT_BYTES_MAX = 1_000_000
#: What stdin is called in an error.
STDIN = "<stdin>"


def read_text(name: str) -> str:
    """The text of a file in UTF-8, or of stdin for `-`. Raises: RequestError, naming the file and what is wrong."""
    shown = STDIN if name == "-" else name
    try:
        raw = _stdin() if name == "-" else _file(name)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{shown} is not text in UTF-8: byte {error.start} is not.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{shown} cannot be read: {reason}.") from error
    if len(raw) > INPUT_BYTES_MAX:
        raise RequestError(f"{shown} has more than {INPUT_BYTES_MAX} bytes.")
    return text


def read_definition(file: str) -> Definition:
    """The definition in a file, or on stdin for `-`. Raises: DefinitionError when it cannot be read as one; RequestError as `read_text`."""
    from orchestrator.saga.definition import read

    return read(read_text(file), STDIN if file == "-" else file)


def read_checked(file: str) -> Definition:
    """As `read_definition`. Raises: DefinitionError also with what the checks find."""
    from orchestrator.saga.check import check

    definition = read_definition(file)
    if findings := check(definition):
        raise DefinitionError(findings)
    return definition


def _file(name: str) -> bytes:
    with Path(name).open("rb") as file:
        return file.read(INPUT_BYTES_MAX + 1)


def _stdin() -> bytes:
    return sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
