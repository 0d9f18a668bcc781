"""Applies a processing to training data: the same steps that are put into the graph of the exported model.

Images are resized by the nodes of that graph, run by onnxruntime. Normalization by mean and deviation is computed in
float32, as in the graph; it comes after augmentation, which works on pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import TrainingError
from dlbridge.model import Model
from dlbridge.processing import Image, Processing, Standardized, add
from dlbridge.processing.graph import channel_axis, is_by_number
from dlbridge.training.datasets.prepare import Augmentation
from dlbridge.training.datasets.rows import Arrays, stacked
from dlbridge.training.formulas.loss_part import LossPart


class Preparation:
    """Prepares the inputs and targets of a model, as a processing says.

    Args:
        model: The model.
        processing: What comes before it; its labels are those of the targets.
        augmented: Inputs that are changed in training before they are normalized: :meth:`input` leaves that to
            :meth:`normalized`.
    """

    def __init__(self, model: Model, processing: Processing, augmented: Sequence[str] = ()) -> None:
        self._values = {value.name or "": value for value in model.inputs}
        self._outputs = [value.name or "" for value in model.outputs]
        self._augmented = frozenset(augmented)
        self.processing = processing
        self._resize = cache(self._resizer)

    def input(self, name: str, array: np.ndarray) -> np.ndarray:
        """An input as the model takes it."""
        made = self.resized(name, array)
        return made if name in self._augmented else self.normalized(name, made)

    def resized(self, name: str, array: np.ndarray) -> np.ndarray:
        """An image in the size and the layout of the input, of numbers up to 255 times the scale; all else as it is."""
        if not isinstance(self.processing.inputs.get(name), Image):
            return array
        images = _images(name, array)
        if images.dtype != object:
            return self._run(name, images)
        return stacked([self._run(name, image[None])[0] for image in images])

    def normalized(self, name: str, array: np.ndarray) -> np.ndarray:
        """An input by the mean and the deviation of its processing."""
        spec = self.processing.inputs.get(name)
        if spec is None or array.dtype.kind not in "biuf":
            return array
        axis = self.channel_axis(name) if isinstance(spec, Image) else array.ndim - 1
        shape = [-1 if place == axis else 1 for place in range(array.ndim)]
        count = array.shape[axis]
        if isinstance(spec, Standardized) and is_by_number(spec, array.shape):
            shape, count = list(array.shape[1:]), math.prod(array.shape[1:])
        if isinstance(spec, Standardized) or array.dtype.kind != "f":
            array = array.astype(np.float32)
        for numbers, neutral, do in ((spec.mean, 0.0, np.subtract), (spec.std, 1.0, np.divide)):
            if any(number != neutral for number in numbers):
                constant = np.array(numbers, np.float32)
                if len(numbers) not in (1, count):
                    raise TrainingError(f"there are {len(numbers)} numbers for {count} columns", where=name)
                array = do(array, constant.reshape(shape) if len(numbers) > 1 else constant)
        return array

    def target(self, loss: LossPart, array: np.ndarray) -> np.ndarray:
        """A target as numbers: names of classes as their places among the labels of the output.

        Raises:
            TrainingError: When there is a name that is none of them.
        """
        if array.dtype.kind not in "UO":
            return array
        spec = self.processing.outputs.get(loss.of or self._outputs[0])
        if spec is None or spec.labels is None:
            return array
        return numbered(array, spec.labels)

    def augmenter(self, augment: Mapping[str, Sequence[Any]], dtypes: Mapping[str, np.dtype]) -> Any:
        """What changes the inputs of a batch in training: see ``dlbridge.training.data.Augment``."""

        def changed(inputs: Arrays, key: tuple[int, ...]) -> Arrays:
            found = dict(inputs)
            for place, (name, parts) in enumerate(augment.items()):
                rng = np.random.default_rng([*key, place])
                made = self._changed(name, inputs[name], parts, rng)
                found[name] = np.ascontiguousarray(self.normalized(name, made), dtypes[name])
            return found

        return changed

    def channel_axis(self, name: str) -> int:
        """The axis of an image that has its channels, in the layout of the input."""
        spec = self.processing.inputs.get(name)
        shape = self._values[name].shape
        assert shape is not None
        return channel_axis(shape, spec if isinstance(spec, Image) else Image(), f"input '{name}'")

    def _changed(self, name: str, x: np.ndarray, parts: Sequence[Augmentation], rng: np.random.Generator) -> np.ndarray:
        axis, spec = self.channel_axis(name), self.processing.inputs.get(name)
        largest = 255 * spec.scale if isinstance(spec, Image) else np.inf
        x = np.moveaxis(x, axis, 3)
        for part in parts:
            x = part.change(x, rng, largest)
        return np.moveaxis(x, 3, axis)

    def _run(self, name: str, images: np.ndarray) -> np.ndarray:
        return self._resize(name)(images)

    def _resizer(self, name: str) -> Any:
        """The part of the graph that resizes an image, as a function."""
        value, spec = self._values[name], self.processing.inputs[name]
        assert isinstance(spec, Image) and value.shape is not None
        x = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(list(value.shape)))
        same = ir.node("Identity", [x])
        (made,) = same.outputs
        made.name, made.type, made.shape = f"{name}_prepared", x.type, x.shape
        plain = spec.model_copy(update={"mean": (0.0,), "std": (1.0,)})
        whole = add(Model.build("resize", [x], [made], [same]), Processing(inputs={name: plain}))
        standard = frameworks.get(frameworks.STANDARD)
        live = standard.load(standard.write(whole))
        return lambda images: standard.run(live, {name: images})[f"{name}_prepared"]


def numbered(names: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The class number of each name: its place among the labels.

    Raises:
        TrainingError: When a name is none of them.
    """
    texts = names.astype(str)
    places = {label: place for place, label in enumerate(labels)}
    unknown = sorted(set(np.unique(texts)) - places.keys())
    if unknown:
        raise TrainingError(
            f"'{unknown[0]}' is none of the classes {', '.join(labels[:10])}{', ...' if len(labels) > 10 else ''}",
            hint="the classes are those of the rows that are trained on; 'stratify: true' puts some of each there",
        )
    return np.vectorize(places.__getitem__, otypes=[np.int64])(texts)


def _images(name: str, array: np.ndarray) -> np.ndarray:
    """Images (batch, height, width, channels) of bytes; where they differ in size, an array of arrays.

    Raises:
        TrainingError: When they are something else.
    """
    given = list(array) if array.dtype == object else [array]
    for image in given:
        axes = image.ndim + (1 if array.dtype == object else 0)
        if image.dtype != np.uint8 or axes not in (3, 4):
            raise TrainingError(
                f"an image is bytes (uint8) of (height, width, channels), there is {image.dtype} {image.shape}",
                where=name,
                hint="leave out its 'prepare' where the data is what the model takes",
            )
    if array.dtype != object:
        return array if array.ndim == 4 else array[..., None]
    return stacked([image if image.ndim == 3 else image[..., None] for image in given])
