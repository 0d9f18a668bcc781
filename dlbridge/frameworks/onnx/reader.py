"""The ONNX reader: a file, a ``ModelProto`` or an ``onnx_ir.Model`` of any opset, in the neutral form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from dlbridge import border
from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.onnx import ReadOptions, blocks, edits, file, naming, whole_sizes, zip_maps
from dlbridge.frameworks.onnx import freed as freed_sizes
from dlbridge.frameworks.onnx.original import Original
from dlbridge.model import Model
from dlbridge.ops import attributes, extension, stand_ins, traits
from dlbridge.ops.keys import is_op, op_key
from dlbridge.ops.names import python_name, unique
from dlbridge.ops.strings import looks_up
from dlbridge.passes import Pass, Pipeline, sequences
from dlbridge.passes.constants import lift_constants
from dlbridge.passes.foreign import has_rule, read_foreign
from dlbridge.passes.lift.pattern import WEIGHTS_FOLDED
from dlbridge.passes.scopes import differ_only_in_numbers
from dlbridge.passes.standard import EVERYTHING, FOLD, INFER, LIFT, REFINE, graph_pass, on_graph, renaming
from dlbridge.passes.upgrade import upgrade
from dlbridge.renaming import Renamed

#: Names that exporters give to every graph.
_NO_NAMES = (None, "", "main_graph", "main", "graph", "torch_jit", "torch-jit-export", "tf2onnx")


@border.reader(lambda source: isinstance(source, (onnx.ModelProto, ir.Model)))
def read(source: str | os.PathLike[str] | onnx.ModelProto | ir.Model, options: ReadOptions) -> Model:
    """Read an ONNX model.

    External data stays in its file, memory-mapped; a file's external data must be in the file's folder. Functions
    of the file are inlined, initializers that are inputs too are weights, patterns become layers again.

    Args:
        source: A ``.onnx`` file or a model in memory. An ``onnx_ir.Model`` is not changed.
        options: See ``ReadOptions``.

    Raises:
        FileError: When the file is missing, truncated, not ONNX, or points outside its folder.
        UnsupportedOpError: When there are ops or types that have no meaning here; all of them are listed.
        ShapeError: When shapes or dtypes of the graph do not fit together.
    """
    where = str(source) if isinstance(source, (str, os.PathLike)) else "model"
    ir_model = _load(source, where, options)
    graph = ir_model.graph
    _take_constraints(ir_model)
    border.check_traits(graph, where)
    if graph.name in _NO_NAMES:
        graph.name = Path(source).stem if isinstance(source, (str, os.PathLike)) else "model"
    graph.name = python_name(options.name or graph.name)
    if options.partial:
        _set_aside(ir_model)
    _refuse_unsupported(ir_model, where, options.partial)
    _inline_functions(ir_model, where)
    for value in list(graph.inputs):
        if value.is_initializer():
            graph.inputs.remove(value)
    said = _port_names(graph)
    graph.meta[_OWN] = set(graph.initializers)
    graph.meta[WEIGHTS_FOLDED] = ir_model.producer_name == "tf2onnx"
    passes = PIPELINE if options.lift else PIPELINE.without("lift")
    passes(ir_model)
    model = Model(ir_model)
    dictionaries = graph.meta.pop(zip_maps.DROPPED, [])
    if dictionaries:
        zip_maps.tell(dictionaries)
    is_changed = edits.are_asked(options) or bool(dictionaries)
    named = _port_names(graph)
    traits.set_port_names(graph, _other_names(said, named))
    original = Original(None if is_changed else source, lambda: _load(source, where, options, check=False))
    model.original = _by_names_of_the_model(original, said, named)
    return model


#: Names of inputs and of outputs.
_Ports = tuple[list[str], list[str]]


def _port_names(graph: ir.Graph) -> _Ports:
    """The names of the inputs and of the outputs."""
    return [str(v.name) for v in graph.inputs], [str(v.name) for v in graph.outputs]


def _other_names(said: _Ports, named: _Ports) -> dict[str, str]:
    """Name in the model -> name in the file, where that is another."""
    pairs = [pair for old, new in zip(said, named, strict=True) for pair in zip(new, old, strict=True)]
    return {new: old for new, old in pairs if new != old}


def _by_names_of_the_model(original: Original, said: _Ports, named: _Ports) -> Original | Renamed:
    """The original, called by names that are identifiers: ``input.1`` of a file is ``input_1`` of the model."""
    inputs, outputs = (dict(zip(old, new, strict=True)) for old, new in zip(said, named, strict=True))
    return original if said == named else Renamed(original, inputs, outputs)


def _load(source: Any, where: str, options: ReadOptions, *, check: bool = True) -> ir.Model:
    """The graph of a source, with the changes that the user asks for.

    Raises:
        SignatureError: When the graph does not allow them; it is run to see that, if ``check``.
    """
    model = file.load(source, where)
    if not edits.are_asked(options):
        return model
    before = {str(v.name): list(v.shape) for v in model.graph.inputs if v.shape is not None}
    freed = edits.apply(model, options)
    if not check:
        return model
    if freed:
        freed_sizes.check(model, freed, before, where)
    else:
        freed_sizes.check_stated(model, before, where)
    return model


#: Key of ``graph.meta``: the names of the initializers that the file has.
_OWN = "dlbridge.own_names"


def _forget_outputs(model: ir.Model) -> None:
    """The shapes that a file states for its outputs, and for those of branches, may be made up."""
    choices = [node for node in model.graph.all_nodes() if is_op(node, "If")]
    branches = [node.attributes[f"{name}_branch"].as_graph() for node in choices for name in ("then", "else")]
    for value in (value for graph in (model.graph, *branches) for value in graph.outputs):
        if value.producer() is not None:
            value.shape = None


def _part_vectors(model: ir.Model) -> None:
    """Give back the vectors of their own to layers that share one because the numbers are equal."""
    _part_equal_vectors(model.graph)
    if model.producer_name == "pytorch":
        _part_merged_vectors(model.graph)


def _name_weights(model: ir.Model) -> None:
    naming.name_weights(model.graph, torch=model.producer_name == "pytorch")


def _say_sizes(model: ir.Model) -> bool:
    return model.producer_name == "pytorch" and whole_sizes.say_sizes(model.graph)


def _join_layers(model: ir.Model) -> bool:
    if model.producer_name != "tf2onnx":
        return False
    blocks.join_layers(model.graph, model.graph.meta[_OWN])
    return True


def _collapse(model: ir.Model) -> None:
    blocks.collapse(model.graph, model.graph.meta[_OWN])


def _take_constraints(model: ir.Model) -> None:
    """Copy the constraints on sizes and the special tokens, which files of dlbridge have in the model's metadata, to
    the graph."""
    for key in (traits.CONSTRAINTS, traits.GENERATION):
        text = model.metadata_props.pop(key, None)
        if text is not None:
            model.graph.metadata_props[key] = text


# --- what can be read ---------------------------------------------------------------------------------------------


def _refuse_unsupported(model: ir.Model, where: str, partial: bool) -> None:
    """Refuse ops and types that have no meaning here, all at once; stand-ins are for a model that is read in part."""
    opset = model.graph.opset_imports.get("", traits.IR_OPSET)
    own = {(f.domain, f.name) for f in model.functions.values()}
    troubles: dict[str, list[str]] = {}
    for graph in (model.graph, *model.functions.values()):
        for value in graph.inputs:
            _check_type(value, value.name or "input", troubles)
        for node in graph.all_nodes():
            if not (partial and node.domain == stand_ins.DOMAIN):
                _check_op(node, opset, own, troubles)
            resolved = op_key(node) in sequences.OPS or is_op(node, "Identity", "Optional")
            for value in () if resolved else node.outputs:
                _check_type(value, node.name or value.name or node.op_type, troubles)
    if troubles:
        lines = [
            f"  {what}: {', '.join(sites[:8])}{', ...' if len(sites) > 8 else ''}" for what, sites in troubles.items()
        ]
        hint = None
        if any(node.domain and not _is_known(node, opset, own) for node in model.graph.all_nodes()):
            hint = "with --partial (partial=True) ops of other domains are kept, to be written by hand; a file can hold"
            hint += " their bodies as functions; CONTRIBUTING.md says how to add a rule"
        raise UnsupportedOpError("the file has what cannot be read:\n" + "\n".join(lines), where=where, hint=hint)


def _set_aside(model: ir.Model) -> None:
    """Turn ops of unknown domains into stand-ins, whose code a person will write."""
    known = {"", extension.DOMAIN, *(f.domain for f in model.functions.values())}
    opset = model.graph.opset_imports.get("", traits.IR_OPSET)
    for node in model.graph.all_nodes():
        if node.domain not in known and not has_rule(node, opset) and not looks_up(node):
            node.metadata_props[stand_ins.NOTE] = f"{node.domain}.{node.op_type} at {node.name}"
            node.domain = stand_ins.DOMAIN
            model.graph.opset_imports[stand_ins.DOMAIN] = 1


def _is_known(node: ir.Node, opset: int, own: set[tuple[str, str]]) -> bool:
    """Whether a node calls a function of the file, is one of dlbridge's layers, has a rule of ``passes.foreign`` or
    looks up strings."""
    is_ours = node.domain == extension.DOMAIN and op_key(node) in extension.EXTENSION_OPS
    return (node.domain, node.op_type) in own or is_ours or has_rule(node, opset) or looks_up(node)


def _check_op(node: ir.Node, opset: int, own: set[tuple[str, str]], troubles: dict[str, list[str]]) -> None:
    site = node.name or (node.outputs[0].name if node.outputs else None) or "?"
    if _is_known(node, opset, own):
        return
    if node.domain != "":
        troubles.setdefault(f"op {node.op_type} of the domain {node.domain}", []).append(site)
        return
    if not onnx.defs.has(op_key(node), max_inclusive_version=min(opset, traits.IR_OPSET)):
        troubles.setdefault(f"op {node.op_type}, which opset {opset} does not have", []).append(site)
        return
    kind = op_key(node).replace("ReverseSequence", "")
    if "Sequence" in kind and kind not in sequences.OPS:
        troubles.setdefault(f"op {node.op_type} (sequences and optionals)", []).append(site)
    schema = onnx.defs.get_schema(op_key(node), min(opset, traits.IR_OPSET), "")
    _check_arity(node, schema, site, troubles)
    known = schema.attributes
    for name in set(node.attributes) - set(known):
        troubles.setdefault(f"attribute '{name}' of {node.op_type}, which opset {opset} does not have", []).append(site)
    for name, attribute in known.items():
        if attribute.required and name not in node.attributes:
            troubles.setdefault(f"{node.op_type} without its attribute '{name}'", []).append(site)
    wrong = attributes.mistake(node, min(opset, traits.IR_OPSET), of_file=True)
    if wrong is not None:
        troubles.setdefault(wrong, []).append(site)


def _check_arity(node: ir.Node, schema: onnx.defs.OpSchema, site: str, troubles: dict[str, list[str]]) -> None:
    inputs, outputs = len(node.inputs), len(node.outputs)
    while inputs > schema.min_input and node.inputs[inputs - 1] is None:
        inputs -= 1
    needed = [p.option == onnx.defs.OpSchema.FormalParameterOption.Single for p in schema.inputs]
    missing_one = any(need and value is None for need, value in zip(needed, node.inputs, strict=False))
    if missing_one or not schema.min_input <= inputs <= schema.max_input:
        troubles.setdefault(f"{node.op_type} of {inputs} inputs", []).append(site)
    if not schema.min_output <= outputs <= schema.max_output:
        troubles.setdefault(f"{node.op_type} of {outputs} outputs", []).append(site)


def _check_type(value: ir.Value, site: str, troubles: dict[str, list[str]]) -> None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        troubles.setdefault(f"a value of type {type(value.type).__name__}", []).append(site)


def _inline_functions(model: ir.Model, where: str) -> None:
    """Inline the file's own functions; calls of dlbridge's layers stay."""
    own = {key: function for key, function in model.functions.items() if not _is_ours(function)}
    if own:
        main = model.graph.opset_imports.get("")
        for function in model.functions.values():
            if main is not None and function.opset_imports.get("", main) != main:
                upgrade(model)
                break
        InlinePass(criteria=lambda function: function.identifier() in own)(model)
    for key in own:
        model.functions.pop(key, None)


def _is_ours(function: ir.Function) -> bool:
    """Whether a function is that of one of dlbridge's layers, not just one of the same name."""
    if function.domain != extension.DOMAIN or function.name not in extension.EXTENSION_OPS:
        return False
    ours = extension.function(function.name, function.overload)
    return [_parts(node) for node in function] == [_parts(node) for node in ours]


