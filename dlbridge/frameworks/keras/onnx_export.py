"""ONNX by tf2onnx, which ``keras.Model.export(format="onnx")`` uses: an independent route to the same model."""

from __future__ import annotations

import functools
import logging
import math
import threading
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import onnx
import onnx_ir as ir

from dlbridge.errors import DlbridgeError
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
    register_erfc()
    written = _converted(live, model, large, min(opset, NEWEST_OPSET))
    left = {op_key(n) for n in written.graph.all_nodes() if not n.domain and not onnx.defs.has(op_key(n))}
    if left:
        raise DlbridgeError(
            f"tf2onnx cannot export it: it has no word for TensorFlow's {', '.join(sorted(left))}", where=model.name
        )
    _order_inputs(written.graph, len(model.inputs), large)
    signature.rename(written.graph, model)
    ir.save(written, path, external_data=f"{path.name}.data" if large else None)
    return path


def _converted(live: keras.Model, model: Model, large: list[Any], opset: int) -> ir.Model:
    """What tf2onnx makes of a live model, in which large weights are inputs after those of the model: it copies each
    constant at each of dozens of steps, which takes forty models of memory."""
    import tensorflow as tf
    import tf2onnx

    specs = [tf.TensorSpec(_shape(v), _dtype(v), name=_INPUT.format(i)) for i, v in enumerate(model.inputs)]
    weights = [tf.TensorSpec(v.shape, v.dtype, name=_WEIGHT.format(i)) for i, v in enumerate(large)]

    @tf.function(input_signature=[*specs, *weights])
    def call(*arrays: Any) -> list[Any]:
        given, numbers = list(arrays[: len(specs)]), arrays[len(specs) :]
        with keras.StatelessScope(state_mapping=list(zip(large, numbers, strict=True))):
            out = live(given if len(given) > 1 else given[0], training=False)
        # an output that is an input, or another output, would have no name of its own
        return [tf.identity(v) for v in (out if isinstance(out, (list, tuple)) else [out])]

    try:
        with Quiet():
            proto, _ = tf2onnx.convert.from_function(call, [*specs, *weights], opset=opset)
    except Exception as error:  # tf2onnx and TensorFlow raise many kinds of errors for what they cannot export
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[-1] if lines[0] == "in user code:" else lines[0]  # a traceback's last line says what happened
        raise DlbridgeError(f"tf2onnx cannot export it: {reason}", where=model.name) from error
    return ir.from_proto(proto)


def _order_inputs(graph: ir.Graph, count: int, large: list[Any]) -> None:
    """Put the inputs in order, and give large weights their numbers; an input that the graph does not read was left
    out and comes back."""
    found = {str(v.name).partition(":")[0]: v for v in graph.inputs}
    graph.inputs.clear()
    graph.inputs.extend(found.get(name) or ir.Value(name=name) for name in map(_INPUT.format, range(count)))
    for i, variable in enumerate(large):
        weight = found.get(_WEIGHT.format(i))
        if weight is not None:
            weight.const_value = ir.tensor(keras.ops.convert_to_numpy(variable), name=weight.name)
            graph.initializers.add(weight)


def _shape(value: ir.Value) -> list[int | None]:
    return [s if isinstance(s, int) else None for s in value.shape or ()]


def _dtype(value: ir.Value) -> Any:
    import tensorflow as tf

    return tf.as_dtype(value.dtype.numpy())  # type: ignore[union-attr]


@functools.cache
def register_erfc() -> None:
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


class Quiet:
    """tf2onnx tells of each of its steps on the log; nothing below an error is of use here.

    The last of those that run at once gives the log back its level.
    """

    _logger = logging.getLogger("tf2onnx")
    _lock = threading.Lock()
    _running: ClassVar[set[object]] = set()
    _level = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                Quiet._level = self._logger.level
            self._running.add(self)
            self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running.discard(self)
            if not self._running:
                self._logger.setLevel(self._level)
