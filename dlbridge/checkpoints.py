"""Weights as people have them: which of a checkpoint belongs to which of a model, and what does not fit.

Names and shapes alone are compared here; frameworks read and fill (``Framework.fill``).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from dlbridge import npz
from dlbridge.errors import DlbridgeWarning, FileError, WeightsError
from dlbridge.limits import limits, raise_hint

__all__ = ["INDEX", "arrays", "check", "differing", "files", "without_prefix"]

#: How the name of a file ends that says in which of several files a weight is.
INDEX = ".index.json"
#: What wrappers put before the names of weights: ``DataParallel``, ``torch.compile``, trainers that hold a model.
PREFIXES = ("module.", "_orig_mod.", "model.")
#: So many names are listed in a message.
_LISTED = 8

Shape = tuple[int, ...]


def files(path: Path) -> list[Path]:
    """The files that hold the weights: the file itself, or those that an index names, which lie beside it.

    Raises:
        FileError: When a file is missing, or an index is broken or names a file elsewhere.
    """
    if not path.is_file():
        raise FileError("no such file", where=str(path))
    if not path.name.endswith(INDEX):
        return [path]
    if path.stat().st_size > limits().text:
        raise FileError("it is too large to be an index", where=str(path), hint=raise_hint("text"))
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileError("it is no index of weights: it has no 'weight_map'", where=str(path)) from error
    found = []
    for name in dict.fromkeys(names):
        is_beside = isinstance(name, str) and Path(name).name == name and "\\" not in name and not name.endswith(INDEX)
        if not is_beside:
            raise FileError(f"it names a file that is not beside it: {name!r}", where=str(path))
        if not (path.parent / name).is_file():
            raise FileError(f"it names {name}, which is not there", where=str(path))
        found.append(path.parent / name)
    return found


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` or ``.safetensors`` file, by name.

    Raises:
        FileError: When the file is broken, or holds pickled objects.
    """
    if path.suffix.lower() == ".npz":
        return npz.read(path)
    from dlbridge.description import weights

    return {name: tensor.numpy() for name, tensor in weights.read(path).items()}


def without_prefix(found: Collection[str], wanted: Collection[str], where: str) -> dict[str, str]:
    """Name in a checkpoint -> the same without the prefixes that wrappers put before it, where the model has none.

    A prefix is removed, with a warning, where more names of the model are found then.
    """
    names = {name: name for name in found}
    wanted = set(wanted)
    removed: list[str] = []
    while True:
        prefix = next((p for p in PREFIXES if _is_found_without(p, names.values(), wanted)), None)
        if prefix is None:
            break
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
        removed.append(prefix)
    if not removed or not wanted & set(names.values()):
        return {name: name for name in found}
    if len(set(names.values())) < len(names):
        raise WeightsError(f"two of its weights have the same name without '{''.join(removed)}'", where=where)
    text = f"{where}: the names of its weights begin with '{''.join(removed)}', which the model's do not: removed"
    warnings.warn(text, DlbridgeWarning, stacklevel=3)
    return names


def _is_found_without(prefix: str, names: Collection[str], wanted: set[str]) -> bool:
    """Whether names begin with a prefix that hides from the model what it looks for."""
    marked = [name for name in names if name.startswith(prefix)]
    if not marked:
        return False
    now = sum(name in wanted for name in names)
    then = sum(name.removeprefix(prefix) in wanted for name in names)
    inner = any(name.removeprefix(prefix).startswith(PREFIXES) for name in marked)
    return then > now or (then == now == 0 and inner)


def check(
    missing: Collection[str],
    unexpected: Collection[str],
    differing: Collection[str],
    where: str,
    *,
    strict: bool,
    taken: int,
) -> None:
    """Report what does not fit between a checkpoint and a model.

    Args:
        missing: Weights of the model that the checkpoint does not have.
        unexpected: Weights of the checkpoint that the model does not have.
        differing: Sentences on weights of another shape or kind.
        where: The file.
        strict: Whether names must be the same; otherwise those that are missing or unexpected are told in a warning.
        taken: How many weights of the checkpoint the model has.

    Raises:
        WeightsError: When weights differ, none has the name of one in the model, or ``strict`` and names differ.
    """
    lines = [
        *_line("differ", differing),
        *_line("missing in the file", missing),
        *_line("not in the model", unexpected),
    ]
    if not lines:
        return
    text = "the weights do not fit the model:\n    " + "\n    ".join(lines)
    is_other = not taken
    if not (strict or differing or is_other):
        warnings.warn(f"{where}: {text}", DlbridgeWarning, stacklevel=3)
        return
    hint = "make the model as it was when they were saved: --arg NAME=VALUE, --config FILE (arguments={...})"
    if not differing and not is_other:
        hint = "to take what fits and leave the rest as it is: --no-strict (strict=False)"
    raise WeightsError(text, where=where, hint=hint)


def differing(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> list[str]:
    """A sentence on each weight whose shape in a checkpoint is not that in the model."""
    return [
        f"{name} is {list(found[name])} in the file, {list(wanted[name])} in the model"
        for name in wanted
        if name in found and tuple(found[name]) != tuple(wanted[name])
    ]


def _line(what: str, items: Collection[str]) -> list[str]:
    if not items:
        return []
    more = f", and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return [f"{what} ({len(items)}): {', '.join(list(items)[:_LISTED])}{more}"]