def _parts(node: ir.Node) -> tuple[object, ...]:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    names = [value.name if value is not None else None for value in (*node.inputs, *node.outputs)]
    return node.op_identifier(), names, attributes


def _part_bodies(graph: ir.Graph) -> None:
    """Make the names of values unique across subgraphs, as onnx' shape inference identifies values by name."""
    taken = {v.name for v in (*graph.inputs, *graph.initializers.values(), *(o for n in graph for o in n.outputs))}
    for body in graph.subgraphs():
        for value in (*body.inputs, *body.initializers.values(), *(o for node in body for o in node.outputs)):
            if value.name:
                value.name = unique(value.name, taken)


def _part_equal_vectors(graph: ir.Graph) -> None:
    """Give layers weights of their own again that torch.onnx merged because their numbers are equal.

    It writes such a one as ``Identity`` of the other's initializer. Matrices stay shared: those are meant to be. A
    vector may have sizes of 1 beside its own: (96, 1, 1).
    """
    for node in list(graph):
        source = node.inputs[0] if is_op(node, "Identity") else None
        if (
            source is None
            or not source.is_initializer()
            or source.const_value is None
            or node.outputs[0].is_graph_output()
        ):
            continue
        tensor = source.const_value
        if tensor.size not in tuple(tensor.shape) or tensor.size == 1 or not tensor.dtype.is_floating_point():
            continue
        old = node.outputs[0]
        own = ir.Value(name=old.name, type=source.type, shape=source.shape, const_value=file.view(tensor))
        ir.convenience.replace_all_uses_with(old, own)
        graph.remove(node, safe=True)
        graph.register_initializer(own)


