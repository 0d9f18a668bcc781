"""Rules for ops whose form or meaning has changed: attributes that became inputs, values and types that are new."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlbridge.ops.keys import op_key
from dlbridge.passes.downgrade.site import CannotDowngradeError, Old, adapt, replace

# --- elementwise and shapes -----------------------------------------------------------------------------------------


@replace("Mod", below=28)
def _mod(site: Old) -> ir.Value | None:
    """Floored Mod of floats: the truncated one, plus the divisor where the signs differ."""
    if site.get("fmod", 0) or not site.dtype().is_floating_point():
        return None
    divisor, zero = site.input(1), site.scalar("zero", 0.0)
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


@replace("CumProd", below=26)
def _cumprod(site: Old) -> ir.Value:
    """A Scan along the axis, which carries the product."""
    axis = site.known(1)
    if axis is None:
        raise CannotDowngradeError("its axis is no constant", 26)
    along = int(axis.reshape(-1)[0])
    one = ir.tensor(np.ones(1, site.dtype().numpy()), dtype=site.dtype())
    others = site.op(
        "Shape", "others", [site.op("ReduceSum", "slice", [site.x, site.constant("axis", [along])], keepdims=0)]
    )
    start = site.op("ConstantOfShape", "start", [others], value=one)
    _, products = site.many(
        "Scan",
        "scan",
        [start, site.x],
        2,
        body=_step_of_product(site),
        num_scan_inputs=1,
        scan_input_axes=[along],
        scan_output_axes=[along],
        scan_input_directions=[site.get("reverse", 0)],
        scan_output_directions=[site.get("reverse", 0)],
    )
    return products


def _step_of_product(site: Old) -> ir.Graph:
    """(product before, number) -> (product after, what is put out: one of the two)."""
    before, number = (
        ir.Value(name=f"{site.node.name}_{what}", type=ir.TensorType(site.dtype())) for what in ("before", "number")
    )
    after = ir.node("Mul", [before, number], name=f"{site.node.name}_product")
    out = ir.node("Identity", [before if site.get("exclusive", 0) else after.outputs[0]], name=f"{site.node.name}_out")
    for node in (after, out):
        node.outputs[0].type = ir.TensorType(site.dtype())
        node.outputs[0].name = f"{node.name}_y"
    return ir.Graph(
        [before, number], [after.outputs[0], out.outputs[0]], nodes=[after, out], name=f"{site.node.name}_step"
    )


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
    return site.op("Where", "where", [dropped, site.scalar("nothing", 0), site.x])


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
    if site.known_rank() != 4:
        raise CannotDowngradeError("it samples images alone there", 20)
    site.set(mode={"linear": "bilinear", "cubic": "bicubic"}.get(mode := site.get("mode", "linear"), mode))


@adapt("DFT", below=20)
def _dft(site: Old) -> None:
    axis = site.known(2) if site.input(2) is not None else np.array(-2)
    if axis is None:
        raise CannotDowngradeError("an axis that is computed is not known", 20)
    site.set(axis=int(axis) % site.known_rank())
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
    match op_key(site.node):
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
    attributes = site.attributes()
    reduced = site.op(op_key(site.node), "reduced", [number, site.input(1)], **attributes)
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
    size = site.static_size(0, axis)
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
    rank, known = site.known_rank(), site.known(3)
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
    rank = site.known_rank()
    places = site.constant("places", [a % rank for a in axes])
    scales, sizes = site.input(2), site.input(3)
    if scales is not None:
        ones = site.constant("ones", [1.0] * rank, ir.DataType.FLOAT)
        scales = site.op("ScatterElements", "scales", [ones, places, scales])
    if sizes is not None:
        sizes = site.op("ScatterElements", "sizes", [site.op("Shape", "shape", [site.x]), places, sizes])
    attributes = site.attributes(without=["axes"])
    return site.op("Resize", "resize", [site.x, site.input(1), scales, sizes], **attributes)
