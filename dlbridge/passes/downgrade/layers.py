"""Rules for layers that older opsets lack, where the function body of the standard is not what is written.

The bodies of LayerNormalization and GroupNormalization take the variance as E[x^2] - E[x]^2, which loses digits; that
of RotaryEmbedding splits by lengths that are computed, which shape inference takes for equal ones; that of Attention
has 60 nodes where 12 do. Gelu, Swish and RMSNormalization are written in the shorter form that onnxruntime fuses.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.downgrade.site import ALWAYS, CannotDowngradeError, Old, replace

# --- activations ----------------------------------------------------------------------------------------------------


@replace("Gelu", below=20)
def _gelu(site: Old) -> ir.Value:
    half, one = site.scalar("half", 0.5), site.scalar("one", 1.0)
    if site.get("approximate", "none") == "none":  # 0.5 x (1 + erf(x / sqrt 2))
        inner = site.op("Erf", "erf", [site.op("Div", "scaled", [site.x, site.scalar("sqrt_2", math.sqrt(2))])])
    else:  # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
        cube = site.op("Pow", "cube", [site.x, site.scalar("three", 3.0)])
        sum_ = site.op("Add", "sum", [site.x, site.op("Mul", "part", [site.scalar("factor", 0.044715), cube])])
        scaled = site.op("Mul", "scaled", [site.scalar("sqrt_2_pi", math.sqrt(2 / math.pi)), sum_])
        inner = site.op("Tanh", "tanh", [scaled])
    return site.op("Mul", "halved", [site.op("Mul", "mul", [site.x, site.op("Add", "add", [inner, one])]), half])


@replace("Swish", below=24)
def _swish(site: Old) -> ir.Value:
    alpha = site.get("alpha", 1.0)
    inner = site.x if alpha == 1.0 else site.op("Mul", "scaled", [site.x, site.scalar("alpha", alpha)])
    return site.op("Mul", "mul", [site.x, site.op("Sigmoid", "sigmoid", [inner])])


# --- normalization --------------------------------------------------------------------------------------------------


def _normalized(site: Old, x: ir.Value, axes: list[int]) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(x - mean) / sqrt(variance + epsilon) over axes, the mean, and the reciprocal of the root; in ``stash_type``."""
    stash = ir.DataType(site.get("stash_type", 1))
    if stash != site.dtype():
        x = site.op("Cast", "stashed", [x], to=int(stash))
    over = site.constant("axes", axes)
    mean = site.op("ReduceMean", "mean", [x, over])
    difference = site.op("Sub", "difference", [x, mean])
    variance = site.op("ReduceMean", "variance", [site.op("Mul", "square", [difference, difference]), over])
    epsilon = site.scalar("epsilon", site.get("epsilon", 1e-5), stash)
    deviation = site.op("Sqrt", "deviation", [site.op("Add", "sum", [variance, epsilon])])
    normalized = site.op("Div", "normalized", [difference, deviation])
    inverse = site.op("Reciprocal", "inverse", [deviation])
    if stash != site.dtype():
        normalized = site.op("Cast", "cast", [normalized], to=int(site.dtype()))
    return normalized, mean, inverse


@replace("LayerNormalization", below=17)
def _layer_norm(site: Old) -> tuple[ir.Value | None, ...]:
    axis = site.get("axis", -1)
    axes = list(range(axis, 0)) if axis < 0 else list(range(axis, site.known_rank()))
    y, mean, inverse = _normalized(site, site.x, axes)
    y = site.op("Mul", "scaled", [y, site.input(1)])
    bias = site.input(2)
    return (site.op("Add", "shifted", [y, bias]) if bias is not None else y), mean, inverse


@replace("RMSNormalization", below=23)
def _rms_norm(site: Old) -> ir.Value:
    axis, stash = site.get("axis", -1), ir.DataType(site.get("stash_type", 1))
    axes = list(range(axis, 0)) if axis < 0 else list(range(axis, site.known_rank()))
    x = site.x if stash == site.dtype() else site.op("Cast", "stashed", [site.x], to=int(stash))
    mean = site.op("ReduceMean", "mean", [site.op("Mul", "square", [x, x]), site.constant("axes", axes)])
    epsilon = site.scalar("epsilon", site.get("epsilon", 1e-5), stash)
    root = site.op("Sqrt", "root", [site.op("Add", "sum", [mean, epsilon])])
    y = site.op("Div", "normalized", [x, root])
    if stash != site.dtype():
        y = site.op("Cast", "cast", [y], to=int(site.dtype()))
    return site.op("Mul", "scaled", [y, site.input(1)])


