"""Loads ``.pt2`` files from anyone: what in them could run code is refused before, or while, torch loads them.

``torch.export.load`` reads tensors as pickles, falls back to pickles that may run code, and evaluates the text of
symbolic sizes. Here pickles hold tensors alone, and that text is arithmetic.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.export import ExportedProgram
from torch.export.pt2_archive import _package

from dlbridge.errors import FileError

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
#: Text of a symbolic size: no quotes, brackets or attributes; what is called is a function of torch's arithmetic.
_ARITHMETIC = re.compile(r"[\w\s+\-*/%().,<>=!&|~]*\Z")
_NOT_ARITHMETIC = re.compile(r"__|\.\s*[A-Za-z_]|\b(?!floor|ceiling|sqrt|log|exp)[a-z_]\w*\s*\(|\blambda\b")
#: torch stores files as they are; one that unpacks to many times its size is no model.
_LARGE, _MAX_RATIO = 1 << 24, 100


def load(path: Path) -> ExportedProgram:
    """The program in a ``.pt2`` file.

    Raises:
        FileError: When the file is missing, broken, a pickle, or holds what could run code.
    """
    where = str(path)
    if not path.is_file():
        raise FileError("no such file", where=where)
    if path.suffix.lower() in PICKLES:
        raise FileError(
            "this is a pickle, which can run any code when it is read",
            where=where,
            hint="save the model with torch.export.save (.pt2), or name a function that makes it "
            "(package.module:function) and loads the weights itself",
        )
    if not zipfile.is_zipfile(path):
        raise FileError("this is not a .pt2 file, or it is truncated", where=where)
    try:
        _check_text(path)
        with _only_tensors():
            return torch.export.load(path)
    except FileError:
        raise
    except Exception as error:  # of a broken archive torch raises nearly anything
        if "weights_only" in str(error):
            raise FileError("it holds a pickled object, which can run any code when it is read", where=where) from None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(f"torch.export cannot load it: {reason}", where=where) from error


def _check_text(path: Path) -> None:
    """Refuse text that torch would evaluate and that is no arithmetic."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > _LARGE and info.file_size > _MAX_RATIO * info.compress_size:
                raise FileError(f"{info.filename} would unpack to {info.file_size} bytes", where=str(path))
            if info.filename.endswith(".json"):
                for text in _evaluated(json.loads(archive.read(info))):
                    if not _ARITHMETIC.match(text) or _NOT_ARITHMETIC.search(text):
                        raise FileError(f"the size {text[:60]!r} is no arithmetic", where=f"{path}:{info.filename}")


def _evaluated(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "expr_str" and isinstance(value, str):
                yield value
            else:
                yield from _evaluated(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _evaluated(value)


@contextlib.contextmanager
def _only_tensors() -> Iterator[None]:
    """While this is on, what torch unpickles is tensors and containers of them; torch does not log what is refused."""
    load_tensors = torch.load

    def guarded(*arguments: Any, **options: Any) -> Any:
        return load_tensors(*arguments, **{**options, "weights_only": True})

    def refuse(*_: Any, **__: Any) -> Any:
        raise FileError("it holds a pickled object, which can run any code when it is read")

    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            mock.patch.object(torch, "load", guarded),
            mock.patch.object(torch._C, "_pickle_load_obj", refuse),
            mock.patch.object(_package, "pickle", mock.Mock(loads=refuse)),
        ):
            yield
    finally:
        logger.setLevel(level)
