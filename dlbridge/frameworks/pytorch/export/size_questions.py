"""Finds the calls whose result tells the caller a free size: code that knows a size may branch on it."""

from __future__ import annotations

import os
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import torch

#: The folder of torch.
TORCH = str(Path(torch.__file__).parent) + os.sep
#: The types of free sizes.
_FREE = (torch.SymInt, torch.SymFloat, torch.SymBool)
#: The types of answers that tell of sizes, or may hold some.
MAY_HOLD_SIZES = frozenset({*_FREE, torch.Size, torch.UntypedStorage, tuple})
#: What depends on sizes and is told as a truth value.
_OF_SIZES = frozenset({torch.Tensor.is_contiguous, torch.Tensor.is_same_size, torch.is_same_size})
#: Torch's own functions that ask for sizes, of which nothing comes but arguments of an op.
_ASK_FOR_NOTHING = frozenset(f"adaptive_{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3))
#: Files of torch that hand a call on.
_HAND_ON = tuple(TORCH + name for name in ("_ops.py", "_tensor.py", "overrides.py"))
#: Files and folders of torch that trace what is called, or carry it out: the author's code does not see what they ask.
_MACHINERY = tuple(
    TORCH + name
    for name in (
        *("__init__.py", "_decomp", "_dispatch", "_export", "_functorch", "_guards.py", "_higher_order_ops"),
        *("_library", "_meta_registrations.py", "_prims", "_refs", "_subclasses", "export", "fx", "utils"),
    )
)


def asks_for_sizes(func: Any, made: Any, frame: FrameType | None) -> bool:
    """Whether a call tells a free size to code that may branch on it: the author's, or that of a layer.

    Args:
        func: What is called.
        made: What it returns.
        frame: The frame of the caller.
    """
    return _tells_sizes(func, made) and not _is_of_machinery(frame)


def _tells_sizes(func: Any, made: Any) -> bool:
    """Whether the result of a call may tell the caller a free size.

    A list of tensors does, by its length. A function that is not torch's may: the calls within it are not seen.
    """
    if isinstance(func, FunctionType) and not func.__module__.startswith("torch"):
        return True
    if isinstance(made, (tuple, list)):
        return any(isinstance(item, (*_FREE, torch.Tensor)) for item in made)
    return isinstance(made, (*_FREE, torch.UntypedStorage)) or (isinstance(made, bool) and func in _OF_SIZES)


def _is_of_machinery(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name != "__torch_function__" and not code.co_filename.startswith(_HAND_ON):
            is_torch = code.co_filename.startswith(TORCH)
            return is_torch and (code.co_filename.startswith(_MACHINERY) or code.co_name in _ASK_FOR_NOTHING)
        frame = frame.f_back
    return False
