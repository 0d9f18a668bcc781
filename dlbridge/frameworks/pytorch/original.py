"""Runs what a model was read from, by the names of the neutral form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from dlbridge.frameworks.pytorch.runner import to_array, to_tensor


@dataclass(frozen=True)
class Leaf:
    """One leaf of the inputs' tree: an input of the neutral form, or (``name`` None) a value that export fixed."""

    name: str | None
    value: Any = None


def runner(
    module: torch.nn.Module | None, program: ExportedProgram, leaves: Sequence[Leaf], outputs: Sequence[str]
) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """What runs a module (in eval mode), or the program where there is none.

    Args:
        module: The live module that was exported.
        program: What it was exported to.
        leaves: The leaves of its inputs, in order.
        outputs: Names of the leaves of its outputs that are not None, in order.
    """
    in_spec = program.call_spec.in_spec
    # A program is held, with all of its graph, where there is no module alone.
    live = functools.cache(program.module if module is None else lambda: module)

    def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        flat = [leaf.value if leaf.name is None else _given(arrays[leaf.name], leaf.value) for leaf in leaves]
        arguments, keywords = pytree.tree_unflatten(flat, in_spec)  # type: ignore[arg-type]
        called = live()
        was_training = module is not None and module.training
        if was_training:
            called.eval()
        try:
            with torch.no_grad():
                result = called(*arguments, **keywords)
        finally:
            if was_training:
                called.train()
        found = [leaf for leaf in pytree.tree_leaves(result) if leaf is not None]
        return {name: _array(value) for name, value in zip(outputs, found, strict=True)}

    return run


def _given(array: np.ndarray, like: Any) -> Any:
    """The tensor, complex where the module takes it so, or the number."""
    if not isinstance(like, torch.Tensor):
        return array.item()
    tensor = to_tensor(array)
    return torch.view_as_complex(tensor) if like.is_complex() else tensor


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    return to_array(torch.view_as_real(value) if value.is_complex() else value)
