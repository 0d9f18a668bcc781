"""How a framework's weight is seen in the initializers: exact, both ways, without copies where none is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["View", "Weight", "contiguous", "copy_into", "size", "to_initializers"]


@dataclass(frozen=True)
class View:
    """A part of an initializer, with its axes rearranged; each step can be undone.

    Steps, in order: ``("index", i)`` takes ``array[i]`` (an int, slice or tuple of them); ``("reshape", shape)``;
    ``("blocks", axis, order)`` cuts an axis into ``len(order)`` equal blocks and puts block ``order[k]`` at place k
    (the gates of recurrent layers); ``("transpose", perm)``; ``("flip", axes)``.
    """

    initializer: str
    steps: tuple[tuple, ...] = ()

    def read(self, array: np.ndarray) -> np.ndarray:
        for step in self.steps:
            array = _forward(array, step)
        return array

    def write(self, array: np.ndarray, value: np.ndarray) -> None:
        """Put ``value`` where :meth:`read` finds it, in place; ``array`` must be writable."""
        if not self.steps:
            array[...] = value
            return
        (what, *rest), *later = self.steps
        if what == "index":
            View(self.initializer, tuple(later)).write(array[rest[0]], value)
            return
        inner = np.array(_forward(array, self.steps[0]))
        View(self.initializer, tuple(later)).write(inner, value)
        array[...] = _backward(inner, self.steps[0], array.shape)


def _forward(array: np.ndarray, step: tuple) -> np.ndarray:
    what, *rest = step
    match what:
        case "index":
            return array[rest[0]]
        case "reshape":
            return array.reshape(rest[0])
        case "transpose":
            return array.transpose(rest[0])
        case "flip":
            return np.flip(array, rest[0])
        case "blocks":
            axis, order = rest
            pieces = np.split(array, len(order), axis)
            return np.concatenate([pieces[i] for i in order], axis)
    raise ValueError(f"unknown step {what!r}")


def _backward(array: np.ndarray, step: tuple, shape: tuple[int, ...]) -> np.ndarray:
    what, *rest = step
    match what:
        case "reshape":
            return array.reshape(shape)
        case "transpose":
            return array.transpose(np.argsort(rest[0]))
        case "flip":
            return np.flip(array, rest[0])
        case "blocks":
            axis, order = rest
            pieces = np.split(array, len(order), axis)
            return np.concatenate([pieces[int(i)] for i in np.argsort(order)], axis)
    raise ValueError(f"step {what!r} cannot be undone")


@dataclass(frozen=True)
class Weight:
    """One weight of a framework: the sum of its views (one, but for a bias that two ONNX biases make up).

    Attributes:
        views: Where its numbers are.
        fill: When there are no views, the number that fills it (a bias that the framework wants and ONNX lacks).
        shape: Its shape in the framework; needed when there are no views.
    """

    views: tuple[View, ...] = ()
    fill: float | None = None
    shape: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, initializer: str, *steps: tuple) -> Weight:
        return cls((View(initializer, steps),))

    @property
    def plain(self) -> str | None:
        """The initializer's name when the weight is the initializer as it stands."""
        return self.views[0].initializer if len(self.views) == 1 and not self.views[0].steps else None

    def read(self, initializers: Mapping[str, np.ndarray]) -> np.ndarray:
        if not self.views:
            return np.full(self.shape, self.fill, np.float32)
        arrays = [view.read(initializers[view.initializer]) for view in self.views]
        return arrays[0] if len(arrays) == 1 else sum(arrays[1:], arrays[0])


def to_initializers(
    weights: Mapping[str, Weight], trained: Mapping[str, np.ndarray], initializers: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The model's initializers after a framework has changed its weights.

    Args:
        weights: Framework key -> how it is made of initializers.
        trained: Framework key -> array as the framework holds it now.
        initializers: Name -> array as it was.

    Returns:
        Name -> new array, for each initializer that a weight reads. The first view of a sum takes the whole, the
        others become zero.
    """
    out: dict[str, np.ndarray] = {}
    for key, weight in weights.items():
        for position, view in enumerate(weight.views):
            target = out.setdefault(view.initializer, np.array(initializers[view.initializer]))
            shape = view.read(target).shape
            value = np.asarray(trained[key]).reshape(shape) if position == 0 else np.zeros(shape, target.dtype)
            if target.ndim == 0:
                out[view.initializer] = np.asarray(value, target.dtype).reshape(())
            else:
                view.write(target, value.astype(target.dtype, copy=False))
    return out


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array in C order, itself where it is."""
    if array.flags.c_contiguous:
        return np.asarray(array)  # ascontiguousarray makes a scalar a vector
    out = np.empty(array.shape, array.dtype)
    copy_into(out, array)
    return out


def copy_into(out: np.ndarray, array: np.ndarray, strip: int = 16) -> None:
    """Copy an array into another of its shape, which is in C order.

    A transposed array is copied in strips of its last axis, each a cache line of 4-byte numbers wide: numpy's own copy
    misses the cache at every number where the strides are powers of two, and takes two to five times as long.
    """
    if array.ndim == 0 or array.strides[-1] == array.itemsize:
        out[...] = array
        return
    for start in range(0, array.shape[-1], strip):
        out[..., start : start + strip] = array[..., start : start + strip]


def size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
