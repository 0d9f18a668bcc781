"""What tells that the files of a repository have changed, and the look at them again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlbridge.serving.repository import Repository

LOG = logging.getLogger("dlbridge.serving")
#: What files were like: name, time, size and number in the file system of each. A file that another has taken the place
#: of has another number, whatever its time and size are.
Stamp = tuple[tuple[str, int, int, int], ...]
#: Version of an entry -> what its files were like; "" is the entry's own (its configuration, its labels).
Stamps = dict[str, Stamp]
_ENTRY = ""


def stamps_of_entry(folder: Path, versions: Iterable[Path]) -> Stamps:
    """What the files of an entry are like."""
    return {_ENTRY: _stamp(folder.iterdir()), **{version.name: _stamp(version.iterdir()) for version in versions}}


def stamps_of_file(file: Path) -> Stamps:
    """What one model file is like, and the file of its weights, which is called after it."""
    weights = (f"{file.stem}.data", f"{file.stem}.bin")
    return {"1": _stamp(p for p in file.parent.iterdir() if p.name.startswith(file.name) or p.name in weights)}


def is_same(now: Stamps, before: Stamps, version: int) -> bool:
    """Whether neither the entry's own files nor those of a version have changed."""
    return all(now.get(key) == before.get(key) for key in (_ENTRY, str(version)))


def _stamp(paths: Iterable[Path]) -> Stamp:
    found = []
    for path in sorted(paths):
        try:
            status = path.stat()
        except FileNotFoundError:  # gone since its folder was listed
            continue
        if path.is_file():
            found.append((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


async def watch(repository: Repository, seconds: float) -> None:
    """Load what has changed, and forget what is no longer there, again and again.

    Args:
        repository: What is served.
        seconds: The time between two looks.
    """
    gone: set[str] = set()
    while True:
        await asyncio.sleep(seconds)
        try:
            changed, gone_before, gone = list(repository.changed()), gone, repository.gone()
        except OSError as error:  # a folder that goes while it is looked at, a disk that does not answer
            LOG.error("the repository cannot be looked at: %s", error)
            continue
        for name in changed:
            await repository.try_to_load(name)
        for name in gone & gone_before:  # one that is being replaced is gone for a moment only
            LOG.info("%s is no longer in the repository", name)
            await repository.forget(name)
