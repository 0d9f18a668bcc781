"""Upgrade: a graph of any opset becomes one of ``IR_OPSET`` in inference form.

onnx's own version converter refuses or miscasts many graphs (subgraphs, several Softmax and Resize forms, opsets past
its last adapter), so each change of meaning has a rule here: what the op's changelog says, a few lines each. An op
without a rule means today what it always meant; the rules of the first opsets are in ``upgrade_early``. A rule changes
one node from before ``below`` to ``below``; a node goes through all rules of its op in ascending order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes

OLDEST_OPSET = 1
#: ``below`` of the rules that bring a node into inference form, whatever its opset.
_ALWAYS = traits.IR_OPSET + 1


class CannotUpgradeError(Exception):
    """A node means something that the ops of today cannot say."""


class Site:
    """A node that a rule rewrites, and the ways to do it."""

    def __init__(self, node: ir.Node, graph: ir.Graph | ir.Function) -> None:
        self.node = node
        self._graph = graph

    def take(self, name: str, default: Any = None) -> Any:
        """Remove an attribute and return its value."""
        attribute = self.node.attributes.pop(name, None)
        return default if attribute is None else attribute.value

    def get(self, name: str, default: Any = None) -> Any:
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def input(self, slot: int) -> ir.Value | None:
        return self.node.inputs[slot] if slot < len(self.node.inputs) else None

    def set_input(self, slot: int, value: ir.Value | None) -> None:
        if slot >= len(self.node.inputs):
            self.node.resize_inputs(slot + 1)
        self.node.replace_input_with(slot, value)

    def set_inputs(self, *values: ir.Value | None) -> None:
        self.node.resize_inputs(len(values))
        for slot, value in enumerate(values):
            self.node.replace_input_with(slot, value)

    def constant(self, what: str, values: Any, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        """A constant made before the node: an int64 list, or a number of another dtype."""
        tensor = ir.tensor(np.asarray(values, dtype=dtype.numpy()), dtype=dtype)
        value = self.op("Constant", what, [], value=tensor)
        value.type, value.shape = ir.TensorType(dtype), ir.Shape(tensor.shape)
        return value

    def op(self, op_type: str, what: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """The output of a new node before this one; ``what`` it is becomes part of its name."""
        made = ir.node(op_type, inputs, attributes, name=f"{self.node.name}_{what}")
        made.metadata_props[traits.ANONYMOUS] = "true"
        made.outputs[0].name = f"{self.node.name}_{what}"
        self._graph.insert_before(self.node, made)
        return made.outputs[0]

    def then(self, op_type: str, what: str, more_inputs: Sequence[ir.Value], **attributes: Any) -> None:
        """Put a node behind this one, which takes over the name of the result and its readers."""
        old = self.node.outputs[0]
        made = ir.node(op_type, [old, *more_inputs], attributes, name=f"{self.node.name}_{what}")
        made.metadata_props[traits.ANONYMOUS] = "true"
        new = made.outputs[0]
        new.type, new.shape = old.type, old.shape
        self._graph.insert_after(self.node, made)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        made.replace_input_with(0, old)
        name, old.name = old.name, f"{self.node.name}_{what}_of"
        old.shape = None
        new.name = name

    def known(self, slot: int) -> np.ndarray | None:
        """The numbers of an input that is a constant."""
        value = self.input(slot)
        if value is None or value.is_graph_input():
            return None
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()

    def dtype(self, slot: int = 0) -> ir.DataType:
        value = self.input(slot)
        return value.dtype if value is not None and value.dtype is not None else ir.DataType.FLOAT

    def is_read(self, index: int) -> bool:
        """Whether the node has that output and something reads it."""
        outputs = self.node.outputs
        return index < len(outputs) and (bool(outputs[index].uses()) or outputs[index].is_graph_output())

    def replace_output(self, index: int, value: ir.Value) -> None:
        """Let a value take the place and the name of an output."""
        old = self.node.outputs[index]
        value.type, value.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        name, old.name = old.name, value.name
        value.name = name

    def drop_outputs(self, keep: int, why: str) -> None:
        """Remove outputs that nobody reads.

        Raises:
            CannotUpgradeError: When one is read.
        """
        if any(v.uses() or v.is_graph_output() for v in self.node.outputs[keep:]):
            raise CannotUpgradeError(why)
        self.node.resize_outputs(min(keep, len(self.node.outputs)))


Rule = Callable[[Site], None]
_RULES: dict[str, list[tuple[int, Rule]]] = {}


def rule(*op_types: str, below: int) -> Callable[[Rule], Rule]:
    """Register what changes in these ops for graphs of an opset below ``below``."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            _RULES.setdefault(op_type, []).append((below, function))
            _RULES[op_type].sort(key=lambda entry: entry[0])
        return function

    return register


