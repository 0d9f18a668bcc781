"""``ZipMap`` at the end of a classifier: a table of probabilities as one dictionary for each row.

No framework's model gives dictionaries. The table itself is the output here, under the same name; its columns are the
classes in the order of the labels.
"""

from __future__ import annotations

import warnings

import onnx

from dlbridge.errors import DlbridgeWarning
from dlbridge.ops.keys import is_op

#: Key of ``graph.meta``: outputs that are dictionaries in the file.
DROPPED = "dlbridge.zip_maps"
_ZIP_MAP = "ai.onnx.ml::ZipMap"


def without(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with tables in the place of dictionaries, and the names of these outputs; itself where it has none."""
    outputs = {value.name for value in proto.graph.output}
    found = [node for node in proto.graph.node if is_op(node, _ZIP_MAP)]
    names = [node.output[0] for node in found if len(node.input) == 1 and node.output and node.output[0] in outputs]
    if not names:
        return proto, []
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for node in changed.graph.node:
        if is_op(node, _ZIP_MAP) and node.output[0] in names:
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
    for value in changed.graph.output:
        if value.name in names:
            value.type.Clear()
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return changed, names


def tell(names: list[str]) -> None:
    """Warn that outputs are tables and not dictionaries."""
    text = f"{', '.join(names)}: a table with a column for each class, in the order of the labels, not dictionaries"
    warnings.warn(text, DlbridgeWarning, stacklevel=4)
