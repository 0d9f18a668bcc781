"""Names of nodes and weights in an ONNX file: dotted paths for nodes, state-dict keys for initializers.

A node's path is taken from, in this order:

1. its weight, if that has a state-dict name: a Conv that reads ``layer1.0.conv1.weight`` is ``layer1.0.conv1``;
2. the module path that ``torch.onnx`` (dynamo) writes into the node's metadata;
3. a name with slashes: ``/layer1/layer1.0/conv1/Conv`` (torch.onnx, older), ``model/dense/MatMul`` (tf2onnx);
4. any other name, made an identifier; such a name is marked as made up.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter

import onnx_ir as ir

from dlbridge.limits import limits
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.ops.names import python_name, unique
from dlbridge.passes import scopes
from dlbridge.passes.lift.pattern import WANTED_PATH

SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"

#: Op type -> {index of an input: its name in PyTorch's layers}.
SLOT_NAMES: dict[str, dict[int, str]] = {
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "DeformConv": {1: "weight", 3: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {0: "weight", 1: "weight"},
    "Linear": {1: "weight", 2: "bias"},
    "Embedding": {1: "weight"},
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "RMSNormalization": {1: "weight"},
    "GroupNormalization": {1: "weight", 2: "bias"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "PRelu": {1: "weight"},
    "LSTM": {1: "weight_ih", 2: "weight_hh", 3: "bias", 7: "peephole"},
    "GRU": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
    "RNN": {1: "weight_ih", 2: "weight_hh", 3: "bias"},
}
_BUFFERS = frozenset({"running_mean", "running_var"})
#: Last parts of state-dict names of floats that are usually buffers.
_BUFFER_NAMES = re.compile(r"(running_(mean|var)|inv_freq|.*mask|mean|std|anchors?|sin|cos|.*_table|freqs.*)")
#: PyTorch's modules that consist of other modules: a node in one does not implement it.
_HOLDER_CLASSES = re.compile(r"torch\.nn\.modules\.(container|transformer)|.*MultiheadAttention$")
#: Scopes that TensorFlow creates inside a layer's own scope.
_TF_SCOPES = frozenset(
    {"Tensordot", "batchnorm", "moments", "einsum", "convolution", "separable_conv2d", "embedding_lookup"}
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_STATE_DICT_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
#: Names that exporters make up: val_12, onnx::Conv_40, const_fold_opt__7, _v_12, 41.
_MADE_UP = re.compile(r"(\d+|.*::.*|val_\d+|.*__\d+|_?v_?\d+|.*_output_\d+|.*:\d+|node_.*|\w*[Cc]onst\w*|.*_\d+)")
#: Names that torch.onnx gives to constants made by PyTorch's ops: the op's name, the first one without a number.
_OF_OPS = frozenset(
    {"add", "alias", "arange", "cat", "clone", "cumsum", "detach", "div", "expand", "full", "index", "lift_fresh_copy"}
    | {"mul", "permute", "repeat", "reshape", "select", "slice", "squeeze", "stack", "sub", "to", "transpose"}
    | {"unsqueeze", "view", "where"}
)


def name_nodes(graph: ir.Graph) -> None:
    """Give every node its unique dotted path and every block its class; in place."""
    top = _common_root([n.name or "" for n in graph.all_nodes()])
    classes: dict[str, str] = {}
    taken: set[str] = set()
    paths = [(node, *_path(node, top, classes)) for node in graph.all_nodes()]
    for node, path, made_up in sorted(paths, key=lambda entry: not _reads_weight(entry[0])):  # a layer before its parts
        node.name = unique(path, taken)
        node.meta[WANTED_PATH] = path
        if made_up:
            traits.mark(node, traits.ANONYMOUS)
    traits.set_blocks(graph, {**traits.blocks(graph), **classes})


def _reads_weight(node: ir.Node) -> bool:
    """Whether a node is a convolution or matrix product with a weight."""
    w = node.inputs[1] if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") else None
    return w is not None and w.is_initializer() and w.const_value is not None


def _path(node: ir.Node, top: str, classes: dict[str, str]) -> tuple[str, bool]:
    """(dotted path of a node, whether it was made up); also records the classes of its blocks."""
    stack, names = (_words(node.metadata_props.get(key, "[]")) for key in (SCOPES, _CLASSES))
    modules = [(s, c) for s, c in zip(stack[:-1], names[:-1], strict=False) if not s.startswith("_empty_nn_module")]
    for scope, class_name in modules:
        if _is_block(class_name):
            classes.setdefault(dotted(scope), class_name.rpartition(".")[2])
    weight = _weight_path(node)
    if weight is not None:
        return weight, False
    if modules:
        scope, class_name = modules[-1]
        if scope and not _is_block(class_name):
            return dotted(scope), False
        return ".".join(filter(None, (dotted(scope), python_name(node.op_type.lower())))), True
    name = re.sub(r"__\d+$", "", (node.name or "").split(";")[0].removeprefix(top))  # tf2onnx numbers all it makes
    if _STATE_DICT_NAME.fullmatch(name):  # a dotted path, as dlbridge writes it
        return name, re.sub(r"_\d+$", "", name.rpartition(".")[2]) == op_key(node).lower()
    parts = [p for p in name.split("/") if p.strip(".")]
    parts = [p for p in parts[:-1] if p not in _TF_SCOPES] + parts[-1:]
    if len(parts) > 1:
        return ".".join((dotted_parts(parts[:-1]), python_name(parts[-1].lower()))), True
    name = parts[0].removeprefix("node_").lower() if parts else ""
    return python_name(name or node.op_type.lower()), True


def _words(text: str) -> list[str]:
    """A list of strings as torch.onnx writes it; empty if the text is not one."""
    try:
        found = ast.literal_eval(text) if len(text) <= limits().text >> 10 else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return found
    return []


def _is_block(class_name: str) -> bool:
    """Whether a module consists of other modules: all do except PyTorch's own layers."""
    return not class_name.startswith("torch.nn.modules.") or bool(_HOLDER_CLASSES.match(class_name))


