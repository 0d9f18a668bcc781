"""ONNX by tf2onnx, which ``keras.Model.export(format="onnx")`` uses: an independent route to the same model."""

from __future__ import annotations

import functools
import logging
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
#: Largest size in bytes of TensorFlow's frozen graphs, which tf2onnx starts from.
LARGEST = 2**31 - 2**20


def export(live: keras.Model, model: Model, path: Path, *, opset: int) -> Path:
    """Export a live Keras model; inputs, outputs and symbolic dims get the model's names.

    Args:
        live: The Keras model, of the model's signature and layout.
        model: Says the signature.
        path: The file to write.
        opset: The opset to write; 18, the newest that tf2onnx has, when it is newer.

    Raises:
        DlbridgeError: When tf2onnx fails, the weights have more than 2 GB, or Keras runs on another backend than
            TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise DlbridgeError(
            f"tf2onnx exports Keras on TensorFlow, this is Keras on {keras.backend.backend()}", where=model.name
        )
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    if size > LARGEST:
        raise DlbridgeError(
            f"tf2onnx cannot export {size / 1e9:.1f} GB of weights, TensorFlow's graphs hold 2 GB",
            where=model.name,
            hint="written directly (--to onnx), or by torch.onnx, it has external data",
        )
    import tensorflow as tf
    import tf2onnx

    register_erfc()
    specs = [tf.TensorSpec(_shape(v), _dtype(v), name=f"input_{i}") for i, v in enumerate(model.inputs)]

    @tf.function(input_signature=specs)
    def call(*arrays: Any) -> list[Any]:
        out = live(list(arrays) if len(arrays) > 1 else arrays[0], training=False)
        # an output that is an input, or another output, would have no name of its own
        return [tf.identity(v) for v in (out if isinstance(out, (list, tuple)) else [out])]

    try:
        with Quiet():
            proto, _ = tf2onnx.convert.from_function(call, specs, opset=min(opset, NEWEST_OPSET))
    except Exception as error:  # tf2onnx and TensorFlow raise many kinds of errors for what they cannot export
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[-1] if lines[0] == "in user code:" else lines[0]  # a traceback's last line says what happened
        raise DlbridgeError(f"tf2onnx cannot export it: {reason}", where=model.name) from error
    written = ir.from_proto(proto)
    left = {op_key(n) for n in written.graph.all_nodes() if not n.domain and not onnx.defs.has(op_key(n))}
    if left:
        raise DlbridgeError(
            f"tf2onnx cannot export it: it has no word for TensorFlow's {', '.join(sorted(left))}", where=model.name
        )
    _order_inputs(written.graph, len(specs))
    signature.rename(written.graph, model)
    ir.save(written, path)
    return path


def _order_inputs(graph: ir.Graph, count: int) -> None:
    """Put the inputs in order; one that the graph does not read was left out and comes back."""
    found = {str(v.name).partition(":")[0]: v for v in graph.inputs}
    ordered = [found.get(f"input_{i}") or ir.Value(name=f"input_{i}") for i in range(count)]
    graph.inputs.clear()
    graph.inputs.extend(ordered)


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
