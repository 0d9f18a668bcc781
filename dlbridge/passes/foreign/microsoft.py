"""onnxruntime's fused activations, products, convolutions and normalizations."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlbridge.passes.foreign.site import Foreign, Results, rule
from dlbridge.passes.matching import producer

#: What onnxruntime takes where a fused normalization states no epsilon.
_EPSILON = 1e-12


# --- what the standard has by now under the same name -----------------------------------------------------------------


@rule("Gelu", "Trilu", "Range", "Pad", "GatherND", "QuantizeLinear", "DequantizeLinear")
def _same(site: Foreign) -> Results:
    return site.op(site.kind, "standard", site.node.inputs, **site.attributes())


@rule("LayerNormalization", domain="")
def _layer_norm(site: Foreign) -> Results:
    """onnxruntime had it before opset 17 did."""
    return site.many("LayerNormalization", "norm", site.node.inputs, len(site.node.outputs), **site.attributes())


@rule("SimplifiedLayerNormalization", domain="")
def _rms_norm(site: Foreign) -> Results:
    return site.op("RMSNormalization", "norm", [site.x, site.operand(1)], **site.attributes())


@rule("GridSample")
def _grid_sample(site: Foreign) -> Results:
    modes = {"bilinear": "linear", "bicubic": "cubic"}
    mode = site.get("mode", "bilinear")
    attributes = site.attributes(without=["mode"])
    return site.op("GridSample", "sampled", site.node.inputs, mode=modes.get(mode, mode), **attributes)


@rule("ExpandDims")
def _expand_dims(site: Foreign) -> Results:
    axis = int(site.array(1, "its axis").reshape(-1)[0])
    return site.with_axes(site.x, "expanded", axis)


# --- activations ------------------------------------------------------------------------------------------------------


@rule("BiasGelu")
def _bias_gelu(site: Foreign) -> Results:
    return site.op("Gelu", "gelu", [site.op("Add", "biased", [site.x, site.operand(1)])])


@rule("FastGelu")
def _fast_gelu(site: Foreign) -> Results:
    bias = site.input(1)
    x = site.x if bias is None else site.op("Add", "biased", [site.x, bias])
    return site.op("Gelu", "gelu", [x], approximate="tanh")


@rule("QuickGelu")
def _quick_gelu(site: Foreign) -> Results:
    return site.op("Swish", "swish", [site.x], alpha=site.get("alpha", 1.702))


def activated(site: Foreign, x: ir.Value, numbers: list[float]) -> ir.Value:
    """Apply the activation that a fused op names; ``numbers`` are its parameters."""
    kind = site.get("activation", "")
    if kind in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "HardSwish", "Elu"):
        names: tuple[str, ...] = ("alpha",) if kind == "Elu" else ()
    elif kind in ("LeakyRelu", "ThresholdedRelu"):
        names = ("alpha",)
    elif kind == "HardSigmoid":
        names = ("alpha", "beta")
    elif kind == "Clip":
        low, high = (site.scalar(what, number) for what, number in zip(("low", "high"), numbers, strict=True))
        return site.op("Clip", "clip", [x, low, high])
    else:
        site.needs(not kind, f"its activation {kind} is not known")
        return x
    return site.op(kind, kind.lower(), [x], **dict(zip(names, numbers, strict=False)))


# --- products and convolutions ----------------------------------------------------------------------------------------


@rule("FusedMatMul", "TransposeMatMul")
def _fused_matmul(site: Foreign) -> Results:
    site.needs(not site.get("transBatchA", 0) and not site.get("transBatchB", 0), "it moves the batch of an operand")
    operands = []
    for slot, name in ((0, "transA"), (1, "transB")):
        operand, axes = site.operand(slot), site.known_rank(slot)
        if site.get(name, 0) and axes > 1:
            operand = site.turned(operand, f"turned{slot}", *range(axes - 2), axes - 1, axes - 2)
        operands.append(operand)
    product, alpha = site.op("MatMul", "product", operands), site.get("alpha", 1.0)
    return product if alpha == 1 else site.op("Mul", "scaled", [product, site.scalar("alpha", alpha)])


@rule("FusedGemm")
def _fused_gemm(site: Foreign) -> Results:
    stated = [site.get(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    own = ("activation", "activation_alpha", "activation_beta", "activation_gamma")
    y = site.op("Gemm", "gemm", site.node.inputs, **site.attributes(without=own))
    return activated(site, y, [number for number in stated if number is not None])


@rule("FusedConv")
def _fused_conv(site: Foreign) -> Results:
    own = ("activation", "activation_params")
    y = site.op("Conv", "conv", site.node.inputs[:3], **site.attributes(without=own))
    added = site.input(3)
    y = y if added is None else site.op("Add", "sum", [y, added])
    return activated(site, y, list(site.get("activation_params", ())))


@rule("NhwcMaxPool")
def _nhwc_max_pool(site: Foreign) -> Results:
    return channels_first(site, lambda x: site.op("MaxPool", "pool", [x], **site.attributes()))


def channels_first(site: Foreign, compute: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Call ``compute`` on the first input in channels-first form, and bring its result back to channels-last."""
    axes = site.known_rank()
    x = site.turned(site.x, "channels_first", 0, axes - 1, *range(1, axes - 1))
    return site.turned(compute(x), "channels_last", 0, *range(2, axes), 1)


