"""Masks: Keras attaches one to a tensor, and gives it to the layers that ask for it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras import tracing

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.walker import Walker

#: Key in a value's ``meta`` of the mask that Keras attaches to it (a bool value).
MASK = "keras_mask"


def mask_of(value: Any) -> ir.Value | None:
    """The mask of a value, if it has one."""
    return value.meta.get(MASK) if isinstance(value, ir.Value) else None


def with_masks(layer: Any, args: tuple, kwargs: dict[str, Any], mask: Any) -> dict[str, Any]:
    """The keyword arguments with the masks that Keras puts among them when it calls a layer."""
    names = inspect.signature(layer.call).parameters
    given = inspect.signature(layer.call).bind_partial(*args, **kwargs).arguments
    tensors = {k: v for k, v in given.items() if any(isinstance(i, ir.Value) for i in tree.flatten(v))}
    found = dict(kwargs)
    if len(tensors) > 1:
        for name, value in tensors.items():
            if f"{name}_mask" in names and given.get(f"{name}_mask") is None:
                found[f"{name}_mask"] = tree.map_structure(mask_of, value)
    if layer._call_has_mask_arg and any(m is not None for m in tree.flatten(mask)):
        found["mask"] = mask
    return found


def makes_mask(layer: Any) -> bool:
    """Whether a layer may attach a mask where there was none."""
    return not tracing.is_own(type(layer)) or isinstance(
        layer, keras.layers.Embedding | keras.layers.Masking | keras.layers.Lambda
    )


def set_masks(walker: Walker, layer: Any, first: Any, mask: Any, result: Any) -> None:
    """Attach the masks that Keras would attach to the outputs of a layer."""
    values = tree.flatten(result)
    if not layer.supports_masking or all(MASK in v.meta for v in values if isinstance(v, ir.Value)):
        return
    masked = any(m is not None for m in tree.flatten(mask))
    default = type(layer).compute_mask is keras.layers.Layer.compute_mask
    if default or (not masked and not makes_mask(layer)):
        found = mask if masked and default else None
    else:
        with walker.build.at(f"{walker.build.path}_mask"):
            found = walker.trace(lambda x, m: layer.compute_mask(x, m), (first, mask), {}, flat=True)
    for value, one in zip(values, tree.flatten(found), strict=False):
        if isinstance(one, ir.Value) and MASK not in value.meta:
            value.meta[MASK] = one
