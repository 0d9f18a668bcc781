"""Names and kinds of what stands in an ONNX file: node names to dotted paths, initializers to state-dict keys.

A node's path is taken from, in this order:

1. its main weight, when that has a state-dict name: a Conv that reads ``layer1.0.conv1.weight`` is ``layer1.0.conv1``;
2. the module path that ``torch.onnx`` (dynamo) writes into the node's metadata;
3. a name with slashes: ``/layer1/layer1.0/conv1/Conv`` (torch.onnx, older), ``model/dense/MatMul`` (tf2onnx);
4. any other name, made an identifier; such a name is marked as made up.

``collapse`` runs after ``passes.lift``: a module that came out as one node gives that node its own path.
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
from dlbridge.ops.names import identifier, unique
from dlbridge.passes.lift.pattern import WANTED_PATH

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"

#: op type -> what stands in its slots, as PyTorch's layers call it.
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
#: Last parts of state-dict names that are buffers in the models that have them, though float.
_BUFFER_NAMES = re.compile(r"(running_(mean|var)|inv_freq|.*mask|mean|std|anchors?|sin|cos|.*_table|freqs.*)")
#: Modules that hold others: a node directly in one is not the module itself.
_HOLDER_CLASSES = re.compile(r"torch\.nn\.modules\.(container|transformer)|.*MultiheadAttention$")
#: Scopes that TensorFlow puts inside a layer's own.
_TF_SCOPES = frozenset(
    {"Tensordot", "batchnorm", "moments", "einsum", "convolution", "separable_conv2d", "embedding_lookup"}
)
#: Ops that give the same numbers in another shape: of a layer, the smaller part.
_SHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Cast"})
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_STATE_DICT_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
#: Names that exporters make up: val_12, onnx::Conv_40, const_fold_opt__7, _v_12, 41.
_MADE_UP = re.compile(r"(\d+|.*::.*|val_\d+|.*__\d+|_?v_?\d+|.*_output_\d+|.*:\d+|node_.*|\w*[Cc]onst\w*|.*_\d+)")
#: What torch.onnx calls the constants that come out of torch's ops: after the op, the first without a number.
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
            node.metadata_props[traits.ANONYMOUS] = "true"
    traits.set_blocks(graph, {**traits.blocks(graph), **classes})


def _reads_weight(node: ir.Node) -> bool:
    """Whether a node is the product with a weight that a layer is."""
    w = node.inputs[1] if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") else None
    return w is not None and w.is_initializer() and w.const_value is not None


def _path(node: ir.Node, top: str, classes: dict[str, str]) -> tuple[str, bool]:
    """(dotted path, whether it was made up) of a node; adds the classes of its blocks."""
    scopes, names = (_words(node.metadata_props.get(key, "[]")) for key in (_SCOPES, _CLASSES))
    modules = [(s, c) for s, c in zip(scopes[:-1], names[:-1], strict=False) if not s.startswith("_empty_nn_module")]
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
        return ".".join(filter(None, (dotted(scope), identifier(node.op_type.lower())))), True
    name = re.sub(r"__\d+$", "", (node.name or "").split(";")[0].removeprefix(top))  # tf2onnx numbers all it makes
    if _STATE_DICT_NAME.fullmatch(name):  # a dotted path, as dlbridge writes it
        return name, re.sub(r"_\d+$", "", name.rpartition(".")[2]) == op_key(node).lower()
    parts = [p for p in name.split("/") if p]
    parts = [p for p in parts[:-1] if p not in _TF_SCOPES] + parts[-1:]
    if len(parts) > 1:
        return ".".join((dotted_parts(parts[:-1]), identifier(parts[-1].lower()))), True
    name = parts[0].removeprefix("node_").lower() if parts else ""
    return identifier(name or node.op_type.lower()), True


def _words(text: str) -> list[str]:
    """A list of strings as torch.onnx writes it; nothing where the text is none."""
    try:
        found = ast.literal_eval(text) if len(text) <= limits().text >> 10 else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else []


def _is_block(class_name: str) -> bool:
    """Whether a module is made of others: all but torch's own layers."""
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
    """The scopes that most names with slashes begin with, while most still have a scope behind: in tf2onnx's names,
    the model itself."""
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
    """Whether an initializer's name is one that a person's module gave it."""
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
    """Set the kind of every initializer, and name those without a name of their own after the node that uses them.

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
    """Path of the layer whose weights a node reads: its module, when it is one op of that (``fc.matmul``: ``fc``)."""
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


def collapse(graph: ir.Graph, own: set[str]) -> None:
    """Let nodes and modules agree on paths; in place.

    A node that is all there is of a module gets the module's path; a node that has the path of a module with other
    nodes in it becomes one of those.

    Args:
        graph: The graph.
        own: Names of initializers that the file gave; the names of others follow their node.
    """
    nodes = list(graph.all_nodes())
    taken = {node.name for node in nodes}
    scopes = {prefix for node in nodes for prefix in _prefixes(traits.scope(node))}
    for node in nodes:
        if node.name in scopes:
            old, node.name = node.name, unique(f"{node.name}.{node.op_type.lower()}", taken)
            taken.discard(old)
            _rename_weights(node, old, own)
    inside = Counter(prefix for node in nodes for prefix in _prefixes(traits.scope(node)))
    for node in nodes:
        scope = traits.scope(node)
        alone = scope and inside[scope] == 1 and scope not in taken
        if alone and all(v.name.startswith(f"{scope}.") for v in _weights(node)):
            taken.discard(node.name)
            taken.add(scope)
            node.name = scope
            node.metadata_props.pop(traits.ANONYMOUS, None)
    for node in nodes:
        wanted = node.meta.get(WANTED_PATH, node.name)
        if node.name.rpartition("_")[0] == wanted and wanted not in taken and wanted not in inside:
            taken.add(wanted)
            old, node.name = node.name, wanted
            _rename_weights(node, old, own)
    traits.set_blocks(graph, {path: name for path, name in traits.blocks(graph).items() if path not in taken})


def _rename_weights(node: ir.Node, old: str, own: set[str]) -> None:
    """Let the weights that were named after a node follow its new name."""
    names = node.graph.initializers if isinstance(node.graph, ir.Graph) else {}
    for value in _weights(node):
        fresh = f"{node.name}.{value.name.removeprefix(f'{old}.')}"
        if value.name not in own and value.name.startswith(f"{old}.") and fresh not in names:
            value.name = fresh


def join_layers(graph: ir.Graph, own: set[str]) -> None:
    """Make siblings of the ops of each layer that tf2onnx gave a scope: ``dense`` and ``dense_softmax``; in place.

    The op with the weights (else the last that computes) is the layer; a scope with several of those is a block and
    stays one.
    """
    nodes = list(graph.all_nodes())
    taken = {node.name for node in nodes}
    members: dict[str, list[ir.Node]] = {}
    for node in nodes:
        members.setdefault(traits.scope(node), []).append(node)
    holders = {prefix for scope in members for prefix in _prefixes(scope.rpartition(".")[0])}
    for scope, inside in members.items():
        named = [node for node in nodes if node.name == scope]
        weighted = named + [node for node in inside if _weights(node)]
        if not scope or scope in holders or len(weighted) > 1:
            continue
        computing = [node for node in inside if op_key(node) not in _SHAPING]
        layer = (weighted or computing or inside)[-1]
        for node in inside:
            main = node is layer
            old, leaf = node.name, node.name.rpartition(".")[2]
            node.name = unique(scope if main else f"{scope}_{leaf}", taken)
            if main:
                node.metadata_props.pop(traits.ANONYMOUS, None)
            _rename_weights(node, old, own)


def adopt_strays(graph: ir.Graph) -> None:
    """Give a node that the exporter's optimizer made, without a module, to its neighbours' block; in place."""
    if not any(_SCOPES in node.metadata_props for node in graph):
        return
    taken = {node.name for node in graph}
    for node in graph:
        if _SCOPES in node.metadata_props or traits.scope(node) or not traits.is_anonymous(node) or _weights(node):
            continue
        inputs = [v for v in node.inputs if v is not None and not v.is_initializer()]
        outside = any(v.is_graph_input() for v in inputs) or any(v.is_graph_output() for v in node.outputs)
        near = [v.producer() for v in inputs] + [use.node for v in node.outputs for use in v.uses()]
        common = None if outside or not near else _common([traits.scope(each) for each in near if each is not None])
        if common:
            taken.discard(node.name)
            wanted = f"{common}.{node.op_type.lower()}"
            node.name, node.meta[WANTED_PATH] = unique(wanted, taken), wanted


def _common(scopes: list[str]) -> str:
    """The path that scopes all stand in."""
    shared: list[str] = []
    for parts in zip(*(scope.split(".") for scope in scopes), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def hoist_shared(graph: ir.Graph) -> None:
    """Move what one instance of a repeated block computes for all of them in front of the first; in place.

    Exporters merge equal computations: the mask that each layer of a decoder makes of the model's inputs is made in
    layer 0, and read in layer 1. Only what no weight has a part in is moved.
    """
    taken = {node.name for node in graph}
    for node in list(graph):
        block = _shared_block(node)
        moved = _made_inside(node, block) if block is not None else None
        if not moved:
            continue
        order = {each: place for place, each in enumerate(graph)}
        first = next(each for each in graph if each not in moved and block in _prefixes(traits.scope(each)))
        makers = [v.producer() for each in moved for v in each.inputs if v is not None and v.producer() is not None]
        if any(order[maker] > order[first] for maker in makers if maker not in moved):
            continue
        outer, _, last = block.rpartition(".")
        outer = outer.rpartition(".")[0] if last.isdigit() else outer  # a list of blocks holds blocks alone
        for each in moved:
            graph.remove(each)
            graph.insert_before(first, each)
            taken.discard(each.name)
            each.name = unique(".".join(filter(None, (outer, each.name.rpartition(".")[2]))), taken)
            each.meta[WANTED_PATH] = each.name


def _shared_block(node: ir.Node) -> str | None:
    """The outermost block of a made-up node that reads its result itself, as another instance of the block does."""
    scope = traits.scope(node)
    if not traits.is_anonymous(node) or not scope:
        return None
    readers = [traits.scope(use.node) for value in node.outputs for use in value.uses()]
    for block in _prefixes(scope):
        level = block.count(".") + 1
        others = {".".join(reader.split(".")[:level]) for reader in readers}
        if block in others and any(other != block and alike(other, block) for other in others):
            return block
    return None


def alike(path: str, other: str) -> bool:
    """Whether two paths are the same but for their numbers."""
    return re.sub(r"\d+", "#", path) == re.sub(r"\d+", "#", other)


def _made_inside(node: ir.Node, block: str) -> list[ir.Node] | None:
    """What a node is made of inside a block, and itself; None where a weight or a named layer has a part in it."""
    if not traits.is_anonymous(node) or _weights(node):
        return None
    found: list[ir.Node] = []
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if maker is not None and block in _prefixes(traits.scope(maker)):
            more = _made_inside(maker, block)
            if more is None:
                return None
            found += [each for each in more if each not in found]
    return [*found, node]


def _prefixes(path: str) -> list[str]:
    """All that a path stands in, and itself: a, a.b, a.b.c."""
    parts = path.split(".") if path else []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _weights(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None and v.is_initializer() and traits.kind(v) != "constant"]


def name_values(graph: ir.Graph) -> None:
    """Name every value after its node; inputs, outputs and constants keep their names, made identifiers."""
    taken = set(graph.initializers)
    for value in list(graph.initializers.values()):
        if not _IDENTIFIER.fullmatch(value.name) and not _STATE_DICT_NAME.fullmatch(value.name):
            value.name = unique(identifier(value.name), taken)
    for value in (*graph.inputs, *graph.outputs):
        if not value.is_initializer():
            value.name = unique(identifier(value.name.removesuffix(":0")), taken)
    for node in graph.all_nodes():
        for number, value in enumerate(node.outputs):
            if not value.is_graph_output() or value.graph is not graph:
                value.name = unique(node.name if number == 0 else f"{node.name}.{number}", taken)
