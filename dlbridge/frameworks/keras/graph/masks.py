"""Masks: Keras attaches them to tensors, and passes them to layers that have an argument for them.

A mask belongs to the tensor, not to a name of it: a layer that gives back its input (``Dropout`` at inference) gives
back its mask too, and ``MultiHeadAttention`` takes the masks off the tensors that it is given, for whoever reads them
next. What is said here holds of the values of a graph and, while code is recorded, of the tensors that stand for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras import compat
from dlbridge.frameworks.keras.tracing.recording import Carried, TracedTensor
from dlbridge.ops import traits

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.graph.graph_reader import GraphReader

#: Key in a value's ``meta`` of the mask that the tensor has in Keras.
_CARRIED = "keras_carried"

#: Layers that return their input itself at inference.
_TRANSPARENT = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


# --- what a tensor carries --------------------------------------------------------------------------------------------


def carried(item: ir.Value | TracedTensor) -> Carried:
    """The holder of the mask of a value, or of a recorded tensor."""
    return item.carried if isinstance(item, TracedTensor) else item.meta.setdefault(_CARRIED, Carried())


def mask_of(item: Any) -> Any:
    """The mask (a bool value) of a value or a recorded tensor; None if it has none."""
    return carried(item).mask if isinstance(item, (ir.Value, TracedTensor)) else None


def set_mask(item: ir.Value, mask: ir.Value | None) -> None:
    carried(item).mask = mask
    if isinstance(mask, ir.Value):
        name(mask)


def name(mask: ir.Value) -> None:
    """Call a mask that is computed so, in what is written."""
    if mask.producer() is not None:
        mask.metadata_props.setdefault(traits.VARIABLE, "mask")


def carry(item: ir.Value | TracedTensor, what: Carried) -> None:
    """Let a value share this mask, as another Python object for the same tensor does."""
    if isinstance(item, TracedTensor):
        item.carried = what
    else:
        item.meta[_CARRIED] = what


# --- what a call is given ---------------------------------------------------------------------------------------------


def call_mask(layer: Any, args: tuple, kwargs: dict[str, Any], explicit: Any) -> Any:
    """The argument ``mask`` of a layer's ``call``: the one that is given, else that of the only tensor among the
    arguments."""
    if explicit is not None or not layer._call_has_mask_arg:
        return explicit
    tensors = _tensor_arguments(layer, args, kwargs)
    return tree.map_structure(mask_of, next(iter(tensors.values()))) if len(tensors) == 1 else None


def with_masks(layer: Any, args: tuple, kwargs: dict[str, Any], mask: Any) -> dict[str, Any]:
    """The keyword arguments with the masks that Keras puts among them when it calls a layer."""
    parameters = inspect.signature(layer.call).parameters
    given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    tensors = _tensor_arguments(layer, args, kwargs)
    found = dict(kwargs)
    if len(tensors) > 1:
        for name, value in tensors.items():
            if f"{name}_mask" in parameters and given.get(f"{name}_mask") is None:
                found[f"{name}_mask"] = tree.map_structure(mask_of, value)
    if layer._call_has_mask_arg and any(m is not None for m in tree.flatten(mask)):
        found["mask"] = mask
    return found


def _tensor_arguments(layer: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    return {name: value for name, value in given.items() if any(_is_tensor(item) for item in tree.flatten(value))}


def _is_tensor(item: Any) -> bool:
    return isinstance(item, (ir.Value, keras.KerasTensor)) or keras.ops.is_tensor(item)


# --- what a call does to masks ----------------------------------------------------------------------------------------


def after_call(layer: Any, args: tuple, kwargs: dict[str, Any], outputs: Sequence[Any]) -> None:
    """Apply what a layer's ``call`` does to the masks of its arguments, also by returning one of them."""
    if _takes_masks_off(layer):
        given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
        for name in ("query", "value", "key"):
            if isinstance(given.get(name), (ir.Value, TracedTensor)):
                carried(given[name]).mask = None
    first = next(iter((*args, *kwargs.values())), None)
    if _is_transparent(layer) and isinstance(first, (ir.Value, TracedTensor)) and first.dtype == outputs[0].dtype:
        carry(outputs[0], carried(first))


def _takes_masks_off(layer: Any) -> bool:
    attention = keras.layers.MultiHeadAttention
    return isinstance(layer, attention) and type(layer).call is attention.call


def _is_transparent(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.linear and type(layer).call is keras.layers.Activation.call
    return any(isinstance(layer, kind) and type(layer).call is kind.call for kind in _TRANSPARENT)


def may_set_masks(layer: Any, inputs: Sequence[Any]) -> bool:
    """Whether the code of an opened layer may set masks other than by ``compute_mask``."""
    if type(layer).__name__ == "ReversibleEmbedding":
        return layer.mask_zero
    is_graph = isinstance(layer, (compat.Functional, compat.Sequential))
    if compat.is_from_keras(type(layer)) and not is_graph:
        return False
    if any(mask_of(item) is not None for item in inputs):
        return True
    return any(makes_mask(one) or _speaks_of_masks(type(one)) for one in layer._flatten_layers())


def _speaks_of_masks(kind: type) -> bool:
    codes = [
        f.__code__
        for base in kind.__mro__
        if not compat.is_from_keras(base)
        for f in vars(base).values()
        if inspect.isfunction(f)
    ]
    return any({"set_keras_mask", "_keras_mask"} & {*code.co_names, *code.co_consts} for code in codes)


def makes_mask(layer: Any) -> bool:
    """Whether a layer may attach a mask where there was none."""
    if isinstance(layer, keras.layers.Embedding):
        return layer.mask_zero or type(layer).compute_mask is not keras.layers.Embedding.compute_mask
    return not compat.is_from_keras(type(layer)) or isinstance(layer, keras.layers.Masking | keras.layers.Lambda)


def set_masks(reader: GraphReader, layer: Any, first: Any, mask: Any, result: Any) -> None:
    """Attach the masks that Keras attaches to the outputs of a layer after its ``call``.

    Args:
        reader: Runs ``compute_mask``.
        layer: The layer.
        first: Its first argument.
        mask: The mask that was given to it; where none was, that of its first argument, before the call.
        result: Its outputs.
    """
    values = [v for v in tree.flatten(result) if isinstance(v, ir.Value)]
    if type(layer).__name__ == "ReversibleEmbedding" and compat.is_from_keras(type(layer)) and layer.mask_zero:
        if values and values[0].shape is not None and len(values[0].shape) != len(first.shape):
            set_mask(values[0], _computed(reader, layer, keras.layers.Embedding.compute_mask, first, None))
        return
    if not layer.supports_masking or all(mask_of(v) is not None for v in values):
        return
    masked = any(m is not None for m in tree.flatten(mask))
    default = type(layer).compute_mask is keras.layers.Layer.compute_mask
    if default or (not masked and not makes_mask(layer)):
        found = mask if masked and default else None
    else:
        found = _computed(reader, layer, type(layer).compute_mask, first, mask)
    for value, one in zip(values, tree.flatten(found), strict=False):
        if isinstance(one, ir.Value) and mask_of(value) is None:
            set_mask(value, one)


def _computed(reader: GraphReader, layer: Any, function: Any, first: Any, mask: Any) -> Any:
    with reader.build.at(f"{reader.build.path}_mask"):
        return reader.run_code(layer, lambda holder, *given: function(holder, *given), (first, mask))
