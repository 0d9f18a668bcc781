"""Normalisations."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import first_output, rules
from dlbridge.ops import traits
from dlbridge.source.code import Code, call, code, single
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.weights import Weight

_NO_AFFINE = {"elementwise_affine": False}


def _eps(op: Op, usual: float = 1e-5) -> dict[str, Any]:
    eps = op.attr("epsilon")
    return {} if eps == usual else {"eps": eps}


def _weights(op: Op, **slots: int) -> dict[str, Weight] | None:
    """Slot -> weight, when each input that is given is an initializer."""
    given = {slot: op.initializer(index) for slot, index in slots.items() if op.has(index)}
    return None if None in given.values() else {slot: Weight.of(name) for slot, name in given.items()}  # type: ignore[arg-type]


@rules("BatchNormalization")
def batch_norm(op: Op) -> Emit | Code:
    rank, channels = op.rank(), (op.shape(1) or [None])[0]
    if op.attr("training_mode"):
        return _batch_norm_on_batch(op)
    weights = _weights(op, weight=1, bias=2, running_mean=3, running_var=4)
    kind = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}.get(rank)
    distinct = len({w.plain for w in (weights or {}).values()}) == 4
    if weights is None or kind is None or not isinstance(channels, int) or not distinct:
        return call("F.batch_norm", op.x, op[3], op[4], op[1], op[2], **_eps(op))
    momentum = single(1 - op.attr("momentum"))
    keywords = _eps(op) | ({} if momentum == 0.1 else {"momentum": momentum})
    biased = op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "biased"
    name = f"BiasedBatchNorm{kind}" if biased else f"nn.BatchNorm{kind}"
    new = code(f"{name}({{}})", _arguments(code("{num_features}", num_features=channels), keywords))
    return Emit(call(LAYER, op.x), Layer(new, weights))


def _batch_norm_on_batch(op: Op) -> Emit:
    result = call(
        "batch_norm_on_batch", op.x, op[1], op[2], op[3], op[4], eps=op.attr("epsilon"), momentum=op.attr("momentum")
    )
    return Emit(result if len(op.node.outputs) == 3 else code("{}[0]", result))


def _is_plain(op: Op) -> bool:
    """Whether the scale (input 1) is a constant of ones, and the shift (input 2), if given, one of zeros."""
    scale, shift = op.const(1), op.const(2) if op.has(2) else None
    if op.functional or scale is None or not bool((scale == 1).all()):
        return False
    return not op.has(2) or (shift is not None and not shift.any())


def _arguments(first: Code, keywords: dict[str, Any]) -> Code:
    rest = call("", first, **keywords).parts
    inner = list(rest)
    inner[0] = inner[0].removeprefix("(") if isinstance(inner[0], str) else inner[0]
    inner[-1] = inner[-1].removesuffix(")") if isinstance(inner[-1], str) else inner[-1]
    return Code(tuple(p for p in inner if p != ""))


def _trailing(op: Op, axis: int) -> tuple[Any, list[int] | None]:
    """The normalised shape in code, and as numbers when it is known."""
    dims = (op.shape() or [])[axis:]
    if dims and all(isinstance(d, int) for d in dims):
        return (dims[0] if len(dims) == 1 else tuple(dims)), dims  # type: ignore[return-value]
    return code("{}.shape[{axis}:]", op.x, axis=axis - op.rank()), None


@rules("LayerNormalization")
def layer_norm(op: Op) -> Emit | Code:
    axis = op.axis()
    shape, dims = _trailing(op, axis)
    if op.used(1) or op.used(2):
        bias = op[2] if op.has(2) else None
        result = call("layer_norm_with_statistics", op.x, op[1], bias, axis=axis, eps=op.attr("epsilon"))
        return Emit(code(f"{{}}[:{len(op.node.outputs)}]", result))
    fits = dims is not None and op.shape(1) == dims and (not op.has(2) or op.shape(2) == dims)
    weights = _weights(op, weight=1, bias=2)
    first = first_output(op)
    if fits and _is_plain(op):
        new = code(
            "nn.LayerNorm({})", _arguments(code("{normalized_shape}", normalized_shape=shape), _eps(op) | _NO_AFFINE)
        )
        return Emit(call(LAYER, op.x), Layer(new), targets=first)
    if fits and weights is not None:
        keywords = _eps(op) | ({} if op.has(2) else {"bias": False})
        new = code("nn.LayerNorm({})", _arguments(code("{normalized_shape}", normalized_shape=shape), keywords))
        return Emit(call(LAYER, op.x), Layer(new, weights), targets=first)
    sizes = shape if isinstance(shape, Code) else tuple(dims or ())
    if fits:
        shift = {"bias": op[2]} if op.has(2) else {}
        return Emit(call("F.layer_norm", op.x, sizes, op[1], **shift, **_eps(op)), targets=first)
    result = code("{} * {}", call("F.layer_norm", op.x, sizes, **_eps(op)), op[1])
    return Emit(code("{} + {}", result, op[2]) if op.has(2) else result, targets=first)


@rules("RMSNormalization")
def rms_norm(op: Op) -> Emit | Code:
    shape, dims = _trailing(op, op.axis())
    weights = _weights(op, weight=1)
    fits = dims is not None and op.shape(1) == dims
    eps = {"eps": op.attr("epsilon")}
    if fits and _is_plain(op):
        new = code("nn.RMSNorm({})", _arguments(code("{normalized_shape}", normalized_shape=shape), eps | _NO_AFFINE))
        return Emit(call(LAYER, op.x), Layer(new))
    if fits and weights is not None:
        new = code("nn.RMSNorm({})", _arguments(code("{normalized_shape}", normalized_shape=shape), eps))
        return Emit(call(LAYER, op.x), Layer(new, weights))
    sizes = shape if isinstance(shape, Code) else tuple(dims or ())
    if fits:
        return call("F.rms_norm", op.x, sizes, op[1], **eps)
    return code("{} * {}", call("F.rms_norm", op.x, sizes, **eps), op[1])


@rules("GroupNormalization")
def group_norm(op: Op) -> Emit | Code:
    groups, channels = op.attr("num_groups"), (op.shape() or [None, None])[1]
    weights = _weights(op, weight=1, bias=2)
    if weights is None or not isinstance(channels, int):
        return call("F.group_norm", op.x, groups, op[1], op[2], **_eps(op))
    sizes = code("{num_groups}, {num_channels}", num_groups=groups, num_channels=channels)
    if _is_plain(op):
        new = code("nn.GroupNorm({})", _arguments(sizes, _eps(op) | {"affine": False}))
        return Emit(call(LAYER, op.x), Layer(new))
    return Emit(call(LAYER, op.x), Layer(code("nn.GroupNorm({})", _arguments(sizes, _eps(op))), weights))


@rules("InstanceNormalization")
def instance_norm(op: Op) -> Emit | Code:
    count, channels = op.rank() - 2, (op.shape(1) or [None])[0]
    weights = _weights(op, weight=1, bias=2)
    if weights is None or count not in (1, 2, 3) or not isinstance(channels, int):
        return call("F.instance_norm", op.x, weight=op[1], bias=op[2], **_eps(op))
    sizes = code("{num_features}", num_features=channels)
    if _is_plain(op):
        return Emit(call(LAYER, op.x), Layer(code(f"nn.InstanceNorm{count}d({{}})", _arguments(sizes, _eps(op)))))
    keywords = _eps(op) | {"affine": True}
    return Emit(call(LAYER, op.x), Layer(code(f"nn.InstanceNorm{count}d({{}})", _arguments(sizes, keywords)), weights))


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    p, axis = op.attr("p"), op.attr("axis")
    return call("F.normalize", op.x, **({} if p == 2 else {"p": p}), **({} if axis == 1 else {"dim": axis}))


@rules("MeanVarianceNormalization")
def mean_variance_normalization(op: Op) -> Code:
    return call("standardize", op.x, tuple(op.attr("axes")))


@rules("LRN")
def local_response_norm(op: Op) -> Emit | Code:
    size, alpha, beta, bias = (op.attr(n) for n in ("size", "alpha", "beta", "bias"))
    keywords = {k: v for k, v, usual in (("alpha", alpha, 1e-4), ("beta", beta, 0.75), ("k", bias, 1)) if v != usual}
    if size % 2:
        module = Layer(call("nn.LocalResponseNorm", size, **keywords))
        return Emit(call("F.local_response_norm", op.x, size, **keywords), module=module)
    return call("local_response_norm", op.x, size, **keywords)
