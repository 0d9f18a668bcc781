"""Writing files so that nothing half-written is left and nothing of the user's is lost."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlbridge.errors import FileError

__all__ = ["check_free", "check_writable", "default_folder", "no_room_is_an_error", "replacing", "writing"]

#: What the operating system says where a file finds no room: the disk, a quota, or a limit of the process is reached.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_free(target: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Check, before any work is done, that ``target`` may be written.

    Raises:
        FileError: When something is there already and ``force`` is not set, or nothing may be written at that place.
    """
    target = Path(target)
    if os.path.lexists(target) and not force:
        raise FileError("already exists", where=str(target), hint="choose another name, or pass --force to replace it")
    if force and Path.cwd().is_relative_to(target.resolve()):
        raise FileError("this is the current folder, or one around it", where=str(target), hint="choose another name")
    check_writable(target.absolute().parent)
    return target


def default_folder(name: str, to: str) -> Path:
    """The folder that a model of this name is written to for a framework, where no other is named."""
    return Path(f"{name}-{to}")


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Check, before any work is done, that files can be written into a folder, which may have to be made.

    Raises:
        FileError: When a file is in its place, or the system lets nobody, or not this user, write there.
    """
    path = Path(folder).absolute()
    there = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not there.is_dir():
        raise FileError("is a file, where a folder is needed", where=str(there), hint="choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise FileError("no files may be written into this folder", where=str(there), hint="choose another place")


@contextmanager
def writing(target: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; move it into place when the block ends without an error.

    The block makes a file or a folder at the yielded path. On an error it is removed and ``target`` stays as it was;
    what was at ``target`` is deleted only after the new is in its place.

    Raises:
        FileError: When ``target`` exists and ``force`` is not set, or there is no room for what is written.
    """
    target = check_free(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    fresh, old = workspace / target.name, workspace / "old"
    try:
        with no_room_is_an_error(target):
            yield fresh
            check_free(target, force=force)
            _put_in_place(fresh, target, old)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(workspace, ignore_errors=True)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path for a file in the folder of ``target``; it becomes ``target`` in one step, when it is on
    the disk. Whenever the process or the machine stops, ``target`` is either what it was or the whole new file.

    Raises:
        FileError: When there is no room for what is written.
    """
    fresh = target.with_name(f".{target.name}.new")
    try:
        with no_room_is_an_error(target):
            yield fresh
            _reach_disk(fresh)
            os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every file system can do it for a folder
        _reach_disk(target.parent)


@contextmanager
def no_room_is_an_error(target: Path) -> Iterator[None]:
    """Say that the disk is full in our own words."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise FileError(
            f"there is no room to write it: {error.strerror}",
            where=str(target),
            hint="free some space and run it again",
        ) from error


def _reach_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(fresh: Path, target: Path, old: Path) -> None:
    """Move ``fresh`` to ``target``; a folder that is there goes to ``old``."""
    if not target.is_dir() or target.is_symlink():
        os.replace(fresh, target)
    elif not _exchange(fresh, target):
        target.rename(old)
        os.replace(fresh, target)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0
