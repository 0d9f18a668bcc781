"""Takes a module out of what it was wrapped into to run: ``DataParallel``, ``torch.compile``."""

from __future__ import annotations

import warnings

import torch

from dlbridge.errors import DlbridgeWarning

#: Class of a wrapper -> the attribute that holds the module.
_HOLDERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module within wrappers, with a warning that says which were taken off; a module that has none as it is."""
    taken: list[str] = []
    while True:
        holder = next((_HOLDERS[name] for name in map(_name, type(module).__mro__) if name in _HOLDERS), None)
        if holder is None:
            break
        taken.append(type(module).__name__)
        module = getattr(module, holder)
    if taken:
        text = f"the module within {' and '.join(taken)} is read: the names of its weights are those that it has itself"
        warnings.warn(text, DlbridgeWarning, stacklevel=3)
    return module


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
