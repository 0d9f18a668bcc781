"""The weights of a written model as an optimizer sees them, and its slots under the model's own names, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.ops import regularization, traits
from dlbridge.ops.keys import is_op
from dlbridge.source.program import Source
from dlbridge.source.weights import View, Weight, to_initializers

#: Slot -> framework key -> array.
Held = Mapping[str, Mapping[str, np.ndarray]]


def settings(source: Source, keys: Iterable[str], optimizer: Any, sums: Iterable[str] = ()) -> dict[str, Any]:
    """Framework key -> how the weight is trained (``dlbridge.training.formulas.optimizers.Weight``).

    Args:
        source: The written model.
        keys: The weights that train.
        optimizer: The optimizer of a specification.
        sums: Those of them that stand for the sum of two weights of the model.

    Raises:
        TrainingError: When the framework holds a weight in a form in which the optimizer cannot compute its step.
    """
    keys, sums = list(keys), set(sums)
    _check_ties(source, keys)
    biases = _recurrent_biases(source)
    found = {}
    for key in keys:
        weight = source.weights[key]
        names = tuple(dict.fromkeys(view.initializer for view in weight.views))
        shown = source.model.graph.initializers[names[0]].const_value
        assert shown is not None
        if optimizer.of_whole_vectors and (key in sums or _has_two_biases(source, weight, biases)):
            raise TrainingError(
                f"{optimizer.kind} makes a step of all numbers of a weight at once; here a recurrent layer holds its "
                "bias and that of its state as one",
                where=names[0],
                hint="train it by another optimizer",
            )
        axes = _matrix_axes(weight.views[0], shown.shape.numpy(), optimizer) if optimizer.of_whole_weights else None
        is_vector = names[0] in biases or sum(size > 1 for size in shown.shape.numpy()) <= 1
        found[key] = replace(optimizer.of(names, axes), is_vector=is_vector)
    for key in sums:
        _check_sum(source, source.weights[key].views[0].initializer, optimizer, found[key])
        found[key] = replace(found[key], count=2)
    return found


def _check_sum(source: Source, name: str, optimizer: Any, weight: Any) -> None:
    """Refuse what is done to each of two biases by itself, where one stands for their sum.

    Raises:
        TrainingError: It names the bias.
    """
    value = source.model.graph.initializers[name]
    what, hint = None, "name it in no_decay ('*bias*')"
    if weight.decay and weight.is_coupled:
        what, hint = f"{optimizer.kind} with a coupled weight decay", f"{hint}, or say decay: decoupled"
    elif regularization.penalty(value) is not None or regularization.limit(value) is not None:
        what, hint = "a penalty or limit of a bias", f"{hint}, or train in another framework"
    if what is not None:
        raise TrainingError(
            f"{what}: here one bias stands for two of the model, each of which has it by itself", where=name, hint=hint
        )


def _check_ties(source: Source, keys: Iterable[str]) -> None:
    """Refuse weights that would train apart though they are one parameter of the model.

    Raises:
        TrainingError: It names the parameter.
    """
    views: dict[str, list[View]] = {}
    for key in keys:
        for view in source.weights[key].views:
            views.setdefault(view.initializer, []).append(view)
    for name, several in views.items():
        if len(several) == 1:
            continue
        value = source.model.graph.initializers[name]
        assert value.const_value is not None
        seen = np.zeros(value.const_value.shape.numpy(), bool)
        for view in several:
            one = np.zeros_like(seen)
            view.write(one, np.ones_like(view.read(one)))
            if (one & seen).any():
                raise TrainingError(
                    f"one weight is held by several layers here ({source.framework}), which would train apart",
                    where=name,
                    hint="train it in another framework, or give each layer a weight of its own",
                )
            seen |= one


def _has_two_biases(source: Source, weight: Weight, biases: Mapping[str, int]) -> bool:
    """Whether it is both biases of a recurrent layer, as the standard has them in one."""
    return any(v.initializer in biases and _count(source, v) == biases[v.initializer] for v in weight.views)


def _recurrent_biases(source: Source) -> dict[str, int]:
    """Name of a bias of a recurrent layer, as the standard has it -> how many numbers it has."""
    nodes = [node for node in source.model.graph if is_op(node, "LSTM", "GRU", "RNN") and len(node.inputs) > 3]
    names = {str(node.inputs[3].name) for node in nodes if node.inputs[3] is not None}
    return {name: int(np.prod(_model_shape(source, name))) for name in names & source.model.graph.initializers.keys()}


def _model_shape(source: Source, name: str) -> tuple[int, ...]:
    held = source.model.graph.initializers[name].const_value
    assert held is not None
    return tuple(held.shape.numpy())


def _count(source: Source, view: View) -> int:
    """How many numbers of its initializer a view reads."""
    return int(view.read(np.broadcast_to(np.zeros((), bool), _model_shape(source, view.initializer))).size)


def _matrix_axes(view: View, shape: Sequence[int], optimizer: Any) -> tuple[int, int] | None:
    """The axes of a matrix's rows and columns, as the framework has it; None for what is no matrix."""
    seen = view.read(np.broadcast_to(np.zeros((), bool), shape))
    long = [axis for axis, size in enumerate(seen.shape) if size > 1]
    own = [axis for axis, size in enumerate(shape) if size > 1]
    is_bias = len(long) <= 1 and len(own) <= 1
    if seen.size != int(np.prod(shape)) and not is_bias:
        raise TrainingError(
            f"{optimizer.kind} makes a step of all numbers of a weight at once; here it is held in several parts",
            where=view.initializer,
            hint="train it by another optimizer",
        )
    if len(long) != 2 or len(own) != 2:
        return None
    sizes = [1] * len(shape)
    sizes[own[0]] = shape[own[0]]
    rows = view.read(np.broadcast_to(np.arange(shape[own[0]]).reshape(sizes), shape))
    first, second = long
    if (rows == np.take(rows, [0], axis=second)).all():
        return first, second
    if (rows == np.take(rows, [0], axis=first)).all():
        return second, first
    raise TrainingError(
        f"{optimizer.kind} needs the rows and columns of a matrix, which are mixed here", where=view.initializer
    )


