"""The ``dlbridge`` domain: layers that ONNX has no word for, each an ONNX function in standard ops.

The body of a function is the layer's meaning at inference. Weights are in PyTorch's order:

``Linear(X, W, B?)``
    ``Y = X @ W.T + B`` on the last axis. X ``(..., in)``, W ``(out, in)``, B ``(out,)``.
``Embedding(indices, W)``
    ``Y = W[indices]``. W ``(count, size)``. ``padding_idx`` (int, optional): the row that gets no gradient.

``CausalMask(X, padding?)``, ``axis``, ``window``
    Which keys each query sees, for Attention: booleans (batch, 1, queries, keys). X has an axis of the queries; padding
    (batch, keys), where it is given, says which keys are there, else there are as many keys as queries (and the batch
    is 1). The last query is at the last key. A query sees the keys up to its own place; of these the last ``window``
    (0 for all).

``RotateHalves(X, cos, sin)``
    ``Y = X * cos + concat(-second half, first half) * sin`` on the last axis: rotary embedding (Su et al., 2021) as
    Llama has it. cos and sin broadcast to X and are as long on the last axis.

``CompactSteps(X, mask)``
    The steps of a sequence that a mask keeps, in their order, before the others: what a recurrent layer that skips the
    others walks along. X ``(batch, time, features)``, mask booleans ``(batch, time)``.
``SpreadSteps(X, mask)``
    What such a layer returns, at its place: each step has the one of the last step that is kept up to it, 0 where none
    is. X ``(batch, time, features)`` in the order of ``CompactSteps``, mask booleans ``(batch, time)``.

``RelativeBuckets(X)``, ``num_buckets``, ``max_distance``, ``bidirectional``
    The bucket of each relative position (integers, key minus query), of which T5 (Raffel et al., 2020) learns one bias
    each. Half of the buckets are of one distance each, from 0 on; farther ones share the others, which grow with the
    logarithm of the distance up to ``max_distance``. With ``bidirectional`` the second half of all buckets is that of
    keys behind the query; without, these are in bucket 0.

``StopGradient(X)``
    ``Y = X``, through which no gradient flows: torch's ``detach``.

Layers that act in training alone have the body ``Y = X``. What they do in training (elements are independent, but for
those that differ along ``axes`` alone, which share one decision; negative axes count from the end):

``BroadcastDropout(X)``, ``ratio``, ``axes``
    ``Y = X * M / (1 - ratio)``, where the mask M is 0 with probability ``ratio``, else 1, and has the size 1 along
    ``axes``: Keras' ``noise_shape``, Flax' ``broadcast_dims``, whence the name. Along the axes of an image it is
    SpatialDropout (Tompson et al., 2015; torch's ``Dropout2d``), along all but the batch it is drop path, or
    stochastic depth (Huang et al., 2016). Without axes it is the standard's Dropout.
``AlphaDropout(X)``, ``ratio``, ``axes``
    ``Y = a * (X * M + s * (1 - M)) - a * s * ratio`` with ``s = -1.7580993408473766``, the limit of Selu, and
    ``a = ((1 - ratio) * (1 + ratio * s**2)) ** -0.5``: the mean stays 0, the variance 1 (Klambauer et al., 2017).
``GaussianDropout(X)``, ``ratio``
    ``Y = X * N``, N normal with the mean 1 and the variance ``ratio / (1 - ratio)`` (Srivastava et al., 2014).
``GaussianNoise(X)``, ``stddev``
    ``Y = X + N``, N normal with the mean 0 and that standard deviation.

``Augmentation(X)``, ``kind``, ``config``
    Changes images as the layer of Keras of that name and of that configuration, in JSON, does (``RandomFlip``,
    ``{"mode": "horizontal"}``). Its input is in the layout that the layer has in Keras.

``FakeQuantize(X, scale, zero_point)``, ``quant_min``, ``quant_max``
    ``Y = (q - zero_point) * scale`` with ``q = clip(round(X * (1 / scale)) + zero_point, quant_min, quant_max)``, as
    training for quantised numbers computes it: its gradient is 1 where q is not cut, else 0. scale and zero_point
    (integers) broadcast to X.

Functions of numbers, element by element, which ONNX lacks; their formulas are in ``dlbridge.ops.special``:

``Erfc``, ``Erfcx``, ``Erfinv``, ``Ndtri``, ``Lgamma``, ``Digamma``, ``Polygamma(n, x)``, ``Zeta(s, q)``, and Bessel's
``BesselJ0``, ``J1``, ``Y0``, ``Y1``, ``I0``, ``I1``, ``K0``, ``K1``, and with an ``e`` behind ``I`` or ``K`` scaled by
an exponential, so that they stay in range.

A function has a fixed number of inputs, so each op that has an optional input has an *overload* for each count:
``""`` for all inputs, ``"no_bias"`` or ``"no_padding"`` without the last.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from dlbridge.errors import ShapeError
from dlbridge.ops import special
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.ops.traits import IR_OPSET

if TYPE_CHECKING:
    import onnx

DOMAIN = "dlbridge"
#: Version of the domain that models import.
DOMAIN_VERSION = 1

#: Op type -> attributes of the layers that act in training alone, by themselves on each element or slice.
_NOISE = {
    "AlphaDropout": "ratio: float = 0.5, axes: ints = []",
    "BroadcastDropout": "ratio: float = 0.5, axes: ints = []",
    "GaussianDropout": "ratio: float = 0.5",
    "GaussianNoise": "stddev: float = 1.0",
}
NOISE_OPS = tuple(_NOISE)
_TRAINING_ONLY = {**_NOISE, "Augmentation": 'kind: string = "", config: string = "{}"'}
TRAINING_ONLY_OPS = tuple(_TRAINING_ONLY)

#: What an ``Augmentation`` may be: layers of https://keras.io/api/layers/preprocessing_layers/image_augmentation/
AUGMENTATIONS = (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration"),
    *("RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip"),
    *("RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective"),
    *("RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear"),
    *("RandomTranslation", "RandomZoom"),
)

_CAUSAL_MASK = """CausalMask <axis: int = 1, window: int = 0> ({inputs}) => (mask) {{
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        sizes = Shape (X)
        place = Constant <value_int: int = @axis> ()
        queries = Gather <axis = 0> (sizes, place)
        {keys}
        past = Sub (keys, queries)
        rows = Range (past, keys, one)
        columns = Range (zero, keys, one)
        second = Constant <value_ints: ints = [1]> ()
        own = Unsqueeze (rows, second)
        before = LessOrEqual (columns, own)
        limit = Constant <value_int: int = @window> ()
        distance = Sub (own, columns)
        near = Less (distance, limit)
        unlimited = LessOrEqual (limit, zero)
        within = Or (near, unlimited)
        seen = And (before, within)
        {mask}
    }}"""

_COMPACT_STEPS = """CompactSteps (X, mask) => (Y) {
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        last = Constant <value_ints: ints = [2]> ()
        sizes = Shape <start: int = 1> (mask)
        count = Squeeze (sizes)
        steps = Range (zero, count, one)
        behind = Add (steps, count)
        keys = Where (mask, steps, behind)
        sorted, order = TopK <axis: int = 1, largest: int = 0> (keys, sizes)
        places = Unsqueeze (order, last)
        shape = Shape (X)
        wide = Expand (places, shape)
        Y = GatherElements <axis: int = 1> (X, wide)
    }"""

_SPREAD_STEPS = """SpreadSteps (X, mask) => (Y) {
        zero = Constant <value_int: int = 0> ()
        one = Constant <value_int: int = 1> ()
        last = Constant <value_ints: ints = [2]> ()
        none_float = Constant <value_float: float = 0.0> ()
        none = CastLike (none_float, X)
        kept = Cast <to: int = 7> (mask)
        count = CumSum (kept, one)
        before = Sub (count, one)
        place = Unsqueeze (before, last)
        nearest = Max (place, zero)
        shape = Shape (X)
        wide = Expand (nearest, shape)
        found = GatherElements <axis: int = 1> (X, wide)
        seen = GreaterOrEqual (place, zero)
        Y = Where (seen, found, none)
    }"""

_RELATIVE_BUCKETS = """RelativeBuckets <num_buckets: int = 32, max_distance: int = 128, bidirectional: int = 0>
    (X) => (Y) {
        zero_int = Constant <value_int: int = 0> ()
        one_int = Constant <value_int: int = 1> ()
        two_int = Constant <value_int: int = 2> ()
        all_int = Constant <value_int: int = @num_buckets> ()
        both_int = Constant <value_int: int = @bidirectional> ()
        limit_int = Constant <value_int: int = @max_distance> ()
        sides_int = Add (both_int, one_int)
        count_int = Div (all_int, sides_int)
        exact_int = Div (count_int, two_int)
        rest_int = Sub (count_int, exact_int)
        last_int = Sub (count_int, one_int)
        zero = CastLike (zero_int, X)
        both = CastLike (both_int, X)
        count = CastLike (count_int, X)
        exact = CastLike (exact_int, X)
        last = CastLike (last_int, X)
        limit_wide = Cast <to = 11> (limit_int)
        exact_wide = Cast <to = 11> (exact_int)
        range_wide = Div (limit_wide, exact_wide)
        span_wide = Log (range_wide)
        span = Cast <to = 1> (span_wide)
        exact_float = Cast <to = 1> (exact_int)
        rest_float = Cast <to = 1> (rest_int)
        is_behind = Greater (X, zero)
        behind = CastLike (is_behind, X)
        half = Mul (both, count)
        side = Mul (behind, half)
        backward = Min (X, zero)
        back = Neg (backward)
        size = Abs (X)
        is_both = Cast <to = 9> (both_int)
        distance = Where (is_both, size, back)
        is_near = Less (distance, exact)
        distance_float = Cast <to = 1> (distance)
        ratio = Div (distance_float, exact_float)
        logarithm = Log (ratio)
        part = Div (logarithm, span)
        steps_float = Mul (part, rest_float)
        steps = CastLike (steps_float, X)
        beyond = Add (steps, exact)
        far = Min (beyond, last)
        within = Where (is_near, distance, far)
        Y = Add (side, within)
    }"""

_BODIES = {
    ("Linear", ""): """Linear (X, W, B) => (Y) {
        transposed = Transpose (W)
        product = MatMul (X, transposed)
        Y = Add (product, B)
    }""",
    ("Linear", "no_bias"): """Linear (X, W) => (Y) {
        transposed = Transpose (W)
        Y = MatMul (X, transposed)
    }""",
    ("Embedding", ""): """Embedding <padding_idx: int = -1> (indices, W) => (Y) {
        Y = Gather <axis = 0> (W, indices)
    }""",
    ("CausalMask", ""): _CAUSAL_MASK.format(
        inputs="X, padding",
        keys="""padding_sizes = Shape (padding)
        keys = Gather <axis = 0> (padding_sizes, one)""",
        mask="""middle = Constant <value_ints: ints = [1, 2]> ()
        there = Unsqueeze (padding, middle)
        mask = And (seen, there)""",
    ),
    ("CausalMask", "no_padding"): _CAUSAL_MASK.format(
        inputs="X",
        keys="keys = Identity (queries)",
        mask="""front = Constant <value_ints: ints = [0, 1]> ()
        mask = Unsqueeze (seen, front)""",
    ),
    ("RotateHalves", ""): """RotateHalves (X, cos, sin) => (Y) {
        first, second = Split <axis = -1, num_outputs = 2> (X)
        negative = Neg (second)
        turned = Concat <axis = -1> (negative, first)
        along = Mul (X, cos)
        across = Mul (turned, sin)
        Y = Add (along, across)
    }""",
    ("StopGradient", ""): "StopGradient (X) => (Y) { Y = Identity (X) }",
    ("CompactSteps", ""): _COMPACT_STEPS,
    ("SpreadSteps", ""): _SPREAD_STEPS,
    ("RelativeBuckets", ""): _RELATIVE_BUCKETS,
    ("FakeQuantize", ""): """FakeQuantize <quant_min: int, quant_max: int> (X, scale, zero_point) => (Y) {
        low_int = Constant <value_int: int = @quant_min> ()
        high_int = Constant <value_int: int = @quant_max> ()
        low = CastLike (low_int, X)
        high = CastLike (high_int, X)
        zero = CastLike (zero_point, X)
        inverse = Reciprocal (scale)
        steps = Mul (X, inverse)
        rounded = Round (steps)
        moved = Add (rounded, zero)
        above = Max (moved, low)
        q = Min (above, high)
        back = Sub (q, zero)
        Y = Mul (back, scale)
    }""",
    **{(op, ""): f"{op} <{attributes}> (X) => (Y) {{ Y = Identity (X) }}" for op, attributes in _TRAINING_ONLY.items()},
}

#: (op type, number of inputs) -> the overload without the last, optional one.
_WITHOUT_LAST = {("Linear", 2): "no_bias", ("CausalMask", 1): "no_padding"}

#: Op types of the domain.
EXTENSION_OPS = tuple(sorted({op for op, _ in _BODIES} | set(special.FUNCTIONS)))


@functools.cache
def _function_proto(op_type: str, overload: str) -> onnx.FunctionProto:
    import onnx.parser

    from dlbridge.ops import arrays

    if op_type in special.FUNCTIONS:
        formulas: Mapping[str, Any] = special.FUNCTIONS
        return arrays.body(formulas[op_type], op_type, DOMAIN, IR_OPSET)
    body = _BODIES[op_type, overload]
    proto = onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["": {IR_OPSET}]> {body}')
    proto.overload = overload
    return proto


def function(op_type: str, overload: str = "") -> ir.Function:
    """A fresh copy of the function that gives an extension op its meaning.

    Raises:
        KeyError: When there is no such op.
    """
    return ir.from_proto(_function_proto(op_type, overload))


@functools.cache
def elementwise_ops() -> tuple[str, ...]:
    """The ops of the domain that compute each element from those in its place: inference and layout ask this.

    They are the special functions, and the ops whose body has no other op than elementwise ones. What acts in training
    is not among them, whatever its body: it can make one decision for several elements.
    """
    known = {*UNARY_OPS, *BROADCASTING_OPS, "Constant", "CastLike"}
    bodies = (op_type for op_type, name in _BODIES if not name and op_type not in _TRAINING_ONLY)
    found = (op_type for op_type in bodies if all(node.op_type in known for node in function(op_type)))
    return (*special.FUNCTIONS, *found)


def overload(op_type: str, inputs: int) -> str:
    """The overload of an extension op that takes this many inputs."""
    return _WITHOUT_LAST.get((op_type, inputs), "")


def shared_axes(node: ir.Node) -> list[int]:
    """The axes along which a dropout decides once, in order and counted from the front.

    Raises:
        ShapeError: When its input has no such axes, or their number is not known.
    """
    shape, axes = node.inputs[0].shape, node.attributes.get("axes")  # type: ignore[union-attr]
    given = axes.as_ints() if axes is not None else ()
    rank = len(shape) if shape is not None else 0
    if any(not -rank <= axis < rank for axis in given):
        raise ShapeError(f"{node.op_type} has the axes {list(given)} of an input of the shape {shape}", where=node.name)
    return sorted({axis % rank for axis in given})


def attach_functions(model: ir.Model) -> None:
    """Make a model self-contained: give it the functions that its extension nodes call, and the domain's import."""
    used = [n for n in model.graph.all_nodes() if n.domain == DOMAIN]
    for node in used:
        while node.inputs and node.inputs[-1] is None:
            node.resize_inputs(len(node.inputs) - 1)
        node.overload = overload(node.op_type, len(node.inputs))
        if node.op_identifier() not in model.functions:
            model.functions[node.op_identifier()] = function(node.op_type, node.overload)
    if used:
        model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
