"""The example inputs of an export: tensors made from ``"float32[batch,3,224,224]"``, and the names of their sizes."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ShapesCollection

from dlbridge import constraints
from dlbridge.errors import SignatureError
from dlbridge.frameworks.inputs import arithmetic, bounded, by_parameter, no_dtype, parse_input
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.compat import pytree

_BATCH = 2
#: Sizes that named dimensions of sequences and of images have while the model is traced: the first that it takes; and
#: how far apart those of sequences are.
SIZES = ((8, 64, 1), (512, 256, 64), (16384, 512, 1024))


class Example:
    """The example inputs of one export.

    Attributes:
        args, kwargs: What ``forward`` is called with.
        dims: (tensor, {axis: name, or arithmetic on names}) of each tensor whose sizes are not all fixed.
        stated: What the user says of the names: ``n <= 16``.
        asked: Whether the user named the sizes, so that they must come out dynamic.
        made: Whether sizes were made up for names.
    """

    def __init__(
        self,
        inputs: Any,
        dynamic: Mapping[str, Mapping[int, str]] | None,
        sequence: int,
        image: int,
        step: int = 1,
    ) -> None:
        self.dims: list[tuple[torch.Tensor, dict[int, str]]] = []
        self.stated: list[constraints.Expression] = []
        self.asked = False
        self._dynamic = dynamic
        self._given: set[int] = set()
        self._sizes = self._choose(inputs, sequence, image, step)
        self.args: tuple[Any, ...]
        if isinstance(inputs, Mapping):
            self.args, self.kwargs = (), {k: self._make(v, str(k)) for k, v in inputs.items()}
        elif isinstance(inputs, (tuple, list)):
            self.args, self.kwargs = tuple(self._make(v, str(i)) for i, v in enumerate(inputs)), {}
        else:
            self.args, self.kwargs = (self._make(inputs, "0"),), {}
        if not self.asked:
            self._same_batch()
        self._widen()
        self._check_names()

    @property
    def made(self) -> bool:
        return bool(self._sizes)

    @property
    def leaves(self) -> list[Any]:
        """The leaves of the inputs, in the order of the program's placeholders."""
        return pytree.tree_leaves((self.args, self.kwargs))

    def shapes(self, module: torch.nn.Module) -> Any:
        """The dynamic shapes as torch.export takes them."""
        if not self.dims:
            return None
        collection = ShapesCollection()
        for tensor, names in self.dims:
            collection[tensor] = dict.fromkeys(names, Dim.AUTO)
        return collection.dynamic_shapes(module, self.args, self.kwargs)

    # --- tensors ---------------------------------------------------------------------------------------------------

    def _choose(self, inputs: Any, sequence: int, image: int, step: int) -> dict[str, int]:
        """Sizes of the example for the names in specs: common numbers within the stated bounds."""
        preferred: dict[str, int] = {}
        for path, text in _specs(inputs):
            _, sizes = _parse(text, path)
            for axis, size in enumerate(sizes):
                for name in re.findall(r"[A-Za-z_]\w*", self._bounded(size, path)):
                    if axis == 0:
                        usual = _BATCH
                    elif len(sizes) >= 4 and axis >= 2:
                        usual = image
                    else:
                        usual = sequence
                    preferred.setdefault(name, usual + (step * len(preferred) if usual == sequence else 0))
        found = constraints.fit(self.stated, preferred) if preferred else {}
        if found is None:
            raise SignatureError(f"no sizes keep {' and '.join(c.text for c in self.stated)}", where="inputs")
        return found

    def _bounded(self, text: str, path: str) -> str:
        """Record the bounds of a size, and return it without them: ``n`` of ``2<=n<=16``."""
        name, bounds = bounded(text, f"input {path}")
        if bounds is not None and all(bounds.text != other.text for other in self.stated):
            self.stated.append(bounds)
        return name

    def _make(self, given: Any, path: str) -> Any:
        if isinstance(given, str):
            return self._from_spec(given, path)
        if isinstance(given, np.ndarray):
            given = torch.from_numpy(np.array(given))
        if isinstance(given, torch.Tensor):
            if id(given) in self._given:  # torch.export would take two inputs for one
                given = given.clone()
            self._given.add(id(given))
            if self._dynamic is not None:
                named = self._dynamic.get(path, {})
                self._name_sizes(given, {int(a): self._bounded(str(n), path) for a, n in named.items()})
            elif given.dim():
                self.dims.append((given, {0: "batch"}))
            return given
        if isinstance(given, Mapping) and type(given) is dict:
            return {k: self._make(v, f"{path}.{k}") for k, v in given.items()}
        if type(given) in (tuple, list):
            return type(given)(self._make(v, f"{path}.{i}") for i, v in enumerate(given))
        return given

    def _name_sizes(self, tensor: torch.Tensor, names: dict[int, str]) -> None:
        if names:
            self.dims.append((tensor, names))
            self.asked = True

    def _from_spec(self, text: str, path: str) -> torch.Tensor:
        """A tensor from ``float32[batch,3,224,224]``."""
        dtype, given = _parse(text, path)
        sizes = [self._bounded(s, path) for s in given]
        names = {axis: s for axis, s in enumerate(sizes) if not s.isdigit()}
        shape = [arithmetic(s, self._sizes) for s in sizes]
        if dtype.is_floating_point or dtype.is_complex:
            tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        elif dtype == torch.bool:  # a mask of one value hides all or nothing
            tensor = (torch.arange(math.prod(shape)) % 2 == 0).reshape(shape)
        else:
            tensor = torch.ones(shape, dtype=dtype)
        self._name_sizes(tensor, names)
        return tensor

    # --- names -----------------------------------------------------------------------------------------------------

    def _same_batch(self) -> None:
        """If the user named no sizes, the first axis is the batch, in all tensors in which it has the same size."""
        sizes = [t.shape[0] for t, _ in self.dims]
        batch = max(sizes, key=sizes.count, default=0)
        self.dims = [(t, names if t.shape[0] == batch else {}) for t, names in self.dims]

    def _widen(self) -> None:
        """Repeat examples along named axes of size 1, which torch.export would treat as fixed."""
        larger: dict[str, set[int]] = {}
        for tensor, names in self.dims:
            for axis, text in names.items():
                larger.setdefault(text, set()).add(tensor.shape[axis])
        wide = {text for text, sizes in larger.items() if sizes == {1} and self._may_be_two(text)}
        made: dict[int, torch.Tensor] = {}
        for tensor, names in self.dims:
            for axis, text in names.items():
                if text in wide:
                    now = made.get(id(tensor), tensor)
                    made[id(tensor)] = torch.cat([now, now], dim=axis)
        self.dims = [(made.get(id(t), t), names) for t, names in self.dims]
        swap = pytree.tree_map
        self.args = swap(lambda t: made.get(id(t), t), self.args)
        self.kwargs = swap(lambda t: made.get(id(t), t), self.kwargs)

    def _may_be_two(self, text: str) -> bool:
        return text.isidentifier() and constraints.broken(self.stated, {text: 2}) is None

    def _check_names(self) -> None:
        """One name is one size.

        Raises:
            SignatureError: When the examples have two, or one that the user's own bounds exclude.
        """
        known: dict[str, int] = {}
        for tensor, names in self.dims:
            for axis, text in names.items():
                size = known.setdefault(text, tensor.shape[axis])
                if size != tensor.shape[axis]:
                    raise SignatureError(f"the size '{text}' is {size} in one example, {tensor.shape[axis]} in another")
        broken = constraints.broken(self.stated, known)
        if broken is not None:
            raise SignatureError(f"the example does not keep {broken.text}")