def to_checkpoint(source: Source, held: Held, sums: Iterable[str] = ()) -> dict[str, dict[str, np.ndarray]]:
    """Slot -> initializer -> array, of arrays by the framework's keys.

    An axis of one, along which a slot is the same, is made as long as the weight's. Both parts of a sum get what is
    remembered of the sum.
    """
    known, doubled = source.model.weights, set(sums)
    found: dict[str, dict[str, np.ndarray]] = {}
    for slot, arrays in held.items():
        chosen = {key: source.weights[key] for key in arrays}
        whole = {key: np.broadcast_to(array, _shape(chosen[key], known)) for key, array in arrays.items()}
        zeros = {view.initializer: np.zeros_like(known[view.initializer]) for w in chosen.values() for view in w.views}
        found[slot] = to_initializers(chosen, whole, zeros)
        for key in doubled & arrays.keys():
            for view in chosen[key].views[1:]:
                view.write(found[slot][view.initializer], whole[key])
    return found


def _shape(weight: Weight, known: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    return weight.views[0].read(known[weight.views[0].initializer]).shape


def restored(
    source: Source, spec: Any, weights: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], slots: Held
) -> Iterator[tuple[str, str, tuple[int, ...], np.ndarray | None]]:
    """Yield (slot, key, shape of the slot, its array or None where the checkpoint has none) of all that is remembered.

    Args:
        source: The written model.
        spec: The specification, whose mean of the weights is the slot "ema".
        weights: Framework key -> how the weight is trained (:func:`settings`).
        shapes: Framework key -> shape of the weight.
        slots: Those of a checkpoint.
    """
    optimizer = spec.optimizer
    for key, shape in shapes.items():
        settings = weights[key]
        wanted = {slot: optimizer.slot_shape(slot, shape, settings) for slot in optimizer.slots_of(settings)}
        if spec.ema is not None:
            wanted["ema"] = shape
        for slot, size in wanted.items():
            yield slot, key, size, from_checkpoint(source.weights[key], slots.get(slot), size)


def from_checkpoint(
    weight: Weight, arrays: Mapping[str, np.ndarray] | None, shape: tuple[int, ...]
) -> np.ndarray | None:
    """What a checkpoint holds in a slot for a weight of the framework; None where it holds nothing.

    Args:
        weight: How the framework's weight is made of those of the model.
        arrays: Initializer -> array of the slot.
        shape: The slot's; along an axis of one, a slot is the same.
    """
    if arrays is None or any(view.initializer not in arrays for view in weight.views):
        return None
    array = weight.views[0].read(arrays[weight.views[0].initializer])
    if array.shape != shape:
        array = array[tuple(slice(0, size) for size in shape)]
    return np.asarray(array, order="C")


def is_sum(source: Source, key: str) -> bool:
    """Whether a weight is the one bias that stands for two of a recurrent layer that both train."""
    views = source.weights[key].views
    nodes = [node for node in source.model.graph if node.metadata_props.get(traits.BIASES) == "two"]
    both = {value.name for node in nodes for value in node.inputs if value is not None}
    return len(views) > 1 and views[0].initializer in both
