"""Weights that are made of others, as a layer of ONNX holds what several parameters of PyTorch hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import onnx_ir as ir

from dlbridge.frameworks.pytorch.fx.tensors import with_sizes
from dlbridge.ops import traits


class MadeWeights:
    """The weights that are made of others while a graph is read.

    Attributes:
        by_name: The weights.
        sources: The weights that these are made of -> the names of those.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, ir.Value] = {}
        self.sources: dict[ir.Value, list[str]] = {}
        #: Name -> the weights that it is made of: a name that other weights have taken gets a number.
        self._parts: dict[str, tuple[int, ...]] = {}

    def add(
        self,
        name: str,
        parts: Sequence[ir.Value],
        read: Callable[[], ir.TensorProtocol],
        shape: Sequence[int],
        kind: traits.Kind,
    ) -> ir.Value:
        """An initializer computed from other weights; calls with the same name share it.

        Args:
            name: Its name.
            parts: The weights that it is made of.
            read: Gives its numbers, when they are asked for.
            shape: Its sizes.
            kind: What it is to training.
        """
        made_of = tuple(id(part) for part in parts)
        numbered = (f"{name}_{count}" if count else name for count in itertools.count())
        name = next(n for n in numbered if self._parts.setdefault(n, made_of) == made_of)
        for part in parts:
            self.sources.setdefault(part, []).extend([name] * (name not in self.by_name))
        dtype = parts[0].const_value.dtype  # type: ignore[union-attr]
        if name not in self.by_name:
            tensor = ir.LazyTensor(read, dtype=dtype, shape=ir.Shape(shape), name=name)
            value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape), const_value=tensor)
            traits.set_kind(value, kind)
            self.by_name[name] = with_sizes(value, shape)
        return self.by_name[name]
