"""Puts the weights of a file into a module: state dicts, checkpoints with one inside, safetensors, ``.npz``.

Pickles are read with ``weights_only``: tensors and plain data, never code.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from dlbridge import checkpoints
from dlbridge.errors import DlbridgeWarning, FileError, WeightsError, first_line
from dlbridge.frameworks.pytorch.arrays import dtype_name, shared
from dlbridge.frameworks.pytorch.files import archive as archive_file
from dlbridge.limits import check_growth

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_ARRAYS = (".safetensors", ".npz")
#: Under which key a checkpoint holds the state dict, those that are most common first.
KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema",
)
_SAVE_AGAIN = (
    "where you trust the file, save the tensors alone: torch.save(model.state_dict(), 'weights.pt'), of a checkpoint "
    "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pt')"
)


def fill(module: torch.nn.Module, path: Path, *, strict: bool) -> None:
    """Put the weights of a file, or of the files that an index names, into a module.

    Raises:
        FileError: When a file is missing, broken, or holds what could run code.
        WeightsError: When the weights do not fit the module.
    """
    where = str(path)
    state: dict[str, torch.Tensor] = {}
    for file in checkpoints.files(path):
        state |= _tensors(file)
    own = module.state_dict()
    names = checkpoints.without_prefix(state, own, where)
    state = {names[name]: tensor for name, tensor in state.items()}
    taken = sum(name in own for name in state)
    _complete(state, own)
    differing = _differing(state, own)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        if not differing:
            raise WeightsError(str(error), where=where) from error
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
    checkpoints.check(missing, unexpected, differing, where, strict=strict, taken=taken)
    _warn_of_rounding(state, own, where)


def _complete(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    """Add what a file need not have: a weight that is another one too, and how many batches were seen."""
    places: dict[int, str] = {}
    for name in state:
        if isinstance(own.get(name), torch.Tensor) and not _is_unshaped(own[name]):
            places.setdefault(own[name].data_ptr(), name)
    for name, tensor in own.items():
        if name in state or not isinstance(tensor, torch.Tensor) or _is_unshaped(tensor):
            continue
        twin = places.get(tensor.data_ptr()) if tensor.numel() else None
        if twin is not None and own[twin].shape == tensor.shape:
            state[name] = state[twin]
        elif name.rpartition(".")[2] == "num_batches_tracked":
            state[name] = tensor


def _is_unshaped(tensor: Any) -> bool:
    """Whether a parameter gets its shape at the first call alone (``LazyLinear``)."""
    return isinstance(tensor, UninitializedTensorMixin)


def _differing(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    known = {name: t for name, t in own.items() if isinstance(t, torch.Tensor) and not _is_unshaped(t)}
    shapes = checkpoints.differing(
        {name: tuple(t.shape) for name, t in state.items()}, {name: tuple(t.shape) for name, t in known.items()}
    )
    kinds = [
        f"{name} is {dtype_name(state[name].dtype)} in the file, {dtype_name(tensor.dtype)} in the model"
        for name, tensor in known.items()
        if name in state and _is_number(tensor) != _is_number(state[name])
    ]
    return [*shapes, *kinds]


def _is_number(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _warn_of_rounding(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], where: str) -> None:
    """Say it where weights have more digits in the file than the model can hold."""
    pairs = [(state[name], tensor) for name, tensor in own.items() if name in state and not _is_unshaped(tensor)]
    narrowed = {
        (dtype_name(given.dtype), dtype_name(tensor.dtype))
        for given, tensor in pairs
        if _is_number(tensor) and torch.promote_types(given.dtype, tensor.dtype) != tensor.dtype
    }
    for given, kept in sorted(narrowed):
        text = f"{where}: weights of {given} are rounded to {kept}, in which the model has them"
        warnings.warn(text, DlbridgeWarning, stacklevel=3)


# --- files ------------------------------------------------------------------------------------------------------------


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file, by name."""
    suffix = path.suffix.lower()
    if suffix in _ARRAYS:
        return {name: shared(array) for name, array in checkpoints.arrays(path).items()}
    if suffix in _PICKLES:
        return _state_dict(_unpickled(path), str(path))
    hint = f"known: {', '.join((*_PICKLES, *_ARRAYS, checkpoints.INDEX))}"
    raise FileError(f"'{suffix}' is no file of weights that PyTorch reads", where=str(path), hint=hint)


def _unpickled(path: Path) -> Any:
    where = str(path)
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if archive_file.is_script(path):
            raise FileError("this is a TorchScript model, not weights", where=where, hint="save model.state_dict()")
        check_growth(size, path, f"it would unpack to {size:,} bytes")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        what = "it holds more than tensors, or is no file of weights; what it holds beyond them is not run"
        raise FileError(what, where=where, hint=_SAVE_AGAIN) from error
    except Exception as error:  # over a broken file torch raises nearly anything
        raise FileError(f"torch cannot load it: {first_line(error)}", where=where) from error


def _state_dict(found: Any, where: str, depth: int = 2) -> dict[str, torch.Tensor]:
    """The state dict in what a file holds: that itself, or what a checkpoint has under a usual key.

    Raises:
        FileError: When there is none.
    """
    if not isinstance(found, Mapping):
        raise FileError(f"it holds a {type(found).__name__}, not weights by name", where=where)
    inside = [key for key in KEYS if isinstance(found.get(key), Mapping) and _holds_tensors(found[key])]
    if inside and depth:
        if len(inside) > 1:
            text = f"{where}: the weights under '{inside[0]}' are taken; it also has {', '.join(inside[1:])}"
            warnings.warn(text, DlbridgeWarning, stacklevel=4)
        return _state_dict(found[inside[0]], where, depth - 1)
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        keys = ", ".join(repr(key) for key in list(found)[:12]) or "nothing"
        raise FileError("it holds no weights under a usual key", where=where, hint=f"it holds {keys}")
    return {str(name): value for name, value in tensors.items()}


def _holds_tensors(found: Mapping[Any, Any]) -> bool:
    """Whether there are tensors in a mapping, or in one that it holds."""
    if any(isinstance(value, torch.Tensor) for value in found.values()):
        return True
    inner = [value for value in found.values() if isinstance(value, Mapping)]
    return any(isinstance(value, torch.Tensor) for each in inner for value in each.values())
