"""Layers whose code calls TensorFlow itself: traced by TensorFlow, converted by tf2onnx, and put into the graph."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir
from keras import tree

from dlbridge.frameworks.keras import tracing
from dlbridge.frameworks.keras.building import Builder
from dlbridge.frameworks.keras.names import path_part
from dlbridge.frameworks.keras.onnx_export import NEWEST_OPSET, _Quiet, _register_erfc
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes import fold, shapes
from dlbridge.passes.lift import lift
from dlbridge.passes.upgrade import upgrade


class ConversionError(Exception):
    """TensorFlow or tf2onnx cannot say the code; the message says why."""


def read_call(build: Builder, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The values that a layer's ``call`` makes of values, nested as it gives them.

    Args:
        build: Gets the nodes; weights are found again by their numbers.
        layer: The layer.
        args: Its arguments; the values in it are tensors.
        kwargs: Its keyword arguments, likewise.

    Raises:
        ConversionError: When it cannot be converted.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConversionError("Keras does not run on TensorFlow")
    import tensorflow as tf
    import tf2onnx

    _register_erfc()
    given = [v for v in tree.flatten((args, kwargs)) if isinstance(v, ir.Value)]
    specs = [
        tf.TensorSpec([d if isinstance(d, int) else None for d in v.shape], tf.as_dtype(v.dtype.numpy()), f"input_{i}")  # type: ignore[union-attr]
        for i, v in enumerate(given)
    ]
    struct: list[Any] = []

    @tf.function(input_signature=specs)
    def call(*arrays: Any) -> list[Any]:
        left = iter(arrays)
        packed, named = tree.map_structure(lambda v: next(left) if isinstance(v, ir.Value) else v, (args, kwargs))
        result = tracing.function_of(layer)(*packed, **named)
        struct.append(tree.map_structure(lambda _: 0, result))
        return [tf.identity(v) for v in tree.flatten(result)]

    try:
        with _Quiet():
            proto, _ = tf2onnx.convert.from_function(call, specs, opset=NEWEST_OPSET)
    except Exception as error:  # the user's code, TensorFlow and tf2onnx raise many kinds of errors
        raise ConversionError((str(error).strip() or type(error).__name__).splitlines()[0]) from error
    ir_model = ir.from_proto(proto)
    foreign = sorted({op_key(n) for n in ir_model.graph.all_nodes() if n.domain or not onnx.defs.has(op_key(n))})
    if foreign:
        raise ConversionError(f"tf2onnx left ops that the standard does not have: {', '.join(foreign)}")
    model = _standard(ir_model, given)
    return tree.pack_sequence_as(struct[-1], _spliced(build, model, given, layer))


def _standard(ir_model: ir.Model, given: list[ir.Value]) -> Model:
    """What tf2onnx wrote at the opset of models in memory, with layers in the place of patterns."""
    upgrade(ir_model)
    found = {str(v.name).partition(":")[0]: v for v in ir_model.graph.inputs}
    inputs = [found.get(f"input_{i}") or ir.Value(name=f"input_{i}") for i in range(len(given))]
    ir_model.graph.inputs.clear()
    for own, value in zip(inputs, given, strict=True):
        own.type, own.shape = value.type, value.shape
        ir_model.graph.inputs.append(own)
    for value in ir_model.graph.outputs:
        value.shape = None
    for number, node in enumerate(ir_model.graph.all_nodes()):
        node.name = f"node_{number}"
    model = Model(ir_model)
    fold.lift_constants(model.graph)
    shapes.infer(model)
    fold.fold(model)
    lift(model)
    return model


def _spliced(build: Builder, model: Model, given: list[ir.Value], layer: Any) -> list[ir.Value]:
    """The outputs of a model whose nodes and weights are moved into the graph of another."""
    graph = model.graph
    results = list(graph.outputs)
    graph.outputs.clear()
    moved = dict(zip(graph.inputs, given, strict=True))
    variables = [v for one in layer._flatten_layers() for v in one._trainable_variables + one._non_trainable_variables]
    for value in list(graph.initializers.values()):
        del graph.initializers[value.name]
        moved[value] = _weight(build, value, layer, variables)
    for old, new in moved.items():
        ir.convenience.replace_all_uses_with(old, new)
    for node in list(graph):
        graph.remove(node)
        node.name = build.node_name(f"{build.path}.{node.op_type.lower()}" if build.path else node.op_type.lower())
        node.metadata_props[traits.ANONYMOUS] = "true"
        for value in node.outputs:
            value.name = build.value_name()
        build.graph.append(node)
        build.made.append(node)
    return [moved.get(v, v) for v in results]


def _weight(build: Builder, value: ir.Value, layer: Any, variables: list[Any]) -> ir.Value:
    """An initializer as the variable that has its numbers, its axes in any order; else as a constant."""
    array = value.const_value.numpy()  # type: ignore[union-attr]
    for variable in variables if array.size > 1 else []:
        numbers = keras.ops.convert_to_numpy(variable)
        if sorted(_sizes(numbers)) != sorted(_sizes(array)):
            continue
        for perm in itertools.permutations(range(numbers.ndim)):
            turned = numbers.transpose(perm)
            if _sizes(turned) == _sizes(array) and np.array_equal(turned.reshape(array.shape), array):
                own = variable.path.removeprefix(f"{layer.path}/").replace("/", ".")
                steps = () if list(perm) == sorted(perm) else (("transpose", perm),)
                steps += () if turned.shape == array.shape else (("reshape", array.shape),)
                frozen = not any(v is variable for one in layer._flatten_layers() for v in one._trainable_variables)
                return build.weight(variable, path_part(f"{build.path}.{own}"), steps, buffer=frozen)
    return build.constant(array, value.const_value.dtype)  # type: ignore[union-attr]


def _sizes(array: np.ndarray) -> list[int]:
    return [s for s in array.shape if s != 1]
