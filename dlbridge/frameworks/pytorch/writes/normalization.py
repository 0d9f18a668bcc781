"""Normalisations."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import first_output, rules
from dlbridge.ops import traits
from dlbridge.source.arrays.normalization import batch_counter
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, Raw, call, code, single
from dlbridge.source.weights import Weight

_NO_AFFINE = {"elementwise_affine": False}
#: Rank of what is normalised -> the end of the name of PyTorch's layer.
_KINDS = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}


def _eps(op: Op, usual: float = 1e-5) -> dict[str, Any]:
    eps = op.attr("epsilon")
    return {} if eps == usual else {"eps": eps}


def _weights(op: Op, **slots: int) -> dict[str, Weight] | None:
    """Slot -> weight, when each input that is given is an initializer."""
    given = {slot: op.initializer(index) for slot, index in slots.items() if op.has(index)}
    return None if None in given.values() else {slot: Weight.of(name) for slot, name in given.items()}  # type: ignore[arg-type]


@rules("BatchNormalization")
def batch_norm(op: Op) -> Emit | Code:
    if op.attr("training_mode"):
        return _batch_norm_on_batch(op)
    statistics = op.node.metadata_props.get(traits.STATISTICS, "batch")
    kind = _KINDS.get(op.rank())
    weights = _norm_weights(op, running_mean=3, running_var=4)
    if weights is None or kind is None:
        return _norm_function(op, statistics)
    is_cumulative = op.node.metadata_props.get(traits.AVERAGE) == "cumulative"
    momentum = None if is_cumulative else single(1 - op.attr("momentum"))
    is_usual = momentum == 0.1 or statistics == "running"
    keywords = _eps(op) | ({} if is_usual else {"momentum": Raw("None") if is_cumulative else momentum})
    if statistics == "instance":
        keywords |= {**_affine_keywords(weights), "affine": True if "weight" in weights else None}
        return _norm_layer(op, f"nn.InstanceNorm{kind}", keywords | {"track_running_stats": True}, weights)
    keywords |= _affine_keywords(weights)
    if statistics == "running":
        return _norm_layer(op, f"FrozenBatchNorm{kind}", keywords, weights)
    is_biased = op.node.metadata_props.get(traits.RUNNING_VARIANCE) == "biased"
    return _norm_layer(op, f"BiasedBatchNorm{kind}" if is_biased else f"nn.BatchNorm{kind}", keywords, weights)


def _norm_weights(op: Op, **state: int) -> dict[str, Weight] | None:
    """The weights of a layer of one number a channel; None where no layer holds them.

    A scale of ones and a shift of zeros that do not train are left out, or a shift of zeros alone.
    """
    weights = _weights(op, **_affine_slots(op), **state)
    channels = (op.shape(1) or [None])[0]
    if op.free or weights is None or not isinstance(channels, int):
        return None
    if len({weight.plain for weight in weights.values()}) < len(weights):
        return None
    counter = batch_counter(op) if state else None
    if counter is not None:
        weights["num_batches_tracked"] = Weight.of(counter)
    return weights


def _affine_slots(op: Op) -> dict[str, int]:
    """Slot -> input of the scale and the shift that a layer holds."""
    if _is_plain(op):
        return {}
    shift = op.const(2)
    if shift is not None and not shift.any():
        return {"weight": 1}
    return {"weight": 1, "bias": 2}


def _affine_keywords(weights: dict[str, Weight]) -> dict[str, Any]:
    if "weight" not in weights:
        return {"affine": False}
    return {} if "bias" in weights else {"bias": False}


def _norm_layer(op: Op, name: str, keywords: dict[str, Any], weights: dict[str, Weight]) -> Emit:
    sizes = code("{num_features}", num_features=(op.shape(1) or [None])[0])
    return Emit(call(LAYER, op.x), Layer(call(name, sizes, **keywords), weights))


def _norm_function(op: Op, statistics: str) -> Code:
    """``F.batch_norm`` or ``F.instance_norm``: by its own statistics in training, where the running ones are state."""
    mean, var = op.value(3), op.value(4)
    is_state = all(v is not None and v.is_initializer() and traits.kind(v) == "buffer" for v in (mean, var))
    momentum = single(1 - op.attr("momentum"))
    function, keywords = "F.batch_norm", dict[str, Any]()
    if not op.functional and is_state and statistics != "running":
        if statistics == "instance":
            function, keywords["use_input_stats"] = "F.instance_norm", Raw("self.training")
        else:
            keywords["training"] = Raw("self.training")
        keywords["momentum"] = None if momentum == 0.1 else momentum
    return call(function, op.x, op[3], op[4], op[1], op[2], **keywords, **_eps(op))


def _batch_norm_on_batch(op: Op) -> Emit | Code:
    if op.used(1) or op.used(2):
        values = op.x, op[1], op[2], op[3], op[4]
        made = call("batch_norm_on_batch", *values, eps=op.attr("epsilon"), momentum=op.attr("momentum"))
        return Emit(code(f"{{}}[:{len(op.node.outputs)}]", made))
    kind = _KINDS.get(op.rank())
    weights = _norm_weights(op)
    if weights is None or kind is None:
        return Emit(call("F.batch_norm", op.x, None, None, op[1], op[2], training=True, **_eps(op)), targets="{0}")
    keywords = _eps(op) | _affine_keywords(weights) | {"track_running_stats": False}
    layer = _norm_layer(op, f"nn.BatchNorm{kind}", keywords, weights)
    layer.targets = "{0}" if len(op.node.outputs) > 1 else None
    return layer


def _is_plain(op: Op) -> bool:
    """Whether the scale (input 1) is a constant of ones, and the shift (input 2), if given, one of zeros."""
    scale, shift = op.const(1), op.const(2) if op.has(2) else None
    if op.free or scale is None or not bool((scale == 1).all()):
        return False
    return not op.has(2) or (shift is not None and not shift.any())


def _trailing(op: Op, axis: int) -> tuple[Any, list[int] | None]:
    """The normalised shape in code, and as numbers when it is known."""
    dims = (op.shape() or [])[axis:]
    if dims and all(isinstance(d, int) for d in dims):
        return (dims[0] if len(dims) == 1 else tuple(dims)), dims  # type: ignore[return-value]
    return code("{}.shape[{axis}:]", op.x, axis=axis - op.rank()), None


@rules("LayerNormalization")
def layer_norm(op: Op) -> Emit | Code:
    axis = op.axis()
    if op.used(1) or op.used(2):
        bias = op[2] if op.has(2) else None
        result = call("layer_norm_with_statistics", op.x, op[1], bias, axis=axis, eps=op.attr("epsilon"))
        return Emit(code(f"{{}}[:{len(op.node.outputs)}]", result))
    return _of_trailing_axes(op, "nn.LayerNorm", "F.layer_norm", axis, _eps(op))


@rules("RMSNormalization")
def rms_norm(op: Op) -> Emit:
    return _of_trailing_axes(op, "nn.RMSNorm", "F.rms_norm", op.axis(), {"eps": op.attr("epsilon")})


def _of_trailing_axes(op: Op, kind: str, function: str, axis: int, eps: dict[str, Any]) -> Emit:
    """A layer where its weights are the model's and have the normalised shape, else the function."""
    shape, dims = _trailing(op, axis)
    fits = dims is not None and op.shape(1) == dims and (not op.has(2) or op.shape(2) == dims)
    weights, first = _weights(op, weight=1, bias=2), first_output(op)
    if fits and (_is_plain(op) or weights is not None):
        options, held = (_NO_AFFINE, {}) if _is_plain(op) else ({}, weights or {})
        if held and kind == "nn.LayerNorm" and not op.has(2):
            options = {"bias": False}
        new = call(kind, Literal(shape, "normalized_shape"), **eps, **options)
        return Emit(call(LAYER, op.x), Layer(new, held), targets=first)
    sizes = shape if isinstance(shape, Code) else tuple(dims or ())
    if fits:
        return Emit(call(function, op.x, sizes, op[1], **({"bias": op[2]} if op.has(2) else {}), **eps), targets=first)
    result = code("{} * {}", call(function, op.x, sizes, **eps), op[1])
    return Emit(code("{} + {}", result, op[2]) if op.has(2) else result, targets=first)


