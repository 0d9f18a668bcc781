"""Loads ``.pt2`` files from anyone: the whole file is checked before torch sees it.

``torch.export.load`` links libraries that are in the file, reads objects as pickles, and makes Python text, which it
executes, of names, symbolic sizes and guards. So a file may hold the members that a saved program has and no others,
no pickle but that of the example inputs, and each of its strings is what stands in that place (``program_text``).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from dlbridge.border import check_name
from dlbridge.errors import FileError, first_line
from dlbridge.frameworks.pytorch.compat import PT2ArchiveReader
from dlbridge.frameworks.pytorch.files import program_text
from dlbridge.frameworks.pytorch.fx.decompose import quiet
from dlbridge.limits import check_growth, limits, raise_hint

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_PROGRAM, _EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_WEIGHTS, _CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
#: What ``torch.export.save`` writes.
_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|extra/[\w./-]+"
    + "".join(f"|{re.escape(name)}" for name in (_PROGRAM, _EXAMPLES, _WEIGHTS, _CONSTANTS))
)
#: A view of fewer elements than this may repeat numbers (``expand``).
_SMALL_VIEW = 1 << 20


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
            "(package.module:function), with the file as its --weights",
        )
    if not zipfile.is_zipfile(path):
        raise FileError("this is not a .pt2 file, or it is truncated", where=where)
    try:
        with quiet():
            _check(path)
            return torch.export.load(path)
    except FileError:
        raise
    except Exception as error:  # of a broken archive torch raises nearly anything
        raise FileError(f"torch.export cannot load it: {first_line(error)}", where=where) from error


def is_script_file(path: Path) -> bool:
    """Whether a path is that of a TorchScript model."""
    return path.suffix.lower() in PICKLES and path.is_file() and is_script(path)


def is_script(path: Path) -> bool:
    """Whether a file holds a TorchScript model: an archive that has code beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _check(path: Path) -> None:
    """Check an archive with the reader that PyTorch itself uses."""
    with PT2ArchiveReader(str(path)) as reader:
        names = reader.get_file_names()
        sizes = {name: reader.archive_file.get_record_size(name) for name in names}
        _check_members(path, names, sizes)
        texts = {name: reader.read_bytes(name) for name in names if name.endswith(".json") and "extra/" not in name}
        examples = reader.read_bytes(_EXAMPLES)
    for name, text in texts.items():
        if len(text) > limits().text:
            raise FileError(f"it has {len(text):,} bytes", where=f"{path}:{name}", hint=raise_hint("text"))
    with _at(path, _PROGRAM):
        program_text.check(json.loads(texts[_PROGRAM]))
    for config, prefix in ((_WEIGHTS, "weight_"), (_CONSTANTS, "tensor_")):
        with _at(path, config):
            folder = config.rpartition("/")[0]
            _check_tensors(
                json.loads(texts[config]), prefix, {n.removeprefix(f"{folder}/"): s for n, s in sizes.items()}
            )
    _check_examples(examples, path)


def _check_members(path: Path, names: list[str], sizes: dict[str, int]) -> None:
    """Refuse an archive with members that a saved program does not have, or whose members decompress to too much."""
    where = str(path)
    with zipfile.ZipFile(path) as archive:
        listed = [info.filename.partition("/")[2] for info in archive.infolist()]
    if sorted(listed) != sorted(names) or len(set(names)) != len(names):
        raise FileError("its list of members is ambiguous", where=where)
    for name in names:
        if name.startswith("data/aotinductor"):
            raise FileError(f"it holds compiled code, which would be run when it is read: {name}", where=where)
        if name.endswith(".pt") and name != _EXAMPLES:
            raise FileError(f"it holds a pickled object, which can run any code when it is read: {name}", where=where)
        if not _MEMBERS.fullmatch(name):
            raise FileError(f"it holds {name!r}, which is no part of a program that torch.export saved", where=where)
    for name in (_PROGRAM, _EXAMPLES, _WEIGHTS, _CONSTANTS):
        if name not in names:
            raise FileError(f"it is no program that torch.export saved: {name} is missing", where=where)
    total = sum(sizes.values())
    check_growth(total, path, f"it would unpack to {total:,} bytes")


def _check_tensors(config: Any, prefix: str, sizes: dict[str, int]) -> None:
    """Check the tensors that a file declares: each must be numbers in the file, not a pickled object."""
    for name, entry in config["config"].items():
        check_name(name)
        member, meta = entry["path_name"], entry["tensor_meta"]
        if entry["use_pickle"] or meta is None:
            raise FileError(f"'{name}' is a pickled object, which can run any code when it is read")
        if not re.fullmatch(rf"{prefix}\d+", member) or member not in sizes:
            raise FileError(f"the numbers of '{name}' are not there: {member!r}")
        program_text.check(meta)
        count = math.prod(size["as_int"] for size in meta["sizes"])
        if count > max(sizes[member], _SMALL_VIEW) or (sizes[member] == 0 and count):
            raise FileError(f"'{name}' of {count:,} elements has {sizes[member]:,} bytes")


def _check_examples(data: bytes, path: Path) -> None:
    """Refuse example inputs that PyTorch would unpickle as arbitrary objects."""
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # of a pickle that is none, torch raises nearly anything
        what = "it holds a pickled object, which can run any code when it is read"
        raise FileError(what, where=f"{path}:{_EXAMPLES}") from None


@contextlib.contextmanager
def _at(path: Path, member: str) -> Iterator[None]:
    """Within the block, errors name the member of the archive; what is not of torch's form is broken."""
    where = f"{path}:{member}"
    try:
        yield
    except FileError as error:
        raise FileError(error.message, where=where, hint=error.hint) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"it is broken: {type(error).__name__}: {error}", where=where) from None
