"""Makes a SavedModel of a written Keras model; TensorFlow Lite and tf2onnx begin with one too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.keras import runner
from dlbridge.frameworks.keras.onnx_export import tensor_spec
from dlbridge.source.program import Source

#: The name of the one function of a SavedModel that is served.
SIGNATURE = "serving_default"


def export(source: Source, folder: Path, *, frozen: bool = False) -> None:
    """Write a SavedModel whose inputs and outputs have the model's names.

    Args:
        source: A written Keras model.
        folder: The folder.
        frozen: Make constants of the weights, which nothing has to initialise then.

    Raises:
        DlbridgeError: When Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        backend = keras.backend.backend()
        raise DlbridgeError(f"a SavedModel is TensorFlow's, this is Keras on {backend}", where=source.model.name)
    live = runner.load(source)

    def serve(**given: Any) -> dict[str, Any]:
        inputs = [given[name] for name in source.inputs]
        out = live(runner.argument(inputs), training=False)
        # an output that is an input, or another output, would have no name of its own
        return {name: tf.identity(value) for name, value in zip(source.outputs, source.in_order(out), strict=True)}

    specs = {str(v.name): tensor_spec(v, v.name) for v in source.model.graph.inputs if v.name in source.inputs}
    module = tf.Module()
    module.model = live
    module.serve = tf.function(serve, autograph=False)
    with runner.policy(source):
        concrete = module.serve.get_concrete_function(**specs)
        if frozen:
            module, concrete = _frozen(concrete, specs)
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: concrete})


def _frozen(concrete: Any, specs: Mapping[str, tf.TensorSpec]) -> tuple[tf.Module, Any]:
    """A function without variables, in a module of its own."""
    constant = convert_variables_to_constants_v2(concrete)
    order = [tensor.op.name for tensor in constant.inputs]
    outputs = sorted(concrete.structured_outputs)  # the order in which TensorFlow flattens a dict

    def serve(**given: Any) -> dict[str, Any]:
        results = constant(*(given[name] for name in order))
        return dict(zip(outputs, results, strict=True))

    module = tf.Module()
    module.serve = tf.function(serve, autograph=False)
    return module, module.serve.get_concrete_function(**specs)


def run(served: Any, source: Source, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run what takes and returns tensors by name.

    Raises:
        SignatureError: When an input is missing.
    """
    source.require_inputs(inputs)
    found = served(**{name: inputs[name] for name in source.inputs})
    return {name: np.asarray(found[name]) for name in source.outputs}
