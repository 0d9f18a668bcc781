"""ONNX by tf2onnx, which ``keras.Model.export(format="onnx")`` uses: an independent route to the same model."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.keras.logs import quiet
from dlbridge.model import Model
from dlbridge.ops.keys import op_key
from dlbridge.passes import signature

#: The newest opset that tf2onnx writes.
NEWEST_OPSET = 18
#: Weights of at least so many numbers are not constants of the graph that tf2onnx converts.
_LARGE_WEIGHT = 1 << 14
_INPUT, _WEIGHT = "input_{}", "weight_{}"


def export(live: keras.Model, model: Model, path: Path, *, opset: int) -> Path:
    """Export a live Keras model; inputs, outputs and symbolic dims get the model's names.

    Args:
        live: The Keras model, of the model's signature and layout.
        model: Says the signature.
        path: The file to write.
        opset: The opset to write; 18, the newest that tf2onnx has, when it is newer.

    Raises:
        DlbridgeError: When tf2onnx fails, or Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise DlbridgeError(
            f"tf2onnx exports Keras on TensorFlow, this is Keras on {keras.backend.backend()}", where=model.name
        )
    large = [v for v in live.variables if math.prod(v.shape) >= _LARGE_WEIGHT]
    try:
        written = _exported(live, model, large, min(opset, NEWEST_OPSET))
    except ConversionError as error:
        raise DlbridgeError(f"tf2onnx cannot export it: {error}", where=model.name) from error
    _set_weights(written.graph, large)
    order_inputs(written.graph, len(model.inputs))
    signature.rename(written.graph, model)
    ir.save(written, path, external_data=f"{path.name}.data" if large else None)
    return path


def _exported(live: keras.Model, model: Model, large: list[Any], opset: int) -> ir.Model:
    """What tf2onnx makes of a live model, in which large weights are inputs after those of the model: it copies each
    constant at each of dozens of steps, which takes forty models of memory.

    Their sizes are said in the function: TensorFlow's optimizer makes an array for each input whose sizes it knows.
    """
    import tensorflow as tf
    import tf2onnx

    specs = [tensor_spec(v, _INPUT.format(i)) for i, v in enumerate(model.inputs)]
    weights = [tf.TensorSpec([None] * len(v.shape), v.dtype, name=_WEIGHT.format(i)) for i, v in enumerate(large)]

    @tf.function(input_signature=[*specs, *weights])
    def call(*arrays: Any) -> list[Any]:
        given = list(arrays[: len(specs)])
        state = [(v, tf.ensure_shape(a, v.shape)) for v, a in zip(large, arrays[len(specs) :], strict=True)]
        with keras.StatelessScope(state_mapping=state):
            out = live(given if len(given) > 1 else given[0], training=False)
        # an output that is an input, or another output, would have no name of its own
        return [tf.identity(v) for v in model.in_order(out)]

    return converted(lambda: tf2onnx.convert.from_function(call, [*specs, *weights], opset=opset))


def _set_weights(graph: ir.Graph, large: list[Any]) -> None:
    """Give large weights that are inputs their numbers."""
    found = _inputs(graph)
    for i, variable in enumerate(large):
        weight = found.get(_WEIGHT.format(i))
        if weight is not None:
            weight.shape = ir.Shape(variable.shape)
            weight.const_value = _numbers(variable, weight)
            graph.initializers.add(weight)


def _numbers(variable: Any, weight: ir.Value) -> ir.LazyTensor:
    """The numbers of a variable, copied when they are written."""
    assert weight.dtype is not None
    return ir.LazyTensor(
        lambda: ir.tensor(keras.ops.convert_to_numpy(variable)),
        dtype=weight.dtype,
        shape=ir.Shape(variable.shape),
        name=weight.name,
    )


class ConversionError(Exception):
    """TensorFlow or tf2onnx cannot convert code or a file; the message says why."""


def converted(convert: Callable[[], tuple[onnx.ModelProto, Any]]) -> ir.Model:
    """What tf2onnx makes.

    Raises:
        ConversionError: When it fails, or leaves ops that ONNX does not have.
    """
    _register_erfc()
    try:
        with quiet("tf2onnx"), quiet("tensorflow"):  # nothing below an error in what they tell is of use here
            made = ir.from_proto(convert()[0])
    except ConversionError:
        raise
    except Exception as error:  # the user's code, TensorFlow and tf2onnx raise many kinds of errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        # a traceback's last line says what happened
        raise ConversionError(lines[-1] if lines[0] == "in user code:" else lines[0]) from error
    left = {op_key(node) for node in made.graph.all_nodes() if not node.domain and not onnx.defs.has(op_key(node))}
    if left:
        raise ConversionError(f"it has no word for TensorFlow's {', '.join(sorted(left))}")
    return made


def order_inputs(graph: ir.Graph, count: int) -> None:
    """Put the inputs in order; one that the graph does not read was left out and comes back."""
    found = _inputs(graph)
    graph.inputs.clear()
    graph.inputs.extend(found.get(name) or ir.Value(name=name) for name in map(_INPUT.format, range(count)))


def _inputs(graph: ir.Graph) -> dict[str, ir.Value]:
    """The inputs by the names that TensorFlow was given."""
    return {str(value.name).partition(":")[0]: value for value in graph.inputs}


def tensor_spec(value: ir.Value, name: str | None) -> Any:
    """What TensorFlow calls the type and shape of a value."""
    import tensorflow as tf

    assert value.dtype is not None
    sizes = [size if isinstance(size, int) else None for size in value.shape or ()]
    return tf.TensorSpec(sizes, tf.as_dtype(value.dtype.numpy()), name=name)


@functools.cache
def _register_erfc() -> None:
    """tf2onnx has no rule for ``Erfc``, of which Keras' exact GELU is made: it is 1 - erf."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            shapes, dtypes = node.output_shapes, node.output_dtypes
            erf = ctx.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
            number = np.array(1, ir.DataType(dtypes[0]).numpy())
            one = ctx.make_const(f"{node.name}_one", number)
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                shapes=shapes,
                dtypes=dtypes,
            )
