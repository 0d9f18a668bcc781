"""``torch.export`` of a live module: example inputs from what the user gave, dynamic sizes, errors in plain words."""

from __future__ import annotations

import ast
import contextlib
import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram, ShapesCollection

from dlbridge.errors import DlbridgeError, SignatureError
from dlbridge.frameworks.pytorch import recurrence, training_only
from dlbridge.frameworks.pytorch.reading import size_of

_SPEC = re.compile(r"\s*(\w+)\s*\[([^\]]*)\]\s*\Z")
_BATCH = 2
#: Sizes that named dimensions of sequences and of images have while the model is traced: the first that it takes.
_SIZES = ((8, 64), (512, 256), (16384, 512))


class _Example:
    """The example inputs of one export.

    Attributes:
        args, kwargs: What ``forward`` is called with.
        dims: (tensor, {axis: name}) of each tensor whose sizes are not all fixed.
        asked: Whether the user named the sizes, so that they must come out dynamic.
        made: Whether sizes were made up for names.
    """

    def __init__(self, inputs: Any, dynamic: Mapping[str, Mapping[int, str]] | None, sequence: int, image: int) -> None:
        self._sequence, self._image = sequence, image
        self.dims: list[tuple[torch.Tensor, dict[int, str]]] = []
        self.asked = False
        self._sizes: dict[str, int] = {}
        self._dynamic = dynamic
        self._given: set[int] = set()
        if isinstance(inputs, Mapping):
            self.args, self.kwargs = (), {k: self._make(v, str(k)) for k, v in inputs.items()}
        elif isinstance(inputs, (tuple, list)):
            self.args, self.kwargs = tuple(self._make(v, str(i)) for i, v in enumerate(inputs)), {}
        else:
            self.args, self.kwargs = (self._make(inputs, "0"),), {}
        self._widen_batch()

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
                self._name_sizes(given, {int(a): n for a, n in self._dynamic.get(path, {}).items()})
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
        match = _SPEC.match(text)
        dtype = getattr(torch, match[1], None) if match else None
        if not isinstance(dtype, torch.dtype):
            raise SignatureError(f"'{text}' is not of the form dtype[size,size,...]", where=f"input {path}")
        sizes = [s.strip() for s in match[2].split(",") if s.strip()]  # type: ignore[index]
        names = {axis: s for axis, s in enumerate(sizes) if not s.isdigit()}
        shape = [int(s) if s.isdigit() else self._size(s, axis, len(sizes)) for axis, s in enumerate(sizes)]
        if dtype.is_floating_point or dtype.is_complex:
            tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        else:
            tensor = torch.ones(shape, dtype=dtype)
        self._name_sizes(tensor, names)
        return tensor

    def _size(self, text: str, axis: int, rank: int) -> int:
        """The size that a name, or arithmetic on names, has in the example."""
        for name in re.findall(r"[A-Za-z_]\w*", text):
            usual = _BATCH if axis == 0 else self._image if rank >= 4 and axis >= 2 else self._sequence
            self._sizes.setdefault(name, usual + (len(self._sizes) if usual == self._sequence else 0))
        return int(_arithmetic(text, self._sizes))

    @property
    def made(self) -> bool:
        return bool(self._sizes)

    def _widen_batch(self) -> None:
        """Repeat examples of a batch of one, which torch.export would take for a fixed size."""
        firsts = [t for t, names in self.dims if 0 in names]
        if not firsts or any(t.shape[0] != 1 for t in firsts):
            return
        wide = {id(t): torch.cat([t, t]) for t in firsts}
        self.dims = [(wide.get(id(t), t), names) for t, names in self.dims]
        swap = torch.utils._pytree.tree_map
        self.args = swap(lambda t: wide.get(id(t), t), self.args)
        self.kwargs = swap(lambda t: wide.get(id(t), t), self.kwargs)

    def shapes(self, module: torch.nn.Module, *, auto: bool) -> Any:
        """The dynamic shapes as torch.export takes them."""
        if not self.dims:
            return None
        collection = ShapesCollection()
        known: dict[str, Any] = {}
        for tensor, names in self.dims:
            collection[tensor] = {
                axis: Dim.AUTO if auto else _arithmetic(text, _Dims(known)) for axis, text in names.items()
            }
        return collection.dynamic_shapes(module, self.args, self.kwargs)


