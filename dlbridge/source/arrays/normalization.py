"""Normalisations that are functions of arrays, channels-last."""

from __future__ import annotations

from dlbridge.ops import traits
from dlbridge.passes.layout import DOMAIN
from dlbridge.source.arrays import ArrayDialect, Family
from dlbridge.source.op import Emit, Op
from dlbridge.source.tree.code import Code, call, code

normalization = Family()


@normalization("LRN", domain=DOMAIN)
@normalization("LRN")
def local_response_norm(op: Op, arrays: ArrayDialect) -> Code:
    usual = {"alpha": 1e-4, "beta": 0.75, "bias": 1}
    keywords = {name: op.attr(name) for name, value in usual.items() if op.attr(name) != value}
    return call("local_response_norm", op.x, op.attr("size"), **keywords)


@normalization("MeanVarianceNormalization")
def mean_variance_normalization(op: Op, arrays: ArrayDialect) -> Code:
    return call("standardize", op.x, tuple(op.attr("axes")))


def does_nothing(op: Op, index: int, number: float) -> bool:
    """Whether a scale of ones, or a shift of zeros, is left out or stays that."""
    value = op.value(index)
    if value is None:
        return True
    if value.const_value is None or traits.kind(value) not in ("constant", "frozen"):
        return False
    return bool((value.const_value.numpy() == number).all())


def batch_counter(op: Op) -> str | None:
    """The initializer that counts the batches of a BatchNormalization, beside its mean; None if there is none."""
    name = f"{(op.initializer(3) or '').rpartition('.')[0]}.num_batches_tracked".lstrip(".")
    return name if op.node.graph is not None and name in op.node.graph.initializers else None  # type: ignore[union-attr]


def batch_norm_on_batch(op: Op, axis: int) -> Emit | Code:
    """A BatchNormalization in training mode, whose channels are on an axis."""
    if not (op.used(1) or op.used(2)):
        made = call("normalize_on_batch", op.x, op[1], op[2], axis, epsilon=op.attr("epsilon"))
        return Emit(made, targets="{0}" if len(op.node.outputs) > 1 else None)
    values = op.x, op[1], op[2], op[3], op[4]
    made = call("batch_norm_on_batch", *values, axis, epsilon=op.attr("epsilon"), momentum=op.attr("momentum"))
    return made if len(op.node.outputs) == 3 else code(f"{{}}[:{len(op.node.outputs)}]", made)