def with_example(
    module: torch.nn.Module, example: Any, inputs: Any, dynamic: Mapping[str, Mapping[int, str]] | None
) -> tuple[Any, Mapping[str, Mapping[int, str]]]:
    """The inputs and the dynamic sizes of an export, where example inputs came with the module.

    Sizes of the example are fixed. What the user says of an input takes the place of that part of the example, and has
    its dtype where it says none.

    Raises:
        SignatureError: When the user names an input that the module does not take.
    """
    if inputs is None:
        return example, dynamic or {}
    parameters = list(inspect.signature(module.forward).parameters)
    found = by_parameter(example, parameters)
    said = by_parameter(inputs, parameters)
    for name, text in said.items():
        known = found.get(name)
        if isinstance(text, str) and isinstance(known, (torch.Tensor, np.ndarray)):
            said[name] = str(parse_input(text, f"input {name}").with_dtype(dtype_name(known.dtype)))
    return {**found, **said}, dynamic or {}


def without_dtype(inputs: Any) -> list[str]:
    """The paths of the inputs whose text says no dtype."""
    return [path for path, text in _specs(inputs) if parse_input(text, f"input {path}").dtype is None]


def _specs(inputs: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The specs (strings) among the inputs, with their paths."""
    if isinstance(inputs, str):
        yield path or "0", inputs
    elif isinstance(inputs, Mapping):
        for key, value in inputs.items():
            yield from _specs(value, f"{path}.{key}" if path else str(key))
    elif type(inputs) in (tuple, list):
        for index, value in enumerate(inputs):
            yield from _specs(value, f"{path}.{index}" if path else str(index))


def _parse(text: str, path: str) -> tuple[torch.dtype, tuple[str, ...]]:
    where = f"input {path}"
    said = parse_input(text, where).with_dtype(None)
    dtype = getattr(torch, said.dtype or "", None)
    if not isinstance(dtype, torch.dtype):
        raise no_dtype(text, said.dtype, where)
    return dtype, said.sizes
