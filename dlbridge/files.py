"""Writing files so that nothing half-written is left and nothing of the user's is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlbridge.errors import FileError


def check_free(target: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Check, before any work is done, that ``target`` may be written.

    Raises:
        FileError: When something is there already and ``force`` is not set.
    """
    target = Path(target)
    if (target.exists() or target.is_symlink()) and not force:
        raise FileError("already exists", where=str(target), hint="choose another name, or pass --force to replace it")
    return target


@contextmanager
def writing(target: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; move it into place when the block ends without an error.

    The block makes a file or a folder at the yielded path. On an error it is removed and ``target`` stays as it was.

    Raises:
        FileError: When ``target`` exists and ``force`` is not set.
    """
    target = check_free(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        fresh = workspace / target.name
        yield fresh
        check_free(target, force=force)
        if target.is_dir() and not target.is_symlink():
            target.rename(workspace / "old")
        os.replace(fresh, target)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