class _Dims(dict):
    """Name -> ``Dim``, made when first asked for."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def __getitem__(self, name: str) -> Any:
        return self._known.setdefault(name, Dim(name))


def _arithmetic(text: str, names: Any) -> Any:
    """``2*batch + 1`` of what the names stand for."""

    def value(tree: ast.expr) -> Any:
        match tree:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = value(left), value(right)
                return b * a if isinstance(a, int) else a * b
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return value(left) - value(right)
        raise SignatureError(f"'{text}' is no size: a number, a name, or sums and products of these")

    try:
        return value(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise SignatureError(f"'{text}' is no size: a number, a name, or sums and products of these") from None


@contextlib.contextmanager
def _inference(module: torch.nn.Module) -> Iterator[None]:
    """The module in eval mode, and torch's log of what went wrong, which is told here, off; afterwards as before."""
    modes = {part: part.training for part in module.modules()}
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    module.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with recurrence.whole(), training_only.kept(module):
                yield
    finally:
        logger.setLevel(level)
        for part, mode in modes.items():
            part.training = mode


def export(
    module: torch.nn.Module, inputs: Any, dynamic: Mapping[str, Mapping[int, str]] | None = None
) -> tuple[ExportedProgram, dict[str, dict[int, str]]]:
    """Export a module in eval mode, without decomposing it.

    Args:
        module: The module; it is left as it was.
        inputs: A tensor, a tuple of them, or a dict by parameter name; nested ones too. Instead of a tensor,
            ``"float32[batch,3,224,224]"``: named sizes become dynamic.
        dynamic: Input -> {axis: name} for tensors. When None, axis 0 of each is the batch, where that can be.

    Returns:
        The program; and by the name of the placeholder, the names of its dynamic axes.

    Raises:
        DlbridgeError: When torch cannot export the module, or a size that was named cannot be dynamic.
    """
    if inputs is None:
        raise SignatureError(
            "reading a torch module takes example inputs",
            where=type(module).__name__,
            hint="inputs=(tensor, ...) or inputs={'x': 'float32[batch,3,224,224]'} "
            "(on the command line: --input 'x:float32[batch,3,224,224]')",
        )
    first: DlbridgeError | None = None
    for sizes in _SIZES:
        example = _Example(inputs, dynamic, *sizes)
        _check_call(module, example)
        try:
            with _inference(module):
                program = _export(module, example)
            return program, _placed(program, example)
        except DlbridgeError as error:
            first = first or error
            if not example.made:
                break
    assert first is not None
    raise first


def _check_call(module: torch.nn.Module, example: _Example) -> None:
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*example.args, **example.kwargs)
    except TypeError as error:
        raise SignatureError(
            f"forward cannot take these inputs: {error}",
            where=type(module).__name__,
            hint=f"its parameters are: {', '.join(signature.parameters)}",
        ) from None


def _export(module: torch.nn.Module, example: _Example) -> ExportedProgram:
    def attempt(shapes: Any) -> ExportedProgram:
        return torch.export.export(module, example.args, example.kwargs, dynamic_shapes=shapes, strict=False)

    reason: Exception | None = None
    for auto in (False, True) if example.asked else (True,):
        try:
            program = attempt(example.shapes(module, auto=auto))
            if auto and example.asked:
                _require_dynamic(program, example, reason)
            return program
        except DlbridgeError:
            raise
        except Exception as error:  # torch.export raises of its own, and whatever the module's code raises
            reason = reason or error
    if not example.asked and example.dims:
        with contextlib.suppress(Exception):  # what stops the static export too is told below
            return attempt(None)
    raise DlbridgeError(f"torch.export cannot export it: {_short(reason)}", where=type(module).__name__) from reason


def _leaves(example: _Example) -> list[Any]:
    return torch.utils._pytree.tree_leaves((example.args, example.kwargs))


def _placeholders(program: ExportedProgram) -> list[torch.fx.Node]:
    """The user's inputs, in order; those that are no tensors have no ``val`` that is one."""
    names = {s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"}
    return [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]


def _placed(program: ExportedProgram, example: _Example) -> dict[str, dict[int, str]]:
    names = {id(t): named for t, named in example.dims}
    order = _placeholders(program)
    # Keyword arguments stand in the order of the call, as the placeholders do.
    return {n.name: names[id(leaf)] for n, leaf in zip(order, _leaves(example), strict=False) if id(leaf) in names}


def _require_dynamic(program: ExportedProgram, example: _Example, reason: Exception | None) -> None:
    placed = _placed(program, example)
    for node in _placeholders(program):
        for axis, name in placed.get(node.name, {}).items():
            if isinstance(size_of(node.meta["val"].shape[axis]), int):
                raise DlbridgeError(
                    f"the size '{name}' of input '{node.name}' cannot be dynamic: the model's code fixes it to "
                    f"{node.meta['val'].shape[axis]}",
                    hint=f"give it as a number; torch.export says: {_short(reason)}",
                )


def _short(error: Exception | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:600] if lines else type(error).__name__
