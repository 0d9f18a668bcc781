"""Reads TensorFlow's own files, SavedModel and TensorFlow Lite, through the ONNX file that tf2onnx makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import tensorflow as tf
import tf2onnx
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dlbridge import border, frameworks
from dlbridge.errors import DlbridgeError, FileError
from dlbridge.frameworks.keras import onnx_export
from dlbridge.frameworks.keras.files.saved_models import SIGNATURE
from dlbridge.frameworks.keras.files.tensorflow_ops import HANDLERS
from dlbridge.model import Model

Arrays = dict[str, np.ndarray]
#: Ops of a SavedModel that reach beyond it: code, files, the network. Those that restore its weights are none of them.
_REACHES_OUT = re.compile(r"PyFunc|File(?!name)|Reader|Dataset|Rpc|Library|Socket|^Print")


class Original:
    """A file of TensorFlow: arrays by input name -> arrays by output name."""

    def __init__(self, run: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]) -> None:
        self._run = run

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        return {name: np.asarray(array) for name, array in self._run(arrays).items()}


# --- TensorFlow Lite --------------------------------------------------------------------------------------------------


@border.reader(lambda source: False)
def read_lite(path: Path, options: Any) -> Model:
    """Read a ``.tflite`` file.

    Raises:
        FileError: When it is missing or broken.
        DlbridgeError: When tf2onnx has no word for one of its ops.
    """
    if not path.is_file():
        raise FileError("no such file", where=str(path))
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise FileError("this is no file of TensorFlow Lite, or it is truncated", where=str(path))
    interpreter = tf.lite.Interpreter(model_content=content)
    inputs = {detail["name"]: detail["name"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail["name"] for detail in interpreter.get_output_details()}
    signatures = list(interpreter.get_signature_list())
    if signatures:
        served = interpreter.get_signature_runner(signatures[0])
        inputs = {detail["name"]: name for name, detail in served.get_input_details().items()}
        outputs = {detail["name"]: name for name, detail in served.get_output_details().items()}
    how = {"opset": onnx_export.NEWEST_OPSET, "custom_op_handlers": HANDLERS}
    proto = _converted(str(path), lambda: tf2onnx.convert.from_tflite(str(path), **how))
    _rename(proto, inputs, outputs)
    model = _read(proto, path, options)

    def run(arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        again = tf.lite.Interpreter(model_content=content)
        if signatures:
            return again.get_signature_runner(signatures[0])(**arrays)
        for detail in again.get_input_details():
            again.resize_tensor_input(detail["index"], arrays[_name(inputs[detail["name"]])].shape)
        again.allocate_tensors()
        for detail in again.get_input_details():
            again.set_tensor(detail["index"], arrays[_name(inputs[detail["name"]])])
        again.invoke()
        return {_name(outputs[d["name"]]): again.get_tensor(d["index"]) for d in again.get_output_details()}

    model.original = Original(run)
    return model


# --- SavedModel -------------------------------------------------------------------------------------------------------


@border.reader(lambda source: False)
def read_saved_model(folder: Path, options: Any) -> Model:
    """Read a SavedModel: the function that it serves.

    Raises:
        FileError: When it is broken, or has ops that reach beyond it and code is not trusted.
        DlbridgeError: When it serves no function, or tf2onnx has no word for one of its ops.
    """
    if not options.trust_code:
        _check_ops(folder)
    loaded = tf.saved_model.load(str(folder))
    signatures = dict(loaded.signatures)
    if not signatures:
        raise DlbridgeError(
            "this SavedModel serves no function", where=str(folder), hint="save it with signatures=, or by model.export"
        )
    served = signatures.get(SIGNATURE) or signatures[min(signatures)]
    frozen = convert_variables_to_constants_v2(served)
    names = list(served.structured_input_signature[1])
    given = [tensor.name for tensor in frozen.inputs]
    found = [tensor.name for tensor in frozen.outputs]

    def convert() -> Any:
        graph = frozen.graph.as_graph_def()
        how = {"opset": onnx_export.NEWEST_OPSET, "custom_op_handlers": HANDLERS}
        return tf2onnx.convert.from_graph_def(graph, input_names=given, output_names=found, **how)

    proto = _converted(str(folder), convert)
    by_op = {tensor.op.name: tensor.name for tensor in frozen.inputs}
    inputs = {by_op.get(name, name): name for name in names}
    outputs = dict(zip(found, sorted(served.structured_outputs), strict=True))
    _rename(proto, inputs, outputs)
    model = _read(proto, folder, options)

    def run(arrays: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return served(**{name: tf.constant(array) for name, array in arrays.items()})

    run.loaded = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    model.original = Original(run)
    return model


def _check_ops(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute when it is loaded."""
    path = folder / "saved_model.pb"
    found = saved_model_pb2.SavedModel()
    try:
        found.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError):
        raise FileError("this is no SavedModel, or it is truncated", where=str(path)) from None
    ops = set()
    for meta in found.meta_graphs:
        ops |= {node.op for node in meta.graph_def.node}
        ops |= {node.op for function in meta.graph_def.library.function for node in function.node_def}
    reaching = sorted(op for op in ops if _REACHES_OUT.search(op))
    if reaching:
        raise FileError(
            f"it has ops that run code or read files when it is loaded: {', '.join(reaching[:8])}",
            where=str(folder),
            hint="--trust-code loads it all the same",
        )


# --- what both share --------------------------------------------------------------------------------------------------


def _converted(where: str, convert: Callable[[], tuple[onnx.ModelProto, Any]]) -> onnx.ModelProto:
    """What tf2onnx makes of a file.

    Raises:
        DlbridgeError: When it fails, or leaves ops that ONNX does not have.
    """
    try:
        return ir.to_proto(onnx_export.converted(convert))
    except onnx_export.ConversionError as error:
        raise DlbridgeError(f"tf2onnx cannot read it: {error}", where=where) from error


def _rename(proto: onnx.ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Give the inputs and outputs of a graph the names of the function, and these alone."""
    names = {old: _name(new) for old, new in {**inputs, **outputs}.items()}
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, names.get(value.name.partition(":")[0], value.name))
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]


def _name(name: str) -> str:
    """A tensor's name without the number of the output and what TensorFlow puts before it."""
    return name.partition(":")[0].removeprefix(f"{SIGNATURE}_")


def _read(proto: onnx.ModelProto, path: Path, options: Any) -> Model:
    given: dict[str, Any] = {"name": options.name or path.stem}
    if options.inputs:
        given["inputs"] = options.inputs
    return frameworks.get(frameworks.STANDARD).read(proto, **given)