def _part_merged_vectors(graph: ir.Graph) -> None:
    """Give instances of a block weights of their own again that torch.onnx merged because their numbers are equal."""
    for value in list(graph.initializers.values()):
        owner, _, last = value.name.rpartition(".")
        tensor = value.const_value
        if not owner or tensor is None or tensor.size not in tuple(tensor.shape) or tensor.size == 1:
            continue
        for use in list(value.uses()):
            scope = traits.scope(use.node)
            name = f"{scope}.{last}"
            if scope == owner or not differ_only_in_numbers(scope, owner) or not tensor.dtype.is_floating_point():
                continue
            own = graph.initializers.get(name)
            if own is None:
                own = ir.Value(name=name, type=value.type, shape=value.shape, const_value=file.view(tensor))
                graph.register_initializer(own)
            elif own.const_value is None or not np.array_equal(own.const_value.numpy(), tensor.numpy()):
                continue  # there is a weight of that name with other numbers
            use.node.replace_input_with(use.idx, own)


def _name_dims(graph: ir.Graph) -> None:
    """Name the sizes of inputs that have no name or one that tf2onnx made up (``unk__7``): ``batch`` on axis 0."""
    taken = {d.value for v in graph.inputs if v.shape is not None for d in v.shape if isinstance(d, ir.SymbolicDim)}
    fresh: dict[str, str] = {}
    for value in graph.inputs:
        if value.shape is None:
            continue
        sizes: list[int | str] = []
        for axis, size in enumerate(value.shape):
            old = size if isinstance(size, int) else size.value
            if old is None or (isinstance(old, str) and (old.startswith("unk__") or not old.isidentifier())):
                label = "batch" if axis == 0 else f"{python_name(value.name)}_{axis}"
                if old is not None and old in fresh:
                    old = fresh[old]
                elif old is not None:
                    old = fresh.setdefault(old, unique(label, taken))
                else:
                    old = unique(label, taken)
            sizes.append(old)
        value.shape = ir.Shape(sizes)