def upgrade(model: ir.Model) -> None:
    """Bring a model, its subgraphs and its functions to ``IR_OPSET`` and to inference form, in place.

    A batch normalization or dropout that was exported in training mode becomes what it is at inference.

    Raises:
        UnsupportedOpError: When the opset is beyond ``IR_OPSET``, or nodes mean what the ops of today cannot
            say; all such nodes are listed.
    """
    from dlbridge.passes import upgrade_early  # noqa: F401 - it registers its rules

    # lenient: where the old graph has an error, inference at IR_OPSET will name it
    shapes.infer_lenient(model)
    troubles: list[str] = []
    for graph in (model.graph, *model.functions.values()):
        opset = graph.opset_imports.get("", graph.opset_imports.get("ai.onnx"))
        if opset is None:
            opset = traits.IR_OPSET  # no standard op in it
        if not OLDEST_OPSET <= opset <= traits.IR_OPSET:
            raise UnsupportedOpError(
                f"the model is of opset {opset}",
                where=graph.name,
                hint=f"opsets {OLDEST_OPSET} to {traits.IR_OPSET} can be read; export it again at one of these",
            )
        for node in list(graph.all_nodes()):
            if node.domain == "":
                _upgrade_node(node, opset, troubles)
        graph.opset_imports.pop("ai.onnx", None)
        graph.opset_imports[""] = traits.IR_OPSET
    if troubles:
        raise UnsupportedOpError(
            "these nodes cannot be said in the ops of today:\n" + "\n".join(f"  {t}" for t in troubles),
            hint="rules are in dlbridge/passes/upgrade.py",
        )


def _upgrade_node(node: ir.Node, opset: int, troubles: list[str]) -> None:
    try:
        done = -1
        while pending := [(b, r) for b, r in _RULES.get(op_key(node), ()) if b > max(opset, done)]:
            done, change = pending[0]
            change(Site(node, node.graph))
    except CannotUpgradeError as error:
        troubles.append(f"{node.name} ({node.op_type}): {error}")


# --- attributes that became inputs --------------------------------------------------------------------------------


@rule("Squeeze", "Unsqueeze", "ReduceSum", below=13)
@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", below=18)
@rule("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare", below=18)
def _axes(site: Site) -> None:
    if axes := site.take("axes"):
        site.set_input(1, site.constant("axes", list(axes)))


@rule("Clip", below=11)
def _clip(site: Site) -> None:
    for slot, name in ((1, "min"), (2, "max")):
        if (bound := site.take(name)) is not None:
            site.set_input(slot, site.constant(name, bound, site.dtype()))


@rule("Pad", below=11)
def _pad(site: Site) -> None:
    pads, value = site.take("pads"), site.take("value", 0.0)
    site.set_input(1, site.constant("pads", list(pads)))
    if value:
        site.set_input(2, site.constant("value", value, site.dtype()))


@rule("Slice", below=10)
def _slice(site: Site) -> None:
    starts, ends, axes = site.take("starts"), site.take("ends"), site.take("axes")
    site.set_inputs(site.input(0), site.constant("starts", list(starts)), site.constant("ends", list(ends)))
    if axes is not None:
        site.set_input(3, site.constant("axes", list(axes)))


@rule("TopK", below=10)
def _topk(site: Site) -> None:
    site.set_input(1, site.constant("k", [site.take("k")]))


@rule("Split", below=13)
def _split(site: Site) -> None:
    if split := site.take("split"):
        site.set_input(1, site.constant("split", list(split)))


@rule("Split", below=18)
def _split_evenly(site: Site) -> None:
    if site.input(1) is None:
        site.set(num_outputs=len(site.node.outputs))


@rule("Dropout", below=12)
def _dropout_ratio(site: Site) -> None:
    site.set_input(1, site.constant("ratio", site.take("ratio", 0.5), ir.DataType.FLOAT))


@rule("DFT", below=20)
def _dft(site: Site) -> None:
    site.set_input(2, site.constant("axis", site.take("axis", 1)))


# --- meanings that changed ----------------------------------------------------------------------------------------


@rule("Softmax", "LogSoftmax", "Hardmax", below=13)
def _softmax(site: Site) -> None:
    """Before 13 the input was made two-dimensional at ``axis`` (1 unless given) and all of the rest normalised."""
    axis, shape = site.get("axis", 1), site.input(0).shape
    if shape is not None:
        axis = axis % len(shape)
        if axis == len(shape) - 1 or all(size == 1 for size in shape[axis + 1 :]):
            site.set(axis=-1 if axis == len(shape) - 1 else axis)
            return
    site.set(axis=-1)
    sizes = site.op("Shape", "shape", [site.input(0)])
    site.set_input(0, site.op("Flatten", "flat", [site.input(0)], axis=axis))
    site.then("Reshape", "restore", [sizes])


@rule("BatchNormalization", below=9)
def _batch_norm_spatial(site: Site) -> None:
    shape = site.input(0).shape
    if site.take("spatial", 1) == 0 and (shape is None or len(shape) > 2):
        raise CannotUpgradeError("spatial=0 normalises each position on its own")


@rule("BatchNormalization", below=_ALWAYS)
def _batch_norm_inference(site: Site) -> None:
    if site.take("training_mode", 0) and any(site.is_read(i) for i in (1, 2)):
        _batch_norm_on_batch(site)
    site.drop_outputs(1, "its statistics are read: export the model in eval mode")


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


