"""Opens ``.keras`` and ``.h5`` files: checked before Keras sees them, and without running code that they hold."""

from __future__ import annotations

import inspect
import json
import math
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from dlbridge import factories
from dlbridge.border import check_name, readable
from dlbridge.errors import FileError, first_line
from dlbridge.limits import HARMLESS, check_growth, limits, raise_hint

#: How Keras says that it does not know a name.
_UNKNOWN = re.compile(r"(?:ould not locate|Unknown) (\w+):? '(\w+)'")
#: The files that Keras writes into a ``.keras`` archive.
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


def named(custom_objects: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """What a file may name: name -> class or function.

    Args:
        custom_objects: That, as Keras takes it, or modules and Python files, whose own classes and functions are meant.

    Raises:
        DlbridgeError: When a module cannot be imported.
    """
    if isinstance(custom_objects, Mapping):
        return dict(custom_objects)
    found = {}
    for module in map(factories.imported, custom_objects):
        own = {name: item for name, item in vars(module).items() if inspect.isclass(item) or inspect.isfunction(item)}
        found.update({name: item for name, item in own.items() if item.__module__ == module.__name__})
    return found


def load(path: Path, trust_code: bool = False, custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """The model in a file.

    Args:
        path: A ``.keras`` archive or a legacy ``.h5`` file.
        trust_code: Allow ``Lambda`` layers and other Python code in the file.
        custom_objects: Classes and functions that the file may name.

    Raises:
        FileError: When the file is missing, broken or hostile, or holds code that is not trusted.
    """
    where = str(path)
    if not path.is_file():
        raise FileError("no such file", where=where)
    if path.suffix.lower() == ".keras":
        _check_archive(path)
    else:
        check_h5(path)
    try:
        return keras.saving.load_model(path, custom_objects, compile=False, safe_mode=not trust_code)
    except Exception as error:  # Keras raises errors of all kinds for what is wrong with a file
        text = str(error).strip()
        if not trust_code and ("safe_mode" in text or "unsafe" in text.lower()):
            raise FileError(
                "the file holds Python code (a Lambda layer), which is not run",
                where=where,
                hint="if you trust who made it: --trust-code (trust_code=True)",
            ) from None
        unknown = _UNKNOWN.search(text)
        if unknown is not None:
            raise FileError(
                f"it names the {unknown[1]} '{unknown[2]}', which is none of Keras'",
                where=where,
                hint="name the module or file that has it: --custom-objects mylayers.py (custom_objects=...)",
            ) from error
        raise FileError(f"Keras cannot load it: {first_line(error)}", where=where) from error


def _check_archive(path: Path) -> None:
    where = str(path)
    if not zipfile.is_zipfile(path):
        raise FileError("this is not a .keras archive, or it is truncated", where=where)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(member, where)
            names = archive.namelist()
            if len(names) != len(set(names)):
                raise FileError("a name stands in the archive twice", where=where)
            if "config.json" not in names:
                raise FileError("the archive holds no model: config.json is missing", where=where)
            size = sum(m.file_size for m in archive.infolist())
            check_growth(size, path, f"the archive would grow to {size:,} bytes when opened")
            if archive.getinfo("config.json").file_size > limits().text:
                raise FileError("config.json is too large to be a model's", where=where, hint=raise_hint("text"))
            config = json.loads(archive.read("config.json"))
            if not isinstance(config, dict) or "class_name" not in config:
                raise FileError("config.json says no model", where=where)
            broken = archive.testzip()
    except FileError:
        raise
    except Exception as error:  # over a broken archive, Python's own libraries raise nearly anything
        raise FileError(f"the archive is broken: {error}", where=where) from None
    if broken is not None:
        raise FileError(f"the archive is broken: {broken} does not match its checksum", where=where)
    _check_words(config, where)
    _check_size(config, size, where)


def _check_words(config: Any, where: str) -> None:
    """Refuse names in a configuration that no layer has, and file paths that a layer would read."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        if not isinstance(part, dict):
            continue
        pending += part.values()
        name = part.get("name")
        if isinstance(name, str):
            check_name(name.replace(".", "_"), where)
        if isinstance(part.get("vocabulary"), str):
            what = f"a layer would read its vocabulary from another file: {part['vocabulary']!r}"
            raise FileError(what, where=where)


def _check_size(config: dict[str, Any], size: int, where: str) -> None:
    """Check that the model has no more weights than the file contains, before memory is allocated for them.

    In a ``StatelessScope`` variables have shapes and no numbers. A layer that cannot be made there tells its own
    mistake when the model is loaded.
    """
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object({k: v for k, v in config.items() if k != "compile_config"})
            count = sum(math.prod(v.shape) for v in model.variables)
    except Exception:  # as when it is loaded
        return
    if count > HARMLESS and count > 2 * size:  # weights of four bits are two in a byte
        raise FileError(f"the model has {count:,} weights, the file {size:,} bytes", where=where)


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise FileError(f"a file would be written outside of the archive: {member.filename!r}", where=where)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise FileError(f"a link stands in the archive: {member.filename!r}", where=where)


def check_h5(path: Path) -> None:
    """Check an HDF5 file: that it is one, and that all of its numbers are in it.

    Raises:
        FileError: When it is not.
    """
    import h5py

    if not h5py.is_hdf5(path):
        raise FileError("this is not an HDF5 file, or it is truncated", where=str(path))
    with readable(str(path)), h5py.File(path, "r") as file:
        size = _check_group(file, path)
        text = file.attrs.get("model_config", "{}")
        config = json.loads(text)
    check_growth(size, path, f"its weights would have {size:,} bytes")
    _check_words(config, str(path))
    _check_size(config, size, str(path))


def _check_group(group: Any, path: Path) -> int:
    """Check that everything in a group is stored in this file. Returns the size of its numbers in bytes."""
    import h5py

    size = 0
    for name in group:
        where = f"{path}:{group.name}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise FileError("a link to another place or file", where=where)
        item = group[name]
        if isinstance(item, h5py.Group):
            size += _check_group(item, path)
            continue
        if item.external or item.is_virtual:
            raise FileError("its numbers would be read from another file", where=where)
        size += math.prod(item.shape or ()) * item.dtype.itemsize
    return size
