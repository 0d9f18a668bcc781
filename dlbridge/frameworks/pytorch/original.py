"""Runs the PyTorch model that a model was read from, in its own types and in float64, by the model's names."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from dlbridge.frameworks.class_sources import class_sources
from dlbridge.frameworks.pytorch.arrays import to_array, to_tensor
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.exact import Exact
from dlbridge.frameworks.pytorch.export import state
from dlbridge.frameworks.pytorch.export.calling import Calling
from dlbridge.frameworks.pytorch.export.training_mode import in_eval_mode


@dataclass(frozen=True)
class Leaf:
    """One leaf of the inputs' tree: an input of the neutral form, or (``name`` None) a value that export fixed."""

    name: str | None
    value: Any = None


class Original:
    """A module (in eval mode), or the program where there is none: arrays by input name -> arrays by output name.

    Args:
        module: The live module that was exported.
        program: What it was exported to.
        leaves: The leaves of its inputs, in order.
        outputs: Names of the leaves of its outputs that are not None, in order.
        calling: How it is called.
    """

    def __init__(
        self,
        module: torch.nn.Module | None,
        program: ExportedProgram,
        leaves: Sequence[Leaf],
        outputs: Sequence[str],
        calling: Calling,
    ) -> None:
        self._leaves, self._outputs, self._calling = leaves, outputs, calling
        self._in_spec = program.call_spec.in_spec
        # A program is held, with all of its graph, where there is no module alone.
        self._live = functools.cache(program.module if module is None else lambda: module)
        self._is_program = module is None
        self._written = state.written_buffers(program)

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run it in its own types."""
        module = self._live()
        with torch.no_grad(), self._inference(module):
            return self._run(module, arrays)

    def exact(self) -> Exact:
        """Runs it in float64, as a copy."""
        module = self._live()
        with self._inference(module):
            return Exact(module, self._run)

    def sources(self) -> dict[str, str]:
        """Name of a class -> its code, of the module and of those in it that are not PyTorch's own."""
        return {} if self._is_program else class_sources(self._live().modules(), "torch")

    def _inference(self, module: torch.nn.Module) -> Any:
        return contextlib.nullcontext() if self._is_program else in_eval_mode(module)

    def _run(self, module: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        flat = [_given(arrays[n.name], n.value) if n.name is not None else n.value for n in self._leaves]
        arguments, keywords = pytree.tree_unflatten(flat, self._in_spec)  # type: ignore[arg-type]
        with state.kept(module, self._written):
            result = self._calling(module, tuple(arguments), keywords)
            found = [np.array(_array(leaf)) for leaf in pytree.tree_leaves(result) if leaf is not None]
        return dict(zip(self._outputs, found, strict=True))


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
