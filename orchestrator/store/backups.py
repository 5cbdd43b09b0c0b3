"""The directory of backups: what is in it, by name, and what of it is deleted.

`NAME/manifest.json` and the file that it names. What has a name is complete; what begins with a dot is none yet, or no longer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path

from orchestrator.errors import NotFound, RequestError

MANIFEST = "manifest.json"
#: Of the manifest. One that is higher was written by a later release.
FORMAT = 1
#: Directories of backups that are being written, or deleted; what is left of one that was killed has this ending, too.
_PARTIAL = ".partial"
#: A directory of those that nobody has touched for so long is left from one that was killed, in seconds.
_ABANDONED_AFTER_S = 86_400
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself. Times are RFC 3339, UTC."""

    format: int
    #: Of its directory.
    name: str
    #: `postgresql` or `sqlite`.
    kind: str
    #: The database's clock in the snapshot: nothing that was committed later is in it.
    taken_at: str
    schema_revision: str
    orders: int
    entries: int
    #: The last instant that any journal entry has; None: there is none.
    last_entry_at: str | None
    #: sha256 over (order id, seq, hash) of the last journal entry of every order, in order of id; hexadecimal.
    heads: str
    #: A place in the recorder from which everything comes that is not in the backup; None: there was none.
    recorder_offset: int | None
    file: str
    bytes: int
    #: sha256 of the file, hexadecimal.
    sha256: str


def name_at(at: datetime) -> str:
    """The name of a backup that is taken at this time: names sort as times do."""
    return at.strftime("escrow-%Y%m%dT%H%M%SZ")


def is_name(name: str) -> bool:
    """Whether a backup can have it. What begins with a dot is none yet, or no longer."""
    return bool(name) and Path(name).name == name and not name.startswith(".")


def unnamed(directory: Path, name: str) -> Path:
    """Where the backup of this name is as long as it is none yet, and when it is no longer."""
    return directory / f".{name}{_PARTIAL}"


def read_all(directory: Path) -> list[Manifest]:
    """Every whole backup in a directory, oldest first. What is none, or cannot be read (see `unreadable`), is left out."""
    found, _ = _read_all(directory)
    return sorted((replace(manifest, name=name) for name, manifest in found.items()), key=_age)


def unreadable(directory: Path) -> list[str]:
    """What is wrong with each backup whose manifest cannot be read."""
    _, complaints = _read_all(directory)
    return complaints


def read(directory: Path, name: str) -> Manifest:
    """The manifest of a backup, with its directory's name. Raises: NotFound; RequestError when it cannot be read, or by this release."""
    return replace(_read(directory, name), name=name)


def damage(directory: Path, manifest: Manifest) -> str | None:
    """What is wrong with a backup's file; None: it is as it was written."""
    file = directory / manifest.name / manifest.file
    if not file.is_file():
        return f"{manifest.file} is missing"
    if file.stat().st_size != manifest.bytes:
        return f"{manifest.file} has {file.stat().st_size} bytes, and {manifest.bytes} were written"
    return None if digest(file) == manifest.sha256 else f"{manifest.file} was altered after it was written"


def prune(directory: Path, keep: int, now: datetime) -> list[str]:
    """Delete all but the `keep` youngest backups, the oldest first, and what killed ones left; the names of those deleted.

    What somebody renamed or copied is theirs: it is not counted, and stays. So does what cannot be read. Raises: RequestError.
    """
    if keep < 1:
        raise RequestError("At least one backup is kept.")
    found, _ = _read_all(directory)
    ours = sorted((manifest for name, manifest in found.items() if manifest.name == name), key=_age)
    old = [manifest.name for manifest in ours[:-keep]]
    try:
        for name in old:
            # Under this name it is none, whenever this is killed.
            shutil.rmtree(unnamed(directory, name), ignore_errors=True)
            shutil.rmtree((directory / name).rename(unnamed(directory, name)))
    except OSError as error:
        raise RequestError(f"The backups in {directory} cannot be pruned: {error}.") from error
    for left in directory.glob(f".*{_PARTIAL}"):
        if _is_abandoned(left, now):
            shutil.rmtree(left, ignore_errors=True)
    return old


def digest(file: Path) -> str:
    """sha256, hexadecimal."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def _read_all(directory: Path) -> tuple[dict[str, Manifest], list[str]]:
    """Manifests as they were written, by the names of their directories, and what is wrong with those that cannot be read."""
    found: dict[str, Manifest] = {}
    complaints = []
    for name in sorted(file.parent.name for file in directory.glob(f"*/{MANIFEST}")):
        try:
            found[name] = _read(directory, name)
        except NotFound:
            continue  # of one that is being written, or was deleted at this moment
        except RequestError as error:
            complaints.append(str(error))
    return found, complaints


def _read(directory: Path, name: str) -> Manifest:
    file = directory / name / MANIFEST
    try:
        if not is_name(name) or not file.is_file():
            raise NotFound(f"There is no backup {name} in {directory}.")
        said = json.loads(file.read_text(encoding="utf-8"))
        if said["format"] > FORMAT:
            raise RequestError(f"The backup {name} was written by a later release of Escrow. Fix: use that release.")
        return Manifest(**{field.name: said[field.name] for field in fields(Manifest)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} cannot be read as the manifest of a backup: {error}.") from error


def _age(manifest: Manifest) -> tuple[str, str]:
    return manifest.taken_at, manifest.name


def _is_abandoned(left: Path, now: datetime) -> bool:
    """Whether nobody has written to it for so long that nobody does."""
    try:
        touched_at = max(path.stat().st_mtime for path in (left, *left.iterdir()))
    except OSError:
        return False  # it got its name, or was deleted, at this moment
    return now.timestamp() - touched_at > _ABANDONED_AFTER_S
