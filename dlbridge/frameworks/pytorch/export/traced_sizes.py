"""Functions that ask for sizes as plain numbers, as ``torch.export`` traces them: with those that have names.

PyTorch computes these in C++ or in other packages from the numbers of the example, which a size would be ever after.
Here they are the same computation in functions that take sizes of any kind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.export import own_ops

#: What torch hands on of a pool, where the code says nothing of it.
_USUAL_POOL: Mapping[str, Any] = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
#: PyTorch function -> what is called instead while a module is traced.
INSTEAD: dict[Any, Callable[..., Any]] = {}


def _instead(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: this is called instead of these functions, with the function that the code has called."""

    def register(traced: Callable[..., Any]) -> Callable[..., Any]:
        INSTEAD.update(dict.fromkeys(functions, traced))
        return traced

    return register


@_instead(torch.einsum)
def _einsum(function: Any, equation: str, *operands: Any) -> torch.Tensor:
    """In the order that the package opt_einsum finds best for the example, as PyTorch does where it is installed."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if len(operands) <= 2 or not compat.opt_einsum_is_used():
        return function(equation, *operands)
    shapes = [tuple(_example_size(size) for size in operand.shape) for operand in operands]
    return compat.functions.einsum(equation, operands, path=compat.contraction_path(equation, shapes))


def _example_size(size: int | torch.SymInt) -> int:
    """The number that a size has in the example; 2 for one that only a run tells."""
    if isinstance(size, int):
        return size
    return int(size.node.hint) if size.node.has_hint() else 2


@_instead(torch.linalg.multi_dot, torch.chain_matmul)
def _multi_dot(function: Any, *matrices: Any, **options: Any) -> torch.Tensor:
    """One product after the other: which comes first changes no more than the rounding."""
    given: Sequence[Any] = matrices[0] if len(matrices) == 1 and not _is_tensor(matrices[0]) else matrices
    return function(*matrices, **options) if options else functools.reduce(torch.matmul, given)


@_instead(torch.take_along_dim, torch.Tensor.take_along_dim)
def _take_along_dim(function: Any, input: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    if dim is None:
        return input.reshape(-1).gather(0, indices.reshape(-1))
    if input.dim() != indices.dim():
        return function(input, indices, dim)
    axis = dim % input.dim()
    return _spread(input, indices, axis).gather(axis, _spread(indices, input, axis))


def _spread(x: torch.Tensor, other: torch.Tensor, axis: int) -> torch.Tensor:
    """A tensor with the sizes of another in the place of those that are 1, but for the axis."""
    pairs = list(zip(x.shape, other.shape, strict=True))
    is_one = [i != axis and isinstance(size, int) and size == 1 for i, (size, _) in enumerate(pairs)]
    return x.expand([wanted if one else -1 for one, (_, wanted) in zip(is_one, pairs, strict=True)])


@_instead(torch.kron, torch.Tensor.kron)
def _kron(function: Any, input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    rank = max(input.dim(), other.dim())
    a, b = ([1] * (rank - x.dim()) + list(x.shape) for x in (input, other))
    apart = [size for n in a for size in (n, 1)], [size for n in b for size in (1, n)]
    product = input.reshape(apart[0]) * other.reshape(apart[1])
    return product.reshape([n * m for n, m in zip(a, b, strict=True)])


@_instead(torch.diff, torch.Tensor.diff)
def _diff(
    function: Any,
    input: torch.Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: torch.Tensor | None = None,
    append: torch.Tensor | None = None,
) -> torch.Tensor:
    x = torch.cat([part for part in (prepend, input, append) if part is not None], dim)
    for _ in range(n):
        others = (slice(None),) * (dim % x.dim())
        after, before = x[(*others, slice(1, None))], x[(*others, slice(None, -1))]
        x = after.logical_xor(before) if x.dtype is torch.bool else after - before
    return x


@_instead(torch.cov, torch.Tensor.cov)
def _cov(function: Any, input: torch.Tensor, *, correction: int = 1, **weights: Any) -> torch.Tensor:
    """Without weights; with these, as PyTorch has it."""
    if input.dim() != 2 or any(weight is not None for weight in weights.values()):
        return function(input, correction=correction, **weights)
    apart = input - input.mean(1, keepdim=True)
    return apart @ apart.T / (input.shape[1] - correction)


@_instead(torch.corrcoef, torch.Tensor.corrcoef)
def _corrcoef(function: Any, input: torch.Tensor) -> torch.Tensor:
    if input.dim() != 2:
        return function(input)
    covariance = _cov(torch.cov, input)
    deviation = covariance.diagonal().sqrt()
    return (covariance / deviation.unsqueeze(1) / deviation.unsqueeze(0)).clamp(-1, 1)


@_instead(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d)
def _pool(function: Any, input: torch.Tensor, kernel_size: Any, stride: Any = None, *more: Any, **options: Any) -> Any:
    """With a window as large as the tensor (``F.avg_pool2d(x, x.size()[2:])``), the mean or maximum over these axes."""
    is_plain = not more and all(name in _USUAL_POOL and given == _USUAL_POOL[name] for name, given in options.items())
    whole = _whole_axes(function, input, kernel_size) if is_plain else []
    if whole:
        reduced = torch.mean if "avg" in function.__name__ else torch.amax
        return _rest_of_pool(function, reduced(input, whole, keepdim=True), kernel_size, stride, whole)
    if function is F.max_pool1d and isinstance(input.shape[-1], torch.SymInt):
        return _max_pool1d(function, input, kernel_size, stride, *more, **options)
    return function(input, kernel_size, stride, *more, **options)


@_instead(F.affine_grid)
def _affine_grid(
    function: Any, theta: torch.Tensor, size: Sequence[Any], align_corners: bool | None = None
) -> torch.Tensor:
    """Of sizes that are free: the centres of the pixels between -1 and 1, moved by the matrices."""
    batch, _, *spatial = size
    if not any(isinstance(n, torch.SymInt) for n in spatial):
        return function(theta, size, align_corners=align_corners)
    places = [_pixels(n, bool(align_corners), theta) for n in spatial]
    rank = len(spatial)
    lines = [p.reshape([-1 if axis == at else 1 for axis in range(rank)]) for at, p in enumerate(places)]
    one = torch.ones_like(lines[0].expand(spatial))
    grid = torch.stack([*(line.expand(spatial) for line in reversed(lines)), one], -1)
    moved = grid.reshape(1, -1, rank + 1) @ theta.transpose(1, 2)
    return moved.reshape(batch, *spatial, rank)


def _pixels(count: Any, align_corners: bool, like: torch.Tensor) -> torch.Tensor:
    """Where the pixels of an axis are: the first and the last at the ends, or half a pixel from them."""
    steps = 2 * torch.arange(count, dtype=like.dtype, device=like.device) - (count - 1)
    return steps / (torch.sym_max(count - 1, 1) if align_corners else count)


@_instead(torch.linspace)
def _linspace(function: Any, start: Any, end: Any, steps: Any = None, **options: Any) -> torch.Tensor:
    """In a free number of steps."""
    dtype = options.get("dtype") or torch.get_default_dtype()
    is_said_by_numbers = not any(_is_tensor(bound) for bound in (start, end))
    if not isinstance(steps, torch.SymInt) or not is_said_by_numbers or not dtype.is_floating_point:
        return function(start, end, steps, **options)
    places = torch.arange(steps, dtype=dtype, device=options.get("device"))
    line = places * (end - start) / torch.sym_max(steps - 1, 1)
    return line if isinstance(start, (int, float)) and start == 0 else line + start


def _max_pool1d(
    function: Any,
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Of a free length: PyTorch asks for it as a number."""
    given = [_of_axes(function, size) for size in (kernel_size, kernel_size if stride is None else stride)]
    sizes = [*given, _of_axes(function, padding), _of_axes(function, dilation)]
    if ceil_mode or return_indices or not all(isinstance(size, int) for (size,) in sizes):
        return function(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return torch.ops.dlbridge.max_pool1d(x, *sizes)


def _pooled(x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> Any:
    """An empty tensor of the sizes of a pool."""
    reach = dilation[0] * (kernel[0] - 1) + 1
    return x.new_empty((*x.shape[:-1], (x.shape[-1] + 2 * padding[0] - reach) // stride[0] + 1))


own_ops.define(
    "max_pool1d(Tensor x, int[] kernel_size, int[] stride, int[] padding, int[] dilation) -> Tensor",
    torch.max_pool1d,
    _pooled,
)


def _whole_axes(function: Any, x: torch.Tensor, window: Any) -> list[int]:
    """The axes (from the end) of free sizes on which a window is as large as the tensor."""
    sizes = _of_axes(function, window)
    pairs = zip(range(-len(sizes), 0), sizes, strict=True)
    return [axis for axis, size in pairs if isinstance(size, torch.SymInt) and compat.is_always(size == x.shape[axis])]


def _rest_of_pool(function: Any, x: torch.Tensor, window: Any, stride: Any, done: list[int]) -> torch.Tensor:
    """The pool over the axes that are left."""
    windows = _of_axes(function, window)
    strides = windows if stride is None else _of_axes(function, stride)
    axes = range(-len(windows), 0)
    if len(done) == len(windows):
        return x
    left = [[1 if axis in done else size for axis, size in zip(axes, of, strict=True)] for of in (windows, strides)]
    return function(x, *left)


def _of_axes(function: Any, given: Any) -> list[Any]:
    """A size for each axis that a pool goes over; one number is that of all."""
    count = next(rank for rank in (1, 2, 3) if f"{rank}d" in function.__name__)
    items = list(given) if isinstance(given, (list, tuple)) else [given]
    return items * count if len(items) == 1 else items


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