@replace("GroupNormalization", below=21)
def _group_norm(site: Old) -> ir.Value:
    # 18 has the op, but with one scale for each group, not for each channel
    grouped = site.op("Reshape", "grouped", [site.x, site.constant("groups", [0, site.get("num_groups"), -1])])
    y, _, _ = _normalized(site, grouped, [2])
    y = site.op("Reshape", "ungrouped", [y, site.op("Shape", "shape", [site.x])])
    channel = site.constant("channel", [-1] + [1] * (site.known_rank() - 2))
    y = site.op("Mul", "scaled", [y, site.op("Reshape", "scale", [site.input(1), channel])])
    return site.op("Add", "shifted", [y, site.op("Reshape", "bias", [site.input(2), channel])])


# --- attention ------------------------------------------------------------------------------------------------------


@replace("Attention", below=23)
def _attention(site: Old) -> ir.Value | None:
    """softmax(q k^T scale [+ causal mask]) v, for as many key heads as query heads; the rest is the standard's body."""
    special = ("softcap", "softmax_precision", "qk_matmul_output_mode")
    inputs = site.node.inputs
    more = any(v is not None for v in inputs[3:]) or any(site.is_read(i) for i in range(1, len(site.node.outputs)))
    windows = any(site.get(name, -1) >= 0 for name in ("left_window_size", "right_window_size"))
    if more or windows or any(site.get(name, 0) for name in special):
        return None
    shapes = [v.shape for v in inputs[:3] if v is not None and v.shape is not None]
    if len(shapes) < 3 or not isinstance(shapes[0][-1], int):
        return None
    flat, names = len(shapes[0]) == 3, ("q", "k", "v")  # (batch, step, heads * size), not (batch, heads, step, size)
    heads = (site.get("q_num_heads"), site.get("kv_num_heads")) if flat else (shapes[0][1], shapes[1][1])
    if heads[0] != heads[1] or not isinstance(heads[0], int):
        return None
    q, k, v = inputs[:3]
    if flat:
        split = site.constant("head_shape", [0, 0, heads[0], -1])
        rows = [site.op("Reshape", f"{n}_heads", [x, split]) for n, x in zip(names, inputs[:3], strict=True)]
        q, v = (site.op("Transpose", n, [x], perm=[0, 2, 1, 3]) for n, x in (("q", rows[0]), ("v", rows[2])))
        k = rows[1]
    size = shapes[0][-1] // (heads[0] if flat else 1)
    scale = site.scalar("scale", site.get("scale") or 1 / math.sqrt(size))
    keys = site.op("Transpose", "k", [k], perm=[0, 2, 3, 1] if flat else [0, 1, 3, 2])
    scores = site.op("MatMul", "scores", [site.op("Mul", "scaled", [q, scale]), keys])
    if site.get("is_causal", 0):
        scores = site.op("Add", "masked", [scores, _future(site, scores)])
    y = site.op("MatMul", "mixed", [site.op("Softmax", "weights", [scores], axis=-1), v])
    if not flat:
        return y
    rows_first = site.op("Transpose", "rows", [y], perm=[0, 2, 1, 3])
    return site.op("Reshape", "joined", [rows_first, site.constant("flat_shape", [0, 0, -1])])


def _future(site: Old, scores: ir.Value) -> ir.Value:
    """Minus infinity above the diagonal of the last two axes of ``scores``, 0 elsewhere."""
    sizes = site.op("Shape", "sizes", [scores], start=2)
    infinity = ir.tensor([-math.inf], dtype=site.dtype())
    full = site.op("ConstantOfShape", "infinity", [sizes], value=infinity)
    return site.op("Trilu", "future", [full, site.constant("above", 1)], upper=1)


# --- rotary embedding -----------------------------------------------------------------------------------------------