def dotted(path: str) -> str:
    """A path of modules with each part fit for a dotted name; numbers (of ``Sequential``) stay."""
    parts = (re.sub(r"\W+", "_", part) for part in path.split(".") if part)
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in parts)


def dotted_parts(parts: list[str]) -> str:
    """Scopes, outermost first, as one dotted path; a scope that repeats the one before it (``layer1/layer1.0``,
    torch's Sequential) does so once."""
    path: list[str] = []
    for part in parts:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return dotted(".".join(path))


def _common_root(names: list[str]) -> str:
    """The outer scopes that most names with slashes share, as long as most have a further scope: the model itself in
    tf2onnx's names."""
    names = [n for n in names if "/" in n and not n.startswith("/")]
    root = ""
    while names:
        head, count = Counter(n.removeprefix(root).partition("/")[0] for n in names).most_common(1)[0]
        longer = f"{root}{head}/"
        scoped = sum("/" in n.removeprefix(longer) for n in names if n.startswith(longer))
        if 2 * count <= len(names) or 2 * scoped <= count:
            break
        root = longer
    return root


def is_state_dict_name(name: str) -> bool:
    """Whether an initializer's name comes from a user's module."""
    return bool(_STATE_DICT_NAME.fullmatch(name)) or (
        bool(_IDENTIFIER.fullmatch(name)) and not _MADE_UP.fullmatch(name) and name not in _OF_OPS
    )


def _weight_path(node: ir.Node) -> str | None:
    """``layer1.0.conv1`` of a node that reads ``layer1.0.conv1.weight`` (or its bias) in a weight slot."""
    for slot, what in SLOT_NAMES.get(op_key(node), {}).items():
        value = node.inputs[slot] if slot < len(node.inputs) else None
        if value is not None and value.is_initializer() and _STATE_DICT_NAME.fullmatch(value.name or ""):
            path, _, last = value.name.rpartition(".")
            if last == what:
                return path
    return None


def name_weights(graph: ir.Graph, *, torch: bool = False) -> None:
    """Set the kind of every initializer, and name those that have only a made-up name after the node that reads them.

    Float initializers in weight slots are parameters (running statistics: buffers); so are other float ones with a
    state-dict name, unless the name is one that buffers have. The rest are constants.

    Args:
        graph: The graph.
        torch: Whether torch.onnx made it, so that plain names (``pos_embed``) are of a state dict too.
    """
    taken = {v.name for v in graph.inputs} | set(graph.initializers)
    for value in list(graph.initializers.values()):
        uses = list(value.uses())
        if not uses or value.is_graph_input():
            continue
        slots = [SLOT_NAMES.get(op_key(use.node), {}).get(use.idx) for use in uses]
        what = next((slot for slot in slots if slot), None)
        kept = is_state_dict_name(value.name)
        if traits.KIND not in value.metadata_props:
            traits.set_kind(value, _kind(value, what, kept and (torch or "." in value.name)))
        if kept or traits.kind(value) == "constant":
            continue
        node = next(use.node for use, slot in zip(uses, slots, strict=True) if slot)
        value.name = unique(f"{_layer_path(node)}.{what}", taken)


def _layer_path(node: ir.Node) -> str:
    """Path of the layer whose weights a node reads: ``fc`` of ``fc.matmul``, else the node's own path."""
    scope, _, last = (node.name or "").rpartition(".")
    plain = re.sub(r"_\d+$", "", last) in (op_key(node).lower(), "convolution", "biasadd")
    return scope if scope and plain else node.name


def _kind(value: ir.Value, what: str | None, kept: bool) -> traits.Kind:
    tensor = value.const_value
    if tensor is None or not tensor.dtype.is_floating_point():
        return "constant"
    if not kept and all(is_op(use.node, "InstanceNormalization") for use in value.uses()):
        return "constant"  # what torch.onnx writes where a layer has no weights, or as a part of GroupNorm
    if what is not None:
        return "buffer" if what in _BUFFERS else "parameter"
    if not kept or tensor.size <= 1:
        return "constant"
    return "buffer" if _BUFFER_NAMES.fullmatch(value.name.rpartition(".")[2]) else "parameter"


def weights_of(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None and v.is_initializer() and traits.kind(v) != "constant"]


def name_values(graph: ir.Graph) -> None:
    """Name every value after its node; inputs, outputs and constants keep their names, made identifiers."""
    taken = set(graph.initializers)
    for value in list(graph.initializers.values()):
        if not _IDENTIFIER.fullmatch(value.name) and not _STATE_DICT_NAME.fullmatch(value.name):
            value.name = unique(python_name(value.name), taken)
    for value in (*graph.inputs, *graph.outputs):
        if not value.is_initializer():
            value.name = unique(python_name(value.name.removesuffix(":0")), taken)
    scopes.name_values(graph)
