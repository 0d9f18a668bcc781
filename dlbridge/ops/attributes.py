"""What an op's attributes may be: their types, and the words that the standard has for them."""

from __future__ import annotations

import functools

import onnx
import onnx_ir as ir

from dlbridge.ops import extension, traits
from dlbridge.ops.keys import layer_key

_PADDING = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_DIRECTIONS = ("forward", "reverse", "bidirectional")
_REDUCTIONS = ("none", "add", "mul", "max", "min")
_LOSSES = ("none", "mean", "sum")
#: (op, attribute) -> the words that it may be.
WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    **{(op, "auto_pad"): _PADDING for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")},
    **{(op, "direction"): _DIRECTIONS for op in ("RNN", "GRU", "LSTM")},
    **{(op, "reduction"): _REDUCTIONS for op in ("ScatterElements", "ScatterND")},
    **{(op, "reduction"): _LOSSES for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")},
    ("Pad", "mode"): ("constant", "reflect", "edge", "wrap"),
    ("Gelu", "approximate"): ("none", "tanh"),
    ("BitShift", "direction"): ("LEFT", "RIGHT"),
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("Resize", "mode"): ("nearest", "linear", "cubic"),
    ("Resize", "nearest_mode"): ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch", "not_larger", "not_smaller"),
    ("Resize", "coordinate_transformation_mode"): (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    ),
}

#: A word that Resize had before opset 13; ``passes.upgrade`` says what it means. tf2onnx writes it at any opset, and
#: onnxruntime knows it at all.
_OF_RESIZE_11 = ("Resize", "coordinate_transformation_mode", "tf_half_pixel_for_nn")
_WORDS_SINCE = 13


def mistake(node: ir.Node, opset: int = traits.IR_OPSET, *, of_file: bool = False) -> str | None:
    """The first attribute of a node that is not of the type, or none of the words, that its op has there.

    Args:
        node: The node.
        opset: The opset.
        of_file: Allow a word of an older opset that exporters go on writing.

    Returns:
        The mistake in words, or None. Ops of other domains, and attributes that an op does not have, are not judged.
    """
    key = layer_key(node)
    types = _types(key, opset)
    for name, attribute in node.attributes.items():
        wanted = types.get(name)
        if attribute.is_ref():
            continue  # of a function, where the call says it
        if attribute.type == ir.AttributeType.UNDEFINED:
            return f"{node.op_type} whose attribute '{name}' has no value"
        if wanted is not None and int(attribute.type) != wanted:
            return f"{node.op_type} whose attribute '{name}' is {attribute.type.name.lower()}"
        words = WORDS.get((key, name)) if opset >= _WORDS_SINCE else None
        if of_file and (key, name, attribute.value) == _OF_RESIZE_11:
            continue
        if words is not None and attribute.value not in words:
            return f"{node.op_type} whose '{name}' is none of {', '.join(words)}"
    return None


@functools.cache
def _types(key: str, opset: int) -> dict[str, int]:
    """Attribute -> number of its type (``onnx.AttributeProto.AttributeType``)."""
    if key in extension.EXTENSION_OPS:
        return {name: int(a.type) for name, a in extension.function(key).attributes.items()}
    if not onnx.defs.has(key, max_inclusive_version=opset):
        return {}
    return {name: int(a.type.value) for name, a in onnx.defs.get_schema(key, opset, "").attributes.items()}
