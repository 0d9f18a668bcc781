"""Repository entries: ``<name>/config.pbtxt``, ``<name>/<version>/model.onnx``, the layout of Triton and KServe."""

from __future__ import annotations

import os
from pathlib import Path

from dlbridge.errors import FileError

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"
CERTIFICATE_FILE = "certificate.json"
#: What a file beside the models may have.
MAX_BYTES = 4 << 20


def is_version(name: str) -> bool:
    """Whether a folder of an entry is one of its versions: a number above 0, in ASCII."""
    return name.isascii() and name.isdigit() and len(name) < 19 and name[0] != "0"


def find_model(path: str | os.PathLike[str], version: int | None = None) -> Path:
    """The model file of a repository entry, or ``path`` itself when it is a file.

    Args:
        path: An entry or an ``.onnx`` file.
        version: Which version of the entry; the newest when None.

    Raises:
        FileError: When there is no such file, entry or version.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileError("no such file or repository entry", where=str(path))
    found = {int(p.parent.name): p for p in path.glob(f"*/{MODEL_FILE}") if is_version(p.parent.name)}
    if not found:
        raise FileError(
            f"not a repository entry: there is no <version>/{MODEL_FILE} in it",
            where=str(path),
            hint="'dlbridge convert MODEL --to onnx' writes one",
        )
    if version is not None and version not in found:
        raise FileError(f"no version {version}; there is {', '.join(map(str, sorted(found)))}", where=str(path))
    return found[max(found) if version is None else version]


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, links followed, is in a folder."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle; no name of a file
        return False


def read_text(path: Path, root: Path) -> str:
    """The text of a small file of a repository (:data:`MAX_BYTES` at most).

    Args:
        path: The file.
        root: The folder that it may not leave by links.

    Raises:
        FileError: When it leaves, is not a file, is too large, or is not UTF-8.
    """
    if not is_inside(path, root):
        raise FileError("the file is a link that leaves the repository", where=str(path))
    if not path.is_file():
        raise FileError("it is no file", where=str(path))
    if path.stat().st_size > MAX_BYTES:
        raise FileError(f"it has more than {MAX_BYTES} bytes, which no file of its kind has", where=str(path))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"it cannot be read: {error}", where=str(path)) from None
