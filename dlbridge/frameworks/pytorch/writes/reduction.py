"""Reductions, arg-max, cumulative sums, top-k."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import ints, rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.shape import method
from dlbridge.source.code import Code, Raw, arguments, call, code
from dlbridge.source.op import Emit, Op


def _axes(op: Op) -> Any:
    """The axes that are reduced: a list, code that makes one, or None for a reduction that is to do nothing."""
    given = ints(op, 1) if op.has(1) else []
    if given == []:
        return None if op.attr("noop_with_empty_axes") else list(range(op.rank()))
    return given


def _arguments(op: Op, axes: Any) -> dict[str, Any]:
    keep = {"keepdim": True} if op.attr("keepdims") else {}
    everything = isinstance(axes, list) and op.value(0).shape is not None and len(axes) == op.rank()  # type: ignore[union-attr]
    if everything and not keep:
        return {}
    if isinstance(axes, list):
        axes = axes[0] if len(axes) == 1 else tuple(axes)
    return {"dim": axes, **keep}


def _reduce(op: Op, name: str, before: Any, **more: Any) -> Code:
    """``before.name(dim, keepdim=True)``; a reduction without axes leaves ``before`` as it is."""
    axes = _axes(op)
    if axes is None:
        return code("{}", before)
    if isinstance(axes, Code) and op.attr("noop_with_empty_axes"):
        return code(
            f"{{}}.{name}({{}}) if {{axes}}.numel() else {{}}", before, _text(op, axes, more), before, axes=op[1]
        )
    keywords = _arguments(op, axes)
    dim = keywords.pop("dim", None)
    return method(name, before, *([] if dim is None else [dim]), **keywords, **more)


def _text(op: Op, axes: Any, more: dict[str, Any]) -> Code:
    keywords = {**_arguments(op, axes), **more}
    return arguments(keywords.pop("dim"), **keywords)


def _dtype(op: Op) -> dict[str, Any]:
    """PyTorch sums integers in int64 unless it is told not to."""
    return {"dtype": torch_dtype(op, op.dtype())} if op.dtype().is_integer() and op.dtype().name != "INT64" else {}


def _is_empty(op: Op) -> bool:
    axes = _axes(op)
    shape = op.shape() or []
    return isinstance(axes, list) and any(shape[a] == 0 for a in axes)


@rules("ReduceSum")
def reduce_sum(op: Op) -> Code:
    return _reduce(op, "sum", op.x, **_dtype(op))


@rules("ReduceMean")
def reduce_mean(op: Op) -> Code:
    if op.dtype().is_integer():
        return code(
            "{}.to({})", _reduce(op, "mean", method("to", op.x, Raw("torch.float64"))), torch_dtype(op, op.dtype())
        )
    return _reduce(op, "mean", op.x)


@rules("ReduceMax", "ReduceMin")
def reduce_extreme(op: Op) -> Code:
    is_max = op.key == "ReduceMax"
    if _is_empty(op) or (op.ints(1) is None and op.has(1) and not op.attr("noop_with_empty_axes")):
        return call("extreme", op.x, _axes(op), bool(op.attr("keepdims")), largest=is_max)
    return _reduce(op, "amax" if is_max else "amin", op.x)


@rules("ReduceProd")
def reduce_product(op: Op) -> Code:
    axes = _axes(op)
    if axes is None:
        return code("{}", op.x)
    keywords = _arguments(op, axes)
    if not keywords or isinstance(keywords["dim"], int):
        dim = keywords.pop("dim", None)
        return method("prod", op.x, *([] if dim is None else [dim]), **keywords, **_dtype(op))
    return call("product", op.x, axes, keepdim=bool(op.attr("keepdims")))


def _in_own_dtype(op: Op, result: Code) -> Code:
    return code("{}.to({})", result, torch_dtype(op, op.dtype())) if op.dtype().is_integer() else result


@rules("ReduceL1")
def reduce_l1(op: Op) -> Code:
    return _reduce(op, "sum", method("abs", op.x), **_dtype(op))


@rules("ReduceL2")
def reduce_l2(op: Op) -> Code:
    return _in_own_dtype(op, method("sqrt", _reduce(op, "sum", method("square", op.x), **_dtype(op))))


@rules("ReduceSumSquare")
def reduce_sum_square(op: Op) -> Code:
    return _reduce(op, "sum", method("square", op.x), **_dtype(op))


@rules("ReduceLogSum")
def reduce_log_sum(op: Op) -> Code:
    return _in_own_dtype(op, method("log", _reduce(op, "sum", op.x, **_dtype(op))))


@rules("ReduceLogSumExp")
def reduce_log_sum_exp(op: Op) -> Code:
    axes = _axes(op)
    if axes is None:
        return code("{}", op.x)
    wide = op.x if not op.dtype().is_integer() else method("to", op.x, Raw("torch.float64"))
    dim: Any = code("({} or list(range({}.dim())))", axes, op.x)
    if not isinstance(axes, Code):
        dim = axes[0] if len(axes) == 1 else tuple(axes)
    return _in_own_dtype(op, method("logsumexp", wide, dim, **({"keepdim": True} if op.attr("keepdims") else {})))


@rules("ArgMax", "ArgMin")
def arg_extreme(op: Op) -> Code:
    name = op.key.lower()
    axis, keep = op.axis(), {"keepdim": True} if op.attr("keepdims") else {}
    x = method("to", op.x, Raw("torch.uint8")) if op.dtype().name == "BOOL" else op.x
    if op.attr("select_last_index"):
        return code("{} - 1 - {}", op.dim(0, axis), method(name, method("flip", x, axis), axis, **keep))
    return method(name, x, axis, **keep)


@rules("TopK")
def top_k(op: Op) -> Emit:
    known = op.ints(1)
    count = code("{}.item()", op[1]) if known is None else known[0]
    largest = {} if op.attr("largest") else {"largest": False}
    return Emit(call("top_k", op.x, count, dim=op.attr("axis"), **largest))


@rules("CumSum", "CumProd")
def cumulative(op: Op) -> Code:
    name = op.key.lower()
    known = op.ints(1)
    axis = code("{}.item()", op[1]) if known is None else known[0]
    if not op.attr("exclusive") and not op.attr("reverse"):
        return method(name, op.x, axis, **_dtype(op))
    options = {k: True for k in ("exclusive", "reverse") if op.attr(k)}
    return call("cumulative", Raw(f"torch.{name}"), op.x, axis, **options)