@rule("Dropout", below=_ALWAYS)
def _dropout_inference(site: Site) -> None:
    training, ratio = site.known(2), site.known(1)
    idle = training is None or not training or (ratio is not None and not ratio)
    if idle and site.is_read(1) and site.node.outputs[1].dtype in (None, ir.DataType.BOOL):
        sizes = site.op("Shape", "shape", [site.input(0)])
        site.replace_output(1, site.op("ConstantOfShape", "kept", [sizes], value=ir.tensor(np.array([True]))))
    site.drop_outputs(1, "its mask is read")
    ratio = site.input(1) or site.constant("ratio", 0.5, ir.DataType.FLOAT)
    site.take("seed")
    site.set_inputs(site.input(0), ratio)


@rule("Optional", below=_ALWAYS)
def _optional(site: Site) -> None:
    """An optional value that is given is a tensor; inputs and outputs of a model are no optional values."""
    if site.input(0) is None:
        raise CannotUpgradeError("an optional value without an element")
    site.take("type")
    site.node.op_type = "Identity"
    site.node.outputs[0].type = site.input(0).type


@rule("OptionalGetElement", below=_ALWAYS)
def _element_of_tensor(site: Site) -> None:
    """What may be an optional value is a tensor."""
    site.node.op_type = "Identity"


@rule("OptionalHasElement", below=_ALWAYS)
def _is_given(site: Site) -> None:
    site.node.op_type = "Constant"
    site.set(value=ir.tensor(np.array(site.input(0) is not None)))
    site.set_inputs()


@rule("MeanVarianceNormalization", below=_ALWAYS)
def _mean_variance_axes(site: Site) -> None:
    """onnx's shape inference stops at this op when the axes are left to their default."""
    if "axes" not in site.node.attributes:
        site.node.attributes["axes"] = ir.AttrInt64s("axes", [0, 2, 3])


@rule("Upsample", below=9)
def _upsample_scales(site: Site) -> None:
    site.set_inputs(site.input(0), site.constant("scales", list(site.take("scales")), ir.DataType.FLOAT))


@rule("Upsample", below=10)
def _upsample(site: Site) -> None:
    """It only enlarges, so that nearest takes the position below whatever the scales are."""
    mode = site.get("mode", "nearest")
    site.node.op_type = "Resize"
    site.set(mode="linear" if mode == "bilinear" else mode, nearest_mode="floor")


@rule("Resize", below=11)
def _resize_10(site: Site) -> None:
    """Before 11 positions were x / scale; nearest took the one below when enlarging, the one above when shrinking."""
    scales = site.known(1)
    site.set_inputs(site.input(0), None, site.input(1))
    site.set(coordinate_transformation_mode="asymmetric")
    if site.get("mode", "nearest") != "nearest" or "nearest_mode" in site.node.attributes:
        return
    if scales is None or ((scales < 1).any() and (scales > 1).any()):
        raise CannotUpgradeError("nearest resizing by scales that are not known or of both kinds rounds either way")
    site.set(nearest_mode="ceil" if (scales < 1).any() else "floor")


@rule("Resize", below=13)
def _resize_11(site: Site) -> None:
    for slot in (1, 2):  # what is not used was an empty tensor
        value = site.input(slot)
        unused = slot == 1 and site.get("coordinate_transformation_mode") != "tf_crop_and_resize"
        if value is not None and (unused or (site.known(slot) is not None and site.known(slot).size == 0)):
            site.set_input(slot, None)
    if site.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        # floor((x + 0.5) / scale) is what half_pixel gives when x.5 rounds up
        if site.get("mode", "nearest") != "nearest" or site.get("nearest_mode", "round_prefer_floor") != "floor":
            raise CannotUpgradeError("tf_half_pixel_for_nn is known for nearest_mode=floor alone")
        site.set(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")


@rule("Scatter", below=11)
def _scatter(site: Site) -> None:
    site.node.op_type = "ScatterElements"


@rule("RoiAlign", below=16)
def _roi_align(site: Site) -> None:
    site.set(coordinate_transformation_mode="output_half_pixel")


@rule("GridSample", below=20)
def _grid_sample(site: Site) -> None:
    mode = site.get("mode", "bilinear")
    site.set(mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


@rule("GroupNormalization", below=21)
def _group_norm(site: Site) -> None:
    """Before 21 scale and bias were one number a group; now one a channel."""
    shape, groups = site.input(0).shape, site.get("num_groups")
    if shape is None or not isinstance(shape[1], int):
        raise CannotUpgradeError("the number of channels is not known")
    if shape[1] == groups:
        return
    column, row = site.constant("column", [groups, 1]), site.constant("channels", [shape[1]])
    times = site.constant("times", [groups, shape[1] // groups])
    for slot, name in ((1, "scale"), (2, "bias")):
        wide = site.op(
            "Expand", f"{name}_wide", [site.op("Reshape", f"{name}_column", [site.input(slot), column]), times]
        )
        site.set_input(slot, site.op("Reshape", f"{name}_channels", [wide, row]))
