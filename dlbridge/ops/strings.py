"""Strings in a graph: the part of the standard that looks them up, and arrays of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

#: The part of the standard that has ``LabelEncoder``, which maps strings to numbers and back.
ML = "ai.onnx.ml"
#: The version of it that graphs in memory import: the oldest that has ``LabelEncoder`` of any types.
ML_OPSET = 2
#: What a node that looks up strings is called (see ``dlbridge.ops.keys``).
LABEL_ENCODER = f"{ML}::LabelEncoder"

#: The attributes of ``LabelEncoder`` that hold a table of strings.
_TABLES = (("keys_strings", "values_int64s"), ("keys_int64s", "values_strings"), ("keys_strings", "values_strings"))


def has_strings(graph: ir.Graph) -> bool:
    """Whether a graph takes, holds or computes strings."""
    values = (*graph.inputs, *graph.initializers.values(), *(v for node in graph.all_nodes() for v in node.outputs))
    return any(value.dtype == ir.DataType.STRING for value in values)


def looks_up(node: ir.Node) -> bool:
    """Whether a node maps strings to integers or back by a table, which no other op of the standard says."""
    if (node.domain, node.op_type) != (ML, "LabelEncoder"):
        return False
    stated = set(node.attributes) - {"default_int64", "default_string", "default_float"}
    return any(stated == set(pair) for pair in _TABLES)


def is_text(array: np.ndarray) -> bool:
    """Whether an array holds strings, as Python objects or as numpy's own."""
    return array.dtype.kind in "OUS"


def as_text(array: np.ndarray) -> np.ndarray:
    """An array of strings as one of Python's ``str``, which is what onnxruntime takes and gives.

    Args:
        array: Holds ``str``, ``bytes`` in UTF-8 (as TensorFlow gives them) or numpy's strings; any shape.
    """
    found = np.empty(array.shape, object)
    found.reshape(-1)[:] = [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in array.reshape(-1)]
    return found


def as_bytes(array: np.ndarray) -> bytes:
    """The strings of an array one after the other in UTF-8, each behind its length in four bytes."""
    parts = [str(one).encode("utf-8") for one in as_text(array).reshape(-1)]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
