"""Faults of weights and constants: transposed, flipped, in another order, of another sign, off by one, too narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from dlbridge.passes.matching import Match
from dlbridge.verification.faults.kind import Change, kind, numbers_of, set_numbers, weight_of

#: Op -> the input that is its matrix, kernel or table, and its bias.
_MATRICES = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "Linear": 1, "MatMul": 1}
_BIASES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "Linear": 2, "LayerNormalization": 2, "BatchNormalization": 2}
_SCALES = {"LayerNormalization": 1, "RMSNormalization": 1, "BatchNormalization": 1, "InstanceNormalization": 1}
_RECURRENT = ("LSTM", "GRU", "RNN")
#: The number of gates of a recurrent op, and their order with two exchanged.
_GATES = {"LSTM": (0, 2, 1, 3), "GRU": (1, 0, 2)}


def _of(
    slots: dict[str, int], change: Callable[[np.ndarray], np.ndarray | None]
) -> Callable[[Match], Iterator[Change]]:
    """A kind of fault that changes the numbers of the input that an op has in a slot."""

    def finds(node: Match) -> Iterator[Change]:
        slot = slots.get(node.key)
        numbers = weight_of(node, slot) if slot is not None else None
        if slot is None or numbers is None:
            return
        other = change(numbers)
        if other is not None and not np.array_equal(other, numbers):
            yield set_numbers(slot, other.astype(numbers.dtype))

    return finds


def _rows_swapped(array: np.ndarray) -> np.ndarray | None:
    return np.concatenate([array[1::-1], array[2:]]) if array.ndim and len(array) > 1 else None


def _transposed(array: np.ndarray) -> np.ndarray | None:
    is_square = array.ndim == 2 and array.shape[0] == array.shape[1] > 1
    return array.T.copy() if is_square else None


def _one_off(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[array.size // 2] += np.asarray(0.01 * np.abs(array).max(), array.dtype)
    return changed


def _narrowed(dtype: type) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.astype(dtype).astype(array.dtype)


def _quantised(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).max() / 127 or 1.0
    return np.rint(array / step) * step


kind("two rows of a weight exchanged")(_of(_MATRICES, _rows_swapped))
kind("a square weight that is transposed")(_of(_MATRICES, _transposed))
kind("a kernel that is flipped")(_of(_MATRICES, lambda a: a[..., ::-1].copy() if a.ndim > 2 else None))
kind("a kernel whose axes are exchanged")(
    _of(_MATRICES, lambda a: a.swapaxes(-1, -2).copy() if a.ndim > 3 and a.shape[-1] == a.shape[-2] else None)
)
kind("two input channels exchanged")(
    _of(_MATRICES, lambda a: a[:, [1, 0, *range(2, a.shape[1])]] if a.ndim > 1 and a.shape[1] > 1 else None)
)
kind("one number of a weight off by a hundredth")(_of(_MATRICES, _one_off))
kind("a weight that is a hundredth too large")(_of(_MATRICES, lambda a: a * 1.01))
kind("a weight of another sign")(_of(_MATRICES, lambda a: -a))
kind("a weight in float16")(_of(_MATRICES, _narrowed(np.float16)))
kind("a weight in bfloat16")(_of(_MATRICES, _narrowed(ml_dtypes.bfloat16)))
kind("a weight in eight bits")(_of(_MATRICES, _quantised))
kind("a missing bias")(_of(_BIASES, np.zeros_like))
kind("a bias of another sign")(_of(_BIASES, lambda a: -a))
kind("a bias that is moved by one")(_of(_BIASES, lambda a: np.roll(a, 1)))
kind("one number of a bias off by a hundredth")(_of(_BIASES, _one_off))
kind("a missing scale")(_of(_SCALES, np.ones_like))
kind("a scale that is moved by one")(_of(_SCALES, lambda a: np.roll(a, 1)))
kind("one number of a scale off by a hundredth")(_of(_SCALES, _one_off))
kind("a missing mean")(_of({"BatchNormalization": 3}, np.zeros_like))
kind("a mean that is moved by one")(_of({"BatchNormalization": 3}, lambda a: np.roll(a, 1)))
kind("a deviation for a variance")(_of({"BatchNormalization": 4}, np.sqrt))
kind("a missing variance")(_of({"BatchNormalization": 4}, np.ones_like))
kind("a table that is moved by one row")(_of({"Embedding": 1, "Gather": 0}, lambda a: np.roll(a, 1, 0)))
kind("the first row of a table that is 0")(
    _of({"Embedding": 1}, lambda a: np.concatenate([np.zeros_like(a[:1]), a[1:]]))
)
kind("the last row of a table off")(
    _of({"Embedding": 1, "Gather": 0}, lambda a: np.concatenate([a[:-1], a[-1:] + 1]) if a.ndim else None)
)
kind("a row in the middle of a table off")(
    _of(
        {"Embedding": 1}, lambda a: np.concatenate([a[: len(a) // 2], a[len(a) // 2 :][:1] + 0.1, a[len(a) // 2 + 1 :]])
    )
)
kind("one slope for all channels")(_of({"PRelu": 1}, lambda a: np.full_like(a, a.mean()) if a.size > 1 else None))


def _gates(slot: int) -> Callable[[Match], Iterator[Change]]:
    """Exchange two gates in an input of a recurrent op."""

    def finds(node: Match) -> Iterator[Change]:
        order = _GATES.get(node.key)
        numbers = weight_of(node, slot) if order is not None else None
        if order is None or numbers is None:
            return
        count = len(order) * (2 if slot == 3 else 1)
        blocks = np.split(numbers, count, axis=1)
        whole = [*order, *(len(order) + gate for gate in order)] if slot == 3 else order
        yield set_numbers(slot, np.concatenate([blocks[gate] for gate in whole], axis=1))

    return finds


kind("two gates of the input exchanged")(_gates(1))
kind("two gates of the state exchanged")(_gates(2))
kind("two gates of the bias exchanged")(_gates(3))


@kind("a matrix of the state that is transposed")
def _state_transposed(node: Match) -> Iterator[Change]:
    numbers = weight_of(node, 2) if node.is_op(*_RECURRENT) else None
    if numbers is not None:
        size = numbers.shape[-1]
        blocks = numbers.reshape(numbers.shape[0], -1, size, size).swapaxes(-1, -2)
        yield set_numbers(2, blocks.reshape(numbers.shape))


@kind("the two directions exchanged")
def _directions(node: Match) -> Iterator[Change]:
    numbers = weight_of(node, 2) if node.is_op(*_RECURRENT) else None
    if numbers is not None and len(numbers) == 2:
        yield set_numbers(2, numbers[::-1].copy())


@kind("a missing bias of a recurrent layer")
def _no_recurrent_bias(node: Match) -> Iterator[Change]:
    numbers = weight_of(node, 3) if node.is_op(*_RECURRENT) else None
    if numbers is not None:
        yield set_numbers(3, np.zeros_like(numbers))


@kind("the biases of input and state exchanged")
def _biases_exchanged(node: Match) -> Iterator[Change]:
    numbers = weight_of(node, 3) if node.is_op("GRU") else None
    if numbers is not None:
        yield set_numbers(3, np.roll(numbers, numbers.shape[1] // 2, axis=1))


# --- constants --------------------------------------------------------------------------------------------------------


def _constants(
    ops: tuple[str, ...], slots: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray | None]
) -> Callable[[Match], Iterator[Change]]:
    """A kind of fault that changes a constant which an op has in one of these slots."""

    def finds(node: Match) -> Iterator[Change]:
        if not node.is_op(*ops):
            return
        for slot in slots:
            numbers = numbers_of(node, slot) if slot < len(node.node.inputs) else None
            other = change(numbers) if numbers is not None and numbers.size else None
            if numbers is not None and other is not None and not np.array_equal(other, numbers):
                yield set_numbers(slot, other.astype(numbers.dtype))

    return finds


_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")
_COMPARING = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
kind("a constant that is a hundredth too large")(
    _constants(_ARITHMETIC, (0, 1), lambda a: a * 1.01 if a.dtype.kind == "f" else None)
)
kind("a constant of another sign")(_constants(_ARITHMETIC, (0, 1), lambda a: -a if a.dtype.kind == "f" else None))
kind("a bound that is off by one")(_constants((*_COMPARING, "Clip"), (1, 2), lambda a: a - 1))
kind("an index that is off by one")(_constants(("Gather",), (1,), lambda a: np.where(a > 0, a - 1, a + 1)))
kind("a slice that begins one later and ends one later")(
    lambda node: _moved_slice(node) if node.is_op("Slice") else iter(())
)
kind("a diagonal that is off by one")(_constants(("Trilu",), (1,), lambda a: a + 1))
kind("padding of another number")(_constants(("Pad",), (2,), lambda a: a + 1))
kind("padding that is on the other side")(_constants(("Pad",), (1,), lambda a: np.roll(a, len(a) // 2)))
kind("sizes in another order")(
    _constants(("Reshape", "Expand"), (1,), lambda a: np.concatenate([a[:-2], a[:-3:-1]]) if a.size > 2 else None)
)


def _moved_slice(node: Match) -> Iterator[Change]:
    starts, ends = numbers_of(node, 1), numbers_of(node, 2)
    if starts is None or ends is None:
        return

    def change(target: object) -> None:
        set_numbers(1, starts + 1)(target)  # type: ignore[arg-type]
        set_numbers(2, np.where(np.abs(ends) < 1 << 30, ends + 1, ends))(target)  # type: ignore[arg-type]

    yield change
