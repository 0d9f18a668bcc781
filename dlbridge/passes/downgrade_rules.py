"""What ``downgrade`` must know of single ops: where a form or a meaning has changed since the opset that is written.

``@replace`` rules build other nodes, in the form of ``IR_OPSET`` (they are lowered in turn), and return the values that
take the place of the node's outputs, or None where the op can stay. ``@adapt`` rules change a node into its older form
in place; they run when nothing is left to replace.

Where the standard gives an op a function body there is no rule, with these exceptions: the bodies of LayerNormalization
and GroupNormalization take the variance as E[x^2] - E[x]^2, which loses digits, so the two-pass form is written; Gelu,
Swish and RMSNormalization are written in the shorter form that onnxruntime fuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.passes.upgrade import Site


class CannotDowngradeError(Exception):
    """An op cannot be said at the opset that is written. ``lowest`` is the opset that can, where the rule knows."""

    def __init__(self, why: str, lowest: int | None = None) -> None:
        super().__init__(why)
        self.lowest = lowest


class Old(Site):
    """A node that is brought to the older opset ``opset``."""

    def __init__(self, node: ir.Node, opset: int) -> None:
        assert node.graph is not None
        super().__init__(node, node.graph)
        self.opset = opset

    @property
    def x(self) -> ir.Value:
        value = self.input(0)
        assert value is not None
        return value

    def number(self, what: str, number: float, dtype: ir.DataType | None = None) -> ir.Value:
        """A scalar constant of the dtype of the first input, or of ``dtype``."""
        return self.constant(what, number, dtype or self.dtype())

    def rank(self, slot: int = 0) -> int:
        value = self.input(slot)
        if value is None or value.shape is None:
            raise CannotDowngradeError("the rank of its input is not known")
        return len(value.shape)

    def size(self, axis: int) -> int | None:
        """Size of an axis of the first input, where it is known."""
        size = self.x.shape[axis] if self.x.shape is not None else None
        return size if isinstance(size, int) else None

    def many(
        self, op_type: str, what: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        """The outputs of a new node that has several."""
        made = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=f"{self.node.name}_{what}")
        for index, value in enumerate(made.outputs):
            value.name = f"{self.node.name}_{what}_{index}"
        self._graph.insert_before(self.node, made)
        return made.outputs

    def split(self, x: ir.Value, parts: list[int], what: str = "parts") -> Sequence[ir.Value]:
        """``x`` in parts of these sizes along its last axis."""
        sizes = self.constant(f"{what}_sizes", parts)
        return self.many("Split", what, [x, sizes], len(parts), axis=-1)

    def is_read(self, output: int) -> bool:
        outputs = self.node.outputs
        return output < len(outputs) and bool(outputs[output].uses() or outputs[output].is_graph_output())


Replace = Callable[[Old], "ir.Value | tuple[ir.Value | None, ...] | None"]
Adapt = Callable[[Old], None]
#: op type -> [(opset below which the rule applies, rule)].
REPLACE: dict[str, list[tuple[int, Replace]]] = {}
ADAPT: dict[str, list[tuple[int, Adapt]]] = {}
#: op type -> attribute -> value -> the lowest opset that has this value.
VALUES: dict[str, dict[str, dict[Any, int]]] = {
    "Pad": {"mode": {"wrap": 19}},
    "Resize": {"coordinate_transformation_mode": {"half_pixel_symmetric": 19}},
    "ScatterElements": {"reduction": {"add": 16, "mul": 16, "max": 18, "min": 18}},
    "ScatterND": {"reduction": {"add": 16, "mul": 16, "max": 18, "min": 18}},
}
_ALWAYS = 1 << 16


def replace(*op_types: str, below: int) -> Callable[[Replace], Replace]:
    def register(rule: Replace) -> Replace:
        for op_type in op_types:
            REPLACE.setdefault(op_type, []).append((below, rule))
        return rule

    return register


def adapt(*op_types: str, below: int) -> Callable[[Adapt], Adapt]:
    def register(rule: Adapt) -> Adapt:
        for op_type in op_types:
            ADAPT.setdefault(op_type, []).append((below, rule))
        return rule

    return register


# --- activations ----------------------------------------------------------------------------------------------------


@replace("Gelu", below=20)
def _gelu(site: Old) -> ir.Value:
    half, one = site.number("half", 0.5), site.number("one", 1.0)
    if site.get("approximate", "none") == "none":  # 0.5 x (1 + erf(x / sqrt 2))
        inner = site.op("Erf", "erf", [site.op("Div", "scaled", [site.x, site.number("sqrt_2", math.sqrt(2))])])
    else:  # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
        cube = site.op("Pow", "cube", [site.x, site.number("three", 3.0)])
        sum_ = site.op("Add", "sum", [site.x, site.op("Mul", "part", [site.number("factor", 0.044715), cube])])
        scaled = site.op("Mul", "scaled", [site.number("sqrt_2_pi", math.sqrt(2 / math.pi)), sum_])
        inner = site.op("Tanh", "tanh", [scaled])
    return site.op("Mul", "halved", [site.op("Mul", "mul", [site.x, site.op("Add", "add", [inner, one])]), half])


@replace("Swish", below=24)
def _swish(site: Old) -> ir.Value:
    alpha = site.get("alpha", 1.0)
    inner = site.x if alpha == 1.0 else site.op("Mul", "scaled", [site.x, site.number("alpha", alpha)])
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
    epsilon = site.number("epsilon", site.get("epsilon", 1e-5), stash)
    deviation = site.op("Sqrt", "deviation", [site.op("Add", "sum", [variance, epsilon])])
    normalized = site.op("Div", "normalized", [difference, deviation])
    inverse = site.op("Reciprocal", "inverse", [deviation])
    if stash != site.dtype():
        normalized = site.op("Cast", "cast", [normalized], to=int(site.dtype()))
    return normalized, mean, inverse


@replace("LayerNormalization", below=17)
def _layer_norm(site: Old) -> tuple[ir.Value | None, ...]:
    axis = site.get("axis", -1)
    axes = list(range(axis, 0)) if axis < 0 else list(range(axis, site.rank()))
    y, mean, inverse = _normalized(site, site.x, axes)
    y = site.op("Mul", "scaled", [y, site.input(1)])
    bias = site.input(2)
    return (site.op("Add", "shifted", [y, bias]) if bias is not None else y), mean, inverse


@replace("RMSNormalization", below=23)
def _rms_norm(site: Old) -> ir.Value:
    axis, stash = site.get("axis", -1), ir.DataType(site.get("stash_type", 1))
    axes = list(range(axis, 0)) if axis < 0 else list(range(axis, site.rank()))
    x = site.x if stash == site.dtype() else site.op("Cast", "stashed", [site.x], to=int(stash))
    mean = site.op("ReduceMean", "mean", [site.op("Mul", "square", [x, x]), site.constant("axes", axes)])
    epsilon = site.number("epsilon", site.get("epsilon", 1e-5), stash)
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
    channel = site.constant("channel", [-1] + [1] * (site.rank() - 2))
    y = site.op("Mul", "scaled", [y, site.op("Reshape", "scale", [site.input(1), channel])])
    return site.op("Add", "shifted", [y, site.op("Reshape", "bias", [site.input(2), channel])])


# --- rotary embedding -----------------------------------------------------------------------------------------------


@replace("RotaryEmbedding", below=23)
def _rotary_embedding(site: Old) -> ir.Value:
    """(x1, x2) -> (cos x1 - sin x2, sin x1 + cos x2), of the halves of a head or of its neighbours (interleaved).

    The standard's body splits by lengths that are computed, which shape inference takes for equal ones.
    """
    heads, interleaved = site.get("num_heads", 0), site.get("interleaved", 0)
    x, size, behind = site.x, site.size(-1), 1  # (batch, heads, step, size): angles get an axis for the heads
    if site.rank() == 3:  # (batch, step, heads * size)
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


# --- elementwise and shapes -----------------------------------------------------------------------------------------


@replace("Mod", below=28)
def _mod(site: Old) -> ir.Value | None:
    """Floored Mod of floats: the truncated one, plus the divisor where the signs differ."""
    if site.get("fmod", 0) or not site.dtype().is_floating_point():
        return None
    divisor, zero = site.input(1), site.number("zero", 0.0)
    rest = site.op("Mod", "rest", [site.x, divisor], fmod=1)
    signs = [site.op("Less", f"negative_{what}", [v, zero]) for what, v in (("rest", rest), ("divisor", divisor))]
    nonzero = site.op("Not", "nonzero", [site.op("Equal", "exact", [rest, zero])])
    wrong = site.op("And", "wrong", [nonzero, site.op("Xor", "differ", signs)])
    return site.op("Where", "where", [wrong, site.op("Add", "sum", [rest, divisor]), rest])


@replace("Range", below=27)
def _range(site: Old) -> ir.Value | None:
    """Of float16 and bfloat16, counted in ``stash_type``; older opsets have none of these types."""
    dtype = site.dtype()
    if dtype not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return None
    stash = site.get("stash_type", 1)
    ends = [site.op("Cast", f"float_{i}", [v], to=stash) for i, v in enumerate(site.node.inputs)]
    return site.op("Cast", "cast", [site.op("Range", "range", ends)], to=int(dtype))


@replace("Shape", below=15)
def _shape(site: Old) -> ir.Value | None:
    start, end = site.get("start", 0), site.get("end")
    if not start and end is None:
        return None
    bounds = [site.constant("start", [start]), site.constant("end", [np.iinfo(np.int64).max if end is None else end])]
    return site.op("Slice", "slice", [site.op("Shape", "whole", [site.x]), *bounds])


@replace("Trilu", below=14)
def _trilu(site: Old) -> ir.Value:
    zero, one = site.constant("zero", 0), site.constant("one", 1)
    shape = site.op("Shape", "shape", [site.x])
    sizes = [site.op("Gather", what, [shape, site.constant(f"axis_{what}", a)]) for what, a in (("h", -2), ("w", -1))]
    row, column = (
        site.op("Range", f"{what}_index", [zero, n, one]) for what, n in zip(("row", "column"), sizes, strict=True)
    )
    row = site.op("Unsqueeze", "row", [row, site.constant("behind", [1])])
    distance = site.op("Sub", "distance", [column, row])
    k = site.input(1) if site.input(1) is not None else zero
    # upper keeps column - row >= k, lower keeps column - row <= k
    dropped = site.op("Less" if site.get("upper", 1) else "Greater", "dropped", [distance, k])
    return site.op("Where", "where", [dropped, site.number("nothing", 0), site.x])


@adapt("Reshape", below=14)
def _reshape(site: Old) -> None:
    shape = site.known(1)
    if site.get("allowzero", 0) and shape is not None and 0 not in shape:
        site.take("allowzero")


@adapt("RoiAlign", below=16)
def _roi_align(site: Old) -> None:
    if site.take("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise CannotDowngradeError("coordinate_transformation_mode half_pixel is not known", 16)


@adapt("GridSample", below=20)
def _grid_sample(site: Old) -> None:
    if site.rank() != 4:
        raise CannotDowngradeError("it samples images alone there", 20)
    site.set(mode={"linear": "bilinear", "cubic": "bicubic"}.get(mode := site.get("mode", "linear"), mode))


@adapt("DFT", below=20)
def _dft(site: Old) -> None:
    axis = site.known(2) if site.input(2) is not None else np.array(-2)
    if axis is None:
        raise CannotDowngradeError("an axis that is computed is not known", 20)
    site.set(axis=int(axis) % site.rank())
    site.node.resize_inputs(min(2, len(site.node.inputs)))


@adapt("MaxPool", "AveragePool", below=22)
def _pool(site: Old) -> None:
    """``ceil_mode``: older opsets keep a last window that starts in the padding. Where there is one, pads are cut."""
    y, strides = site.node.outputs[0].shape, site.get("strides")
    if not site.get("ceil_mode", 0) or site.get("auto_pad", "NOTSET") != "NOTSET" or y is None or site.x.shape is None:
        return
    kernel = site.get("kernel_shape")
    axes = range(len(kernel))
    strides = strides or [1 for _ in axes]
    pads = list(site.get("pads") or [0 for _ in (*axes, *axes)])
    dilations = site.get("dilations") or [1 for _ in axes]
    sizes = [(site.x.shape[a + 2], y[a + 2]) for a in axes]
    if not all(isinstance(n, int) and isinstance(m, int) for n, m in sizes):
        return
    reaches = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    steps = [n + pads[a] + pads[a + len(axes)] - reaches[a] for a, (n, _) in zip(axes, sizes, strict=True)]
    if all(-(-steps[a] // strides[a]) + 1 == m for a, (_, m) in zip(axes, sizes, strict=True)):
        return
    for a, (n, m) in zip(axes, sizes, strict=True):
        end = max((m - 1) * strides[a] + reaches[a] - n - pads[a], 0)
        if end > pads[a + len(axes)] and site.get("count_include_pad", 0):
            raise CannotDowngradeError("ceil_mode counts the padding otherwise", 22)
        pads[a + len(axes)] = end
    site.set(pads=pads)
    site.take("ceil_mode")


# --- reductions -----------------------------------------------------------------------------------------------------

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


@replace(*(f"Reduce{what}" for what in _REDUCTIONS), below=18)
def _reduce_nothing(site: Old) -> ir.Value | None:
    """``noop_with_empty_axes``: no axis is reduced, what is computed of each element is."""
    axes = site.known(1)
    if not site.get("noop_with_empty_axes", 0) or (site.input(1) is not None and (axes is None or axes.size)):
        return None
    match site.node.op_type:
        case "ReduceL1" | "ReduceL2":
            return site.op("Abs", "abs", [site.x])
        case "ReduceSumSquare":
            return site.op("Mul", "square", [site.x, site.x])
        case "ReduceLogSum":
            return site.op("Log", "log", [site.x])
        case _:
            return site.op("Identity", "same", [site.x])


@replace("ReduceMax", "ReduceMin", below=20)
def _reduce_bool(site: Old) -> ir.Value | None:
    if site.dtype() != ir.DataType.BOOL:
        return None
    number = site.op("Cast", "number", [site.x], to=int(ir.DataType.UINT8))
    attributes = {name: a.value for name, a in site.node.attributes.items()}
    reduced = site.op(site.node.op_type, "reduced", [number, site.input(1)], **attributes)
    return site.op("Cast", "bool", [reduced], to=int(ir.DataType.BOOL))


@adapt(*(f"Reduce{what}" for what in _REDUCTIONS), below=18)
def _reduce(site: Old) -> None:
    axes = site.known(1)
    if site.input(1) is not None and axes is None:
        raise CannotDowngradeError("axes that are computed are not known", 18)
    if axes is not None and axes.size:
        site.set(axes=[int(a) for a in axes])
    site.take("noop_with_empty_axes")
    site.node.resize_inputs(1)


# --- sizes that an attribute or an input stood for ------------------------------------------------------------------


@replace("Split", below=18)
def _split(site: Old) -> tuple[ir.Value, ...] | None:
    """``num_outputs``: the last part is smaller when the size does not divide."""
    count, axis = site.get("num_outputs"), site.get("axis", 0)
    if count is None:
        return None
    size = site.size(axis)
    if size is not None:
        part = -(-size // count)
        parts = site.constant("parts", [part] * (count - 1) + [size - part * (count - 1)])
    else:
        end = {} if axis == -1 else {"end": axis + 1}
        whole = site.op("Shape", "size", [site.x], start=axis, **end)
        rounded = site.op("Add", "rounded", [whole, site.constant("round", [count - 1])])
        part = site.op("Div", "part", [rounded, site.constant("count", [count])])
        others = site.op("Mul", "others", [part, site.constant("before", [count - 1])])
        parts = site.op("Concat", "parts", [part] * (count - 1) + [site.op("Sub", "last", [whole, others])], axis=0)
    return tuple(site.many("Split", "pieces", [site.x, parts], count, axis=axis))


@replace("Pad", below=18)
def _pad(site: Old) -> ir.Value | None:
    axes = site.input(3)
    if axes is None:
        return None
    rank, known = site.rank(), site.known(3)
    if known is not None:
        places = site.constant("places", np.concatenate([known % rank, known % rank + rank]))
    else:
        axes = site.op("Cast", "axes", [axes], to=int(ir.DataType.INT64))
        axes = site.op("Mod", "positive", [axes, site.constant("rank", rank)])
        places = site.op(
            "Concat", "places", [axes, site.op("Add", "ends", [axes, site.constant("step", rank)])], axis=0
        )
    none = site.constant("none", [0] * (2 * rank))
    pads = site.op("ScatterElements", "pads", [none, places, site.input(1)])
    return site.op("Pad", "pad", [site.x, pads, site.input(2)], mode=site.get("mode", "constant"))


@replace("Resize", below=18)
def _resize(site: Old) -> ir.Value | None:
    axes = site.get("axes")
    if axes is None:
        return None
    if site.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise CannotDowngradeError("tf_crop_and_resize of some axes is not known", 18)
    rank = site.rank()
    places = site.constant("places", [a % rank for a in axes])
    scales, sizes = site.input(2), site.input(3)
    if scales is not None:
        ones = site.constant("ones", [1.0] * rank, ir.DataType.FLOAT)
        scales = site.op("ScatterElements", "scales", [ones, places, scales])
    if sizes is not None:
        sizes = site.op("ScatterElements", "sizes", [site.op("Shape", "shape", [site.x]), places, sizes])
    attributes = {name: a.value for name, a in site.node.attributes.items() if name != "axes"}
    return site.op("Resize", "resize", [site.x, site.input(1), scales, sizes], **attributes)


# --- recurrent ------------------------------------------------------------------------------------------------------


@replace("RNN", "GRU", "LSTM", below=_ALWAYS)
def _batch_first(site: Old) -> tuple[ir.Value | None, ...] | None:
    """``layout=1`` as transposes round ``layout=0``: onnxruntime has no kernel for it at any opset."""
    if not site.get("layout", 0):
        return None
    inputs = list(site.node.inputs)
    for slot, what in ((0, "x"), (5, "initial_h"), (6, "initial_c")):
        if slot < len(inputs) and inputs[slot] is not None:
            inputs[slot] = site.op("Transpose", what, [inputs[slot]], perm=[1, 0, 2])
    attributes = {name: a.value for name, a in site.node.attributes.items() if name != "layout"}
    made = site.many(site.node.op_type, "cell", inputs, len(site.node.outputs), **attributes)
    perms = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])
    return tuple(
        site.op("Transpose", f"batch_first_{i}", [value], perm=perms[i]) if site.is_read(i) else None
        for i, value in enumerate(made)
    )
