"""Files of NumPy arrays by name (.npz), read as data: nothing is unpickled, and how far they unpack is bounded."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from dlbridge.errors import FileError
from dlbridge.limits import check_growth

__all__ = ["read"]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file, by name.

    Raises:
        FileError: When the file is missing or broken, holds pickled objects, or would unpack to too much.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("no such file", where=str(path))
    if not zipfile.is_zipfile(path):
        raise FileError("it is no .npz file of arrays", where=str(path), hint="numpy.savez writes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            check_growth(size, path, f"it would unpack to {size:,} bytes")
            return dict(archive)
    except FileError:
        raise
    except Exception as error:  # over a broken archive, Python's own libraries raise nearly anything
        pickled = "allow_pickle" in str(error)
        reason = "it holds pickled objects, which are not read" if pickled else "it is a broken .npz file"
        raise FileError(reason, where=str(path)) from None