@rules("GroupNormalization")
def group_norm(op: Op) -> Emit | Code:
    groups, channels = op.attr("num_groups"), (op.shape() or [None, None])[1]
    weights = _norm_weights(op)
    if weights is None or not isinstance(channels, int):
        return call("F.group_norm", op.x, groups, op[1], op[2], **_eps(op))
    sizes = code("{num_groups}, {num_channels}", num_groups=groups, num_channels=channels)
    new = call("nn.GroupNorm", sizes, **_eps(op), **_affine_keywords(weights))
    return Emit(call(LAYER, op.x), Layer(new, weights))


@rules("InstanceNormalization")
def instance_norm(op: Op) -> Emit | Code:
    count, weights = op.rank() - 2, _norm_weights(op)
    if weights is None or count not in (1, 2, 3):
        return call("F.instance_norm", op.x, weight=op[1], bias=op[2], **_eps(op))
    keywords = _eps(op) | {**_affine_keywords(weights), "affine": True if "weight" in weights else None}
    return _norm_layer(op, f"nn.InstanceNorm{count}d", keywords, weights)


@rules("LpNormalization")
def lp_normalization(op: Op) -> Code:
    p, axis = op.attr("p"), op.attr("axis")
    return call("F.normalize", op.x, **({} if p == 2 else {"p": p}), **({} if axis == 1 else {"dim": axis}))


@rules("LRN")
def local_response_norm(op: Op) -> Emit | Code:
    size, alpha, beta, bias = (op.attr(n) for n in ("size", "alpha", "beta", "bias"))
    keywords = {k: v for k, v, usual in (("alpha", alpha, 1e-4), ("beta", beta, 0.75), ("k", bias, 1)) if v != usual}
    if size % 2:
        module = Layer(call("nn.LocalResponseNorm", size, **keywords))
        return Emit(call("F.local_response_norm", op.x, size, **keywords), module=module)
    return call("local_response_norm", op.x, size, **keywords)