@replace("RotaryEmbedding", below=23)
def _rotary_embedding(site: Old) -> ir.Value:
    """(x1, x2) -> (cos x1 - sin x2, sin x1 + cos x2), of the halves of a head or of its neighbours (interleaved)."""
    heads, interleaved = site.get("num_heads", 0), site.get("interleaved", 0)
    x, size, behind = site.x, site.static_size(0, -1), 1  # (batch, heads, step, size): angles get an axis for the heads
    if site.known_rank() == 3:  # (batch, step, heads * size)
        x = site.op("Reshape", "heads", [x, site.constant("head_shape", [0, 0, heads, -1])])
        size, behind = size // heads if size is not None else None, 2
    if size is None:
        raise CannotDowngradeError("the size of a head is not known")
    turned = site.get("rotary_embedding_dim", 0) or size
    x, rest = site.split(x, [turned, size - turned]) if turned < size else (x, None)
    angles = [_angles(site, slot, what, turned // 2, behind) for slot, what in ((1, "cos"), (2, "sin"))]
    if interleaved:
        x = site.op("Reshape", "pairs", [x, site.constant("pair_shape", [0, 0, 0, -1, 2])])
        last = site.constant("last", [-1])
        angles = [
            site.op("Unsqueeze", f"{what}_pairs", [a, last]) for what, a in zip(("cos", "sin"), angles, strict=True)
        ]
    cos, sin = angles
    x1, x2 = site.split(x, [1, 1] if interleaved else [turned // 2] * 2, "halves")
    cos_x1, sin_x2 = site.op("Mul", "cos_x1", [cos, x1]), site.op("Mul", "sin_x2", [sin, x2])
    sin_x1, cos_x2 = site.op("Mul", "sin_x1", [sin, x1]), site.op("Mul", "cos_x2", [cos, x2])
    y = [site.op("Sub", "real", [cos_x1, sin_x2]), site.op("Add", "imaginary", [sin_x1, cos_x2])]
    if interleaved:
        joined = site.op("Concat", "joined", y, axis=-1)
        y = [site.op("Reshape", "unpaired", [joined, site.constant("flat_shape", [0, 0, 0, turned])])]
    y = [*y, *([rest] if rest is not None else [])]
    result = site.op("Concat", "turned", y, axis=-1) if len(y) > 1 else y[0]
    return result if behind == 1 else site.op("Reshape", "flat", [result, site.constant("shape", [0, 0, -1])])


def _angles(site: Old, slot: int, what: str, half: int, behind: int) -> ir.Value:
    """Cosines or sines of each step, (batch, step, half), with an axis for the heads."""
    cache, positions = site.input(slot), site.input(3)
    assert cache is not None
    if positions is not None:
        cache = site.op("Gather", f"{what}_of_steps", [cache, positions])
    known = cache.shape is not None and cache.shape[-1] == half
    if not known:
        bounds = [site.constant(f"{what}_{n}", [v]) for n, v in (("from", 0), ("to", half), ("along", -1))]
        cache = site.op("Slice", f"{what}_half", [cache, *bounds])
    return site.op("Unsqueeze", what, [cache, site.constant(f"{what}_axis", [behind])])


# --- recurrent ------------------------------------------------------------------------------------------------------


@replace("RNN", "GRU", "LSTM", below=ALWAYS)
def _batch_first(site: Old) -> tuple[ir.Value | None, ...] | None:
    """``layout=1`` as transposes round ``layout=0``: onnxruntime has no kernel for it at any opset."""
    if not site.get("layout", 0):
        return None
    inputs = list(site.node.inputs)
    for slot, what in ((0, "x"), (5, "initial_h"), (6, "initial_c")):
        if slot < len(inputs) and inputs[slot] is not None:
            inputs[slot] = site.op("Transpose", what, [inputs[slot]], perm=[1, 0, 2])
    attributes = site.attributes(without=["layout"])
    made = site.many(op_key(site.node), "cell", inputs, len(site.node.outputs), **attributes)
    perms = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])
    return tuple(
        site.op("Transpose", f"batch_first_{i}", [value], perm=perms[i]) if site.is_read(i) else None
        for i, value in enumerate(made)
    )
