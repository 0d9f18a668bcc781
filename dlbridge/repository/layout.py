"""Repository entries: ``<name>/config.pbtxt``, ``<name>/<version>/model.onnx``, the layout of Triton and KServe."""

from __future__ import annotations

import os
from pathlib import Path

from dlbridge.errors import FileError

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"
CERTIFICATE_FILE = "certificate.json"


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
    found = {int(p.parent.name): p for p in path.glob(f"*/{MODEL_FILE}") if p.parent.name.isdigit()}
    if not found:
        raise FileError(
            f"not a repository entry: there is no <version>/{MODEL_FILE} in it",
            where=str(path),
            hint="'dlbridge convert MODEL --to onnx' writes one",
        )
    if version is not None and version not in found:
        raise FileError(f"no version {version}; there is {', '.join(map(str, sorted(found)))}", where=str(path))
    return found[max(found) if version is None else version]
