"""Rules that bring a node into inference form, whatever its opset."""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeWarning
from dlbridge.passes.rewriter import Site
from dlbridge.passes.upgrade.registry import ALWAYS, CannotUpgradeError, drop_outputs, rule


@rule("BatchNormalization", below=ALWAYS)
def _batch_norm_inference(site: Site) -> None:
    if site.take("training_mode", 0):
        if any(site.is_read(i) for i in (1, 2)):
            _batch_norm_on_batch(site)
        else:
            _tell_of_training_mode(site)
    drop_outputs(site, 1, "its statistics are read: export the model in eval mode")


def _batch_norm_on_batch(site: Site) -> None:
    """Statistics that are read are those of the batch: computed before the node, which normalises by them."""
    x = site.input(0)
    if x is None or x.shape is None:
        raise CannotUpgradeError("its statistics are read, and the rank of its input is not known")
    axes = site.constant("axes", [0, *range(2, len(x.shape))])
    mean = site.op("ReduceMean", "mean", [x, axes])
    deviation = site.op("Sub", "deviation", [x, mean])
    square = site.op("Mul", "square", [deviation, deviation])
    found = [site.op("Squeeze", "batch_mean", [mean, axes])]
    found.append(site.op("ReduceMean", "batch_variance", [square, axes], keepdims=0))
    momentum = site.get("momentum", 0.9)
    for slot, batch in enumerate(found, 1):
        kept = site.op("Mul", f"kept{slot}", [site.input(2 + slot), site.constant(f"m{slot}", momentum, site.dtype())])
        rest = site.constant(f"n{slot}", 1 - momentum, site.dtype())
        site.replace_output(slot, site.op("Add", f"running{slot}", [kept, site.op("Mul", f"new{slot}", [batch, rest])]))
        site.set_input(2 + slot, batch)


@rule("Dropout", below=ALWAYS)
def _dropout_inference(site: Site) -> None:
    training, ratio = site.known(2), site.known(1)
    idle = training is None or not training or (ratio is not None and not ratio)
    if idle and site.is_read(1) and site.node.outputs[1].dtype in (None, ir.DataType.BOOL):
        sizes = site.op("Shape", "shape", [site.input(0)])
        site.replace_output(1, site.op("ConstantOfShape", "kept", [sizes], value=ir.tensor(np.array([True]))))
    drop_outputs(site, 1, "its mask is read")
    is_decided_later = training is None and site.input(2) is not None
    if not idle or is_decided_later:
        _tell_of_training_mode(site)
    site.take("seed")
    site.set_inputs(site.input(0), site.input(1) or site.constant("ratio", 0.5, ir.DataType.FLOAT))


def _tell_of_training_mode(site: Site) -> None:
    name = site.node.name or site.output.name
    text = f"{site.node.op_type} '{name}' is in training mode in the file, and is read as it is at inference"
    warnings.warn(f"{text}; export the model in eval mode", DlbridgeWarning, stacklevel=2)


@rule("Optional", below=ALWAYS)
def _optional(site: Site) -> None:
    """An optional value that is present becomes a tensor; inputs and outputs of a model cannot be optional."""
    if site.input(0) is None:
        raise CannotUpgradeError("an optional value without an element")
    site.take("type")
    site.set_op("Identity")
    site.output.type = site.operand(0).type


@rule("OptionalGetElement", below=ALWAYS)
def _element_of_tensor(site: Site) -> None:
    """What may be an optional value is a tensor."""
    site.set_op("Identity")


@rule("OptionalHasElement", below=ALWAYS)
def _is_given(site: Site) -> None:
    site.set_op("Constant")
    site.set(value=ir.tensor(np.array(site.input(0) is not None)))
    site.set_inputs()


@rule("MeanVarianceNormalization", below=ALWAYS)
def _mean_variance_axes(site: Site) -> None:
    """onnx's shape inference stops at this op when the axes are left to their default."""
    if not site.has("axes"):
        site.set(axes=[0, 2, 3])
