"""Opens ``.keras`` and ``.h5`` files: checked before Keras sees them, and without running code that they hold."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from dlbridge.errors import FileError

#: The files that Keras writes into a ``.keras`` archive.
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
#: The configuration of a model is text; one of more bytes than this is no model's.
_MAX_CONFIG = 256 << 20
#: Weights are stored without compression: an archive that grows by more than this when opened is a bomb.
_MAX_GROWTH = 20
#: Growth below this many bytes is no harm.
_HARMLESS = 64 << 20


def load(path: Path, trust_code: bool = False) -> keras.Model:
    """The model in a file.

    Args:
        path: A ``.keras`` archive or a legacy ``.h5`` file.
        trust_code: Allow ``Lambda`` layers and other Python code in the file.

    Raises:
        FileError: When the file is missing, broken or hostile, or holds code that is not trusted.
    """
    where = str(path)
    if not path.is_file():
        raise FileError("no such file", where=where)
    if path.suffix.lower() == ".keras":
        _check_archive(path)
    else:
        _check_h5(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust_code)
    except Exception as error:  # Keras raises errors of all kinds for what is wrong with a file
        text = str(error).strip()
        if not trust_code and ("safe_mode" in text or "unsafe" in text.lower()):
            raise FileError(
                "the file holds Python code (a Lambda layer), which is not run",
                where=where,
                hint="if you trust who made it: --trust-code (trust_code=True)",
            ) from None
        reason = text.splitlines()[0] if text else type(error).__name__
        raise FileError(
            f"Keras cannot load it: {reason}",
            where=where,
            hint="import the module that registers its custom classes first (keras.saving.register_keras_serializable)"
            if "ould not locate" in text
            else None,
        ) from error


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
            if size > _HARMLESS and size > _MAX_GROWTH * path.stat().st_size:
                raise FileError(f"the archive would grow to {size} bytes when opened", where=where)
            if archive.getinfo("config.json").file_size > _MAX_CONFIG:
                raise FileError("config.json is too large to be a model's", where=where)
            config = json.loads(archive.read("config.json"))
            if not isinstance(config, dict) or "class_name" not in config:
                raise FileError("config.json says no model", where=where)
            broken = archive.testzip()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise FileError(f"the archive is broken: {error}", where=where) from None
    if broken is not None:
        raise FileError(f"the archive is broken: {broken} does not match its checksum", where=where)


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise FileError(f"a file would be written outside of the archive: {member.filename!r}", where=where)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise FileError(f"a link stands in the archive: {member.filename!r}", where=where)


def _check_h5(path: Path) -> None:
    import h5py

    if not h5py.is_hdf5(path):
        raise FileError("this is not an HDF5 file, or it is truncated", where=str(path))


def members(path: Path) -> list[str]:
    """The names in an archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def config(path: Path) -> dict[str, Any]:
    """The configuration of the model in an archive."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))
