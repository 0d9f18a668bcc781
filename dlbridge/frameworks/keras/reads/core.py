"""Dense, embeddings, and the layers that do nothing at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlbridge.frameworks.keras.graph.call_site import CallSite, layer, operation
from dlbridge.ops.extension import DOMAIN


@layer("Dense")
def dense(site: CallSite) -> Any:
    """A product with the kernel along the last axis."""
    kind = site.layer
    weight = site.weight(kind._kernel, "weight", ("transpose", (1, 0)))
    bias = [] if kind.bias is None else [site.weight(kind.bias, "bias")]
    return site.activation(site.layer_op("Linear", site.x_as_float, weight, *bias, domain=DOMAIN), kind.activation)


@layer("Weight")
def weight(site: CallSite) -> Any:
    variable = site.layer.value
    return site.computed(site.build.weight(variable, site.build.path, (), not variable.trainable))


@layer("EinsumDense")
def einsum_dense(site: CallSite) -> Any:
    kind = site.layer
    if _is_dense(kind):
        return dense(site)
    weight = site.weight(kind._kernel, "weight")
    equation = kind.equation.replace(" ", "")
    x = site.layer_op("Einsum", site.x_as_float, weight, equation=equation)
    if kind.bias is not None:
        x = x + site.weight(kind.bias, "bias")
    return site.activation(x, kind.activation)


def _is_dense(kind: Any) -> bool:
    """Whether an EinsumDense is ``...ab,bc->...ac``, which a Dense computes."""
    inputs, _, output = kind.equation.replace(" ", "").partition("->")
    left, right = inputs.split(",")
    if "..." in right or any(spec.endswith("...") for spec in (left, output)):
        return False
    left, output = left.replace("...", ""), output.replace("...", "")
    is_product = len(right) == 2 and left[-1:] == right[0] and output == left[:-1] + right[1] and right[0] not in output
    return is_product and (kind.bias is None or len(kind.bias.shape) == 1)


@layer("Embedding")
def embedding(site: CallSite) -> Any:
    indices = site.x if site.x.dtype.is_integer() else site.cast(site.x, "int32")
    weight = site.weight(site.layer._embeddings, "weight")
    return site.layer_op("Embedding", indices, weight, domain=DOMAIN)


@layer("ReversibleEmbedding", arguments=True)
def reversible_embedding(site: CallSite) -> Any:
    kind = site.layer
    reverse = site.args[1] if len(site.args) > 1 else site.kwargs.get("reverse", False)
    if not reverse:
        return embedding(site)
    if kind.reverse_dtype not in (None, kind.compute_dtype):
        site.refuse(f"its reverse_dtype '{kind.reverse_dtype}'")
    if kind.tie_weights:
        weight = site.weight(kind._embeddings, "weight")
    else:
        weight = site.weight(kind.reverse_embeddings, "reverse", ("transpose", (1, 0)))
    logits = site.op("Linear", site.x, weight, domain=DOMAIN)
    cap = getattr(kind, "logit_soft_cap", None)
    if cap is None:
        return logits
    return site.op("Tanh", logits / cap) * cap


@layer("Identity", "ActivityRegularization", masks=True)
def identity(site: CallSite) -> Any:
    return site.layer_op("Identity", site.x)


@layer("Dropout", masks=True)
def dropout(site: CallSite) -> Any:
    axes = _shared_axes(site)
    if axes:
        return site.layer_op("BroadcastDropout", site.x, domain=DOMAIN, ratio=site.layer.rate, axes=axes)
    return site.layer_op("Dropout", site.x, np.float32(site.layer.rate))


def _shared_axes(site: CallSite) -> list[int]:
    """The axes along which the layer's noise has the size 1."""
    noise = site.layer.noise_shape or ()
    if noise and len(noise) != site.rank():
        site.refuse(f"its noise_shape {noise} is not of the rank of its input")
    return [axis for axis, size in enumerate(noise) if size == 1]


@layer("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", masks=True)
def spatial_dropout(site: CallSite) -> Any:
    first = 2 if getattr(site.layer, "data_format", None) == "channels_first" else 1
    axes = range(first, first + site.rank() - 2)
    return site.layer_op("BroadcastDropout", site.x, domain=DOMAIN, ratio=site.layer.rate, axes=list(axes))


@layer("StochasticDepth", masks=True)
def stochastic_depth(site: CallSite) -> Any:
    """``LayerScale`` of ``keras.applications.convnext``."""
    axes = list(range(1, site.rank()))
    return site.layer_op("BroadcastDropout", site.x, domain=DOMAIN, ratio=site.layer.drop_path_rate, axes=axes)


@layer("AlphaDropout", masks=True)
def alpha_dropout(site: CallSite) -> Any:
    axes = _shared_axes(site) or None
    return site.layer_op("AlphaDropout", site.x, domain=DOMAIN, ratio=site.layer.rate, axes=axes)


@layer("GaussianDropout", masks=True)
def gaussian_dropout(site: CallSite) -> Any:
    return site.layer_op("GaussianDropout", site.x, domain=DOMAIN, ratio=site.layer.rate)


@layer("GaussianNoise", masks=True)
def gaussian_noise(site: CallSite) -> Any:
    return site.layer_op("GaussianNoise", site.x, domain=DOMAIN, stddev=site.layer.stddev)


@layer("Activation", masks=True)
def activation(site: CallSite) -> Any:
    return site.activation(site.x, site.layer.activation)


#: Layers that call a few functions of ``keras.ops``.
_BY_CODE = (
    *("ReLU", "LeakyReLU", "ELU", "Softmax", "Permute", "Reshape"),
    *("CenterCrop", "MelSpectrogram", "Normalization", "Resizing"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"),
    *(f"{name}{rank}D" for rank in (1, 2, 3) for name in ("Cropping", "ZeroPadding", "MaxPooling", "AveragePooling")),
    *(f"Adaptive{name}Pooling{rank}D" for rank in (1, 2, 3) for name in ("Average", "Max")),
)


@layer(*_BY_CODE, masks=True, arguments=True)
def by_code(site: CallSite) -> Any:
    """What the layer's own code makes of these functions."""
    return site.reader.inline(site)


#: Operations whose code in Keras calls other functions of ``keras.ops``.
_OPERATIONS_BY_CODE = ("CDist", "CropImages", "ExtractPatches", "PadImages", "SaturateCast")


@operation(*_OPERATIONS_BY_CODE)
def operation_by_code(site: CallSite, *args: Any, **kwargs: Any) -> Any:
    """What Keras' own code makes of these functions."""
    return site.reader.inline(site)
