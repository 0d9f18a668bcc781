"""Puts a processing into the graph of a model, as nodes of the standard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, suggest
from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.rewriter import Rewriter
from dlbridge.processing.spec import Classes, Image, Processing, Standardized

_CHANNELS = (1, 3, 4)


def add(model: Model, processing: Processing) -> Model:
    """A model with the processing in its graph.

    Args:
        model: The model; it is not changed.
        processing: What comes before its inputs and after its outputs.

    Returns:
        A new model. Inputs that are processed have another type and shape under the same name; outputs stay, and new
        ones follow them. It has no original to be compared with: the model without the processing has.

    Raises:
        DlbridgeError: When there is no such input or output, or its shape is not what the processing is for.
    """
    whole = model.clone()
    whole.training = None
    builder = _Builder(whole)
    inputs = {value.name or "": value for value in whole.inputs}
    outputs = {value.name or "": value for value in whole.outputs}
    for name, before in processing.inputs.items():
        value = _found(name, inputs, "input", model)
        if isinstance(before, Image):
            builder.image(value, before)
        else:
            builder.standardized(value, before)
    for name, after in processing.outputs.items():
        builder.classes(_found(name, outputs, "output", model), after)
    whole.graph.sort()
    shapes.infer(whole.ir)
    return whole


def is_by_number(spec: Standardized, shape: Sequence[Any]) -> bool:
    """Whether a processing has a mean and a deviation for each number of a row, and not for each index on the last
    axis: the columns of a table that are the pixels of an image.

    Args:
        spec: The processing.
        shape: The shape of the input or of an array for it, rows first.
    """
    count = max(len(spec.mean), len(spec.std))
    row = shape[1:]
    sizes = [size for size in row if isinstance(size, int)]
    return len(row) > 1 and len(sizes) == len(row) and count not in (1, row[-1]) and count == math.prod(sizes)


def _found(name: str, values: dict[str, ir.Value], what: str, model: Model) -> ir.Value:
    if name not in values:
        raise DlbridgeError(f"the model has no {what} '{name}'", where=model.name, hint=suggest(name, values))
    return values[name]


class _Builder:
    """Adds nodes to a graph."""

    def __init__(self, model: Model) -> None:
        self._graph = model.graph
        self._rewriter = Rewriter(model.graph)
        self._where = model.name

    # --- before -------------------------------------------------------------------------------------------------------

    def image(self, value: ir.Value, spec: Image) -> None:
        """Put an image of bytes in the place of an input."""
        where = f"input '{value.name}' of {self._where}"
        if value.shape is None:
            raise DlbridgeError("an image has four axes", where=where)
        channel = channel_axis(value.shape, spec, where)
        count = value.shape[channel]
        if not isinstance(count, int):
            raise DlbridgeError("its channels have no fixed number", where=where)
        height, width = (s for axis, s in enumerate(value.shape) if axis not in (0, channel))
        size = spec.size or (height, width)
        if not all(isinstance(s, int) for s in size):
            raise DlbridgeError("its height and width are free", where=where, hint="say the 'size' to resize to")
        name = value.name or ""
        shape = [value.shape[0], f"{name}_height", f"{name}_width", count]
        fresh = self._input(value, ir.DataType.UINT8, shape)
        x = self._op("Cast", name, "float", [fresh], to=int(ir.DataType.FLOAT))
        x = self._resized(x, name, [s for s in size if isinstance(s, int)], spec)
        scale = self._rewriter.constant(f"{name}_scale", spec.scale, ir.DataType.FLOAT)
        x = self._op("Mul", name, "scaled", [x, scale])
        x = self._normalized(x, name, spec.mean, spec.std, [count], where)
        if channel == 1:
            x = self._op("Transpose", name, "channels_first", [x], perm=[0, 3, 1, 2])
        self._feed(value, x)

    def standardized(self, value: ir.Value, spec: Standardized) -> None:
        """Put numbers as they were measured in the place of an input."""
        where = f"input '{value.name}' of {self._where}"
        if value.shape is None or not len(value.shape):
            raise DlbridgeError("numbers to standardize have an axis", where=where)
        shape, name = list(value.shape), value.name or ""
        row = shape[1:] if is_by_number(spec, shape) else shape[-1:]
        fresh = self._input(value, ir.DataType.FLOAT, shape)
        self._feed(value, self._normalized(fresh, name, spec.mean, spec.std, row, where))

    def _resized(self, x: ir.Value, name: str, size: Sequence[int], spec: Image) -> ir.Value:
        how: dict[str, Any]
        if spec.mode == "nearest":
            how = {"nearest_mode": "floor"}
        else:  # as Pillow and torch remove aliases: weights of pixels outside count for nothing, cubics have a = -0.5
            how = {"antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5}
        sizes = self._rewriter.constant(f"{name}_size", list(size))
        x = self._op(
            "Resize",
            name,
            "resized",
            [x, None, None, sizes],
            axes=[1, 2],
            mode=spec.mode,
            coordinate_transformation_mode="half_pixel",
            keep_aspect_ratio_policy="stretch" if spec.fit == "stretch" else "not_smaller",
            **how,
        )
        return x if spec.fit == "stretch" else self._op("CenterCropPad", name, "cropped", [x, sizes], axes=[1, 2])

    def _normalized(
        self,
        x: ir.Value,
        name: str,
        mean: Sequence[float],
        std: Sequence[float],
        row: Sequence[Any],
        where: str,
    ) -> ir.Value:
        """(x - mean) / std along the last axes, whose sizes are ``row``, leaving out what changes nothing."""
        count = math.prod(row) if len(row) > 1 else row[0]
        for what, op, numbers, neutral in (("mean", "Sub", mean, 0.0), ("std", "Div", std, 1.0)):
            if len(numbers) not in (1, count):
                raise DlbridgeError(f"'{what}' has {len(numbers)} numbers, there are {count}", where=where)
            if any(number != neutral for number in numbers):
                held = np.asarray(numbers, np.float32).reshape(row if len(numbers) > 1 and len(row) > 1 else -1)
                constant = self._rewriter.constant(f"{name}_{what}", held, ir.DataType.FLOAT)
                x = self._op(op, name, f"by_{what}", [x, constant])
        return x

    def _input(self, value: ir.Value, dtype: ir.DataType, shape: Sequence[Any]) -> ir.Value:
        """A new input under the name of another, whose place it takes; that one gets a new name."""
        name = value.name or ""
        fresh = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        place = self._graph.inputs.index(value)
        value.name = self._rewriter.value_name(f"{name}_processed")
        self._graph.inputs[place] = fresh
        return fresh

    def _feed(self, value: ir.Value, made: ir.Value) -> None:
        """Let what was an input be a value that is computed."""
        dtype = value.dtype or ir.DataType.FLOAT
        if dtype != ir.DataType.FLOAT:
            made = self._op("Cast", value.name or "", "cast", [made], to=int(dtype))
        made.shape, made.dtype = value.shape, dtype
        for index, output in enumerate(self._graph.outputs):
            if output is value:  # a model that returns an input as it is
                self._graph.outputs[index] = made
        ir.convenience.replace_all_uses_with(value, made)

    # --- after --------------------------------------------------------------------------------------------------------

    def classes(self, value: ir.Value, spec: Classes) -> None:
        """Add the best classes of an output as outputs of their own."""
        where = f"output '{value.name}' of {self._where}"
        if value.shape is None or not len(value.shape) or value.dtype is None or not value.dtype.is_floating_point():
            raise DlbridgeError("scores of classes are floats with an axis", where=where)
        count, name = value.shape[-1], value.name or ""
        if isinstance(count, int) and spec.top > count:
            raise DlbridgeError(f"'top' is {spec.top}, there are {count} classes", where=where)
        if spec.labels is not None and isinstance(count, int) and len(spec.labels) != count:
            raise DlbridgeError(f"there are {len(spec.labels)} labels for {count} classes", where=where)
        x = value
        if spec.softmax:
            x = self._op("Softmax", name, "probabilities", [x], axis=-1)
        best = self._node("TopK", name, "best", [x, self._rewriter.constant(f"{name}_top", [spec.top])], 2, axis=-1)
        scores, classes = best.outputs
        self._output(scores, f"{name}_scores")
        self._output(classes, f"{name}_classes")
        if spec.labels is not None:
            table = self._rewriter.value_name(f"{name}_names")
            texts = [text.encode() for text in spec.labels]
            tensor = ir.StringTensor(texts, shape=ir.Shape([len(texts)]), name=table)
            held = self._rewriter.add_initializer(table, tensor)
            self._output(self._op("Gather", name, "label", [held, classes], axis=0), f"{name}_labels")

    def _output(self, value: ir.Value, name: str) -> None:
        value.name = self._rewriter.value_name(name)
        self._graph.outputs.append(value)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _op(self, op: str, name: str, what: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        return self._node(op, name, what, inputs, 1, **attributes).outputs[0]

    def _node(
        self, op: str, name: str, what: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Any
    ) -> ir.Node:
        made = ir.node(op, inputs, attributes, num_outputs=outputs)
        made.name = self._rewriter.node_name(f"{name}_{what}")
        for value in made.outputs:
            value.name = self._rewriter.value_name(f"{name}_{what}")
        self._graph.append(made)
        return made


def channel_axis(shape: ir.Shape, spec: Image, where: str) -> int:
    """The axis of the channels of an input that takes images.

    Raises:
        DlbridgeError: When it cannot be seen from the shape, and the specification does not say it.
    """
    if len(shape) != 4:
        raise DlbridgeError("an image has four axes", where=where)
    if spec.layout is not None:
        return 1 if spec.layout == "channels_first" else 3
    found = [axis for axis in (1, 3) if shape[axis] in _CHANNELS]
    if len(found) != 1:
        raise DlbridgeError("which axis has the channels cannot be seen", where=where, hint="say its 'layout'")
    return found[0]