# --- normalizations ---------------------------------------------------------------------------------------------------


@rule("SkipLayerNormalization")
def _skip_layer_norm(site: Foreign) -> Results:
    total = _skipped(site, site.input(4))
    epsilon = site.get("epsilon", _EPSILON)
    y = site.op("LayerNormalization", "norm", [total, site.operand(2), site.input(3)], axis=-1, epsilon=epsilon)
    return y, None, None, total


@rule("SkipSimplifiedLayerNormalization")
def _skip_rms_norm(site: Foreign) -> Results:
    total = _skipped(site, site.input(3))
    epsilon = site.get("epsilon", _EPSILON)
    return site.op("RMSNormalization", "norm", [total, site.operand(2)], axis=-1, epsilon=epsilon), None, None, total


def _skipped(site: Foreign, bias: ir.Value | None) -> ir.Value:
    """The sum of the first two inputs, and of the bias of the product that one of them may be."""
    terms = [site.x, site.operand(1)]
    if bias is not None:
        of = 1 if producer(terms[1], "MatMul") is not None else 0
        terms[of] = site.op("Add", "biased", [terms[of], bias])
    return site.op("Add", "sum", terms)


@rule("EmbedLayerNormalization")
def _embed_layer_norm(site: Foreign) -> Results:
    """The normalised sum of the embeddings of words, positions and segments; and the length of each sequence."""
    ids, segments, places, mask = site.x, site.input(1), site.input(8), site.input(7)
    words = site.op("Gather", "words", [site.operand(2), ids], axis=0)
    if places is None:
        bounds = [site.constant("first", [0]), site.size_of(ids, 1, "length"), site.constant("along", [0])]
        positions = site.op("Slice", "positions", [site.operand(3), *bounds])
    else:
        positions = site.op("Gather", "positions", [site.operand(3), places], axis=0)
    total = site.op("Add", "words_at_places", [words, positions])
    if segments is not None:
        total = site.op("Add", "embedded", [total, site.op("Gather", "kinds", [site.operand(4), segments], axis=0)])
    epsilon = site.get("epsilon", _EPSILON)
    y = site.op("LayerNormalization", "norm", [total, site.operand(5), site.operand(6)], axis=-1, epsilon=epsilon)
    lengths = None
    if site.is_read(1):
        site.needs(mask is not None, "its mask is read, and it is given none")
        lengths = site.op("ReduceSum", "lengths", [mask, site.constant("steps", [1])], keepdims=0)
    return y, lengths, total


# --- rotary embedding -------------------------------------------------------------------------------------------------


@rule("RotaryEmbedding")
def _rotary_embedding(site: Foreign) -> Results:
    site.needs(site.get("scale", 1.0) == 1, "it scales")
    site.needs(not site.get("is_packed_batching", 0), "its batch is packed")
    heads = site.get("num_heads", 0)
    if site.known_rank() == 3 and not heads:
        heads = site.size(0, 2) // (2 * site.size(2, 1))
    places = site.operand(1)
    if site.known_rank(1) == 1 or site.static_size(1, 0) == 1 == site.known_rank(1):
        places = _counted_from(site, places)
    attributes = {
        "interleaved": site.get("interleaved", 0),
        "rotary_embedding_dim": site.get("rotary_embedding_dim", 0),
    }
    return rotated(site, site.x, places, site.operand(2), site.operand(3), "rotated", num_heads=heads, **attributes)


def rotated(
    site: Foreign, x: ir.Value, places: ir.Value, cos: ir.Value, sin: ir.Value, what: str, **attributes: int
) -> ir.Value:
    """The standard's RotaryEmbedding, with its attributes where they say something."""
    return site.op("RotaryEmbedding", what, [x, cos, sin, places], **{k: v for k, v in attributes.items() if v})


def _counted_from(site: Foreign, first: ir.Value) -> ir.Value:
    """The places of all steps of all rows, from the place of the first step on."""
    step = 1 if site.known_rank() == 3 else 2
    counted = site.range_to(site.size_of(site.x, step, "length"), "steps")
    places = site.op("Add", "places", [counted, first])
    sizes = [site.size_of(site.x, 0, "rows"), site.constant("any", [1])]
    return site.op("Expand", "places_of_rows", [places, site.op("Concat", "rows_shape", sizes, axis=0)])