#: What is done to the graph of a file.
PIPELINE = Pipeline(
    "read",
    [
        Pass("part_bodies", on_graph(_part_bodies), "Give the values of subgraphs names of their own."),
        Pass("read_foreign", read_foreign, "Say onnxruntime's own ops in the standard's."),
        graph_pass(naming.name_nodes, "Give every node its dotted path, every block its class."),
        Pass("upgrade", upgrade, f"Say it at opset {traits.IR_OPSET}, in inference form."),
        Pass("say_sizes", _say_sizes, "Say the sizes to which PyTorch scales."),
        Pass("name_dims", on_graph(_name_dims), "Name the sizes of inputs that have no name."),
        Pass("attach_functions", extension.attach_functions, "Give it the functions that its layers of ours are."),
        Pass("forget_outputs", _forget_outputs, "Drop the shapes that the file states for its outputs."),
        graph_pass(lift_constants, "Make initializers of all constants."),
        Pass("part_vectors", _part_vectors, "Give layers back the vectors that an exporter let them share."),
        Pass("name_weights", _name_weights, "Tell weights from constants, and name them after their layers."),
        INFER,
        FOLD,
        Pass("resolve_sequences", on_graph(sequences.resolve), "Take sequences of tensors apart."),
        Pass("name_folded", _name_weights, "Name the weights that folding has made.", keeps=EVERYTHING),
        INFER.named("infer_resolved"),
        REFINE,
        LIFT,
        FOLD.named("fold_lifted"),
        renaming("join_layers", _join_layers, "Make siblings of the ops of each layer that tf2onnx gave a scope."),
        renaming(
            "assign_scopes", on_graph(blocks.assign_scope_of_neighbours), "Put nodes without a scope beside theirs."
        ),
        renaming("hoist_shared", on_graph(blocks.hoist_shared), "Move what one block computes for all before them."),
        renaming("collapse", _collapse, "Let a module that came out as one node give that its path."),
        renaming("name_values", on_graph(naming.name_values), "Name every value after its node."),
        REFINE.named("refine_folded"),
    ],
)
