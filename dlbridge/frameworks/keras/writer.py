"""Writes a model as the source of a functional Keras model.

Blocks are functions that join layers. A block that computes with sizes known only when the model runs is a registered
``Layer`` subclass, and so are the blocks inside it: there, tensors have their sizes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras import WriteOptions, helpers, writes
from dlbridge.frameworks.keras.legalise.blocks import block_tree, free_shared
from dlbridge.frameworks.keras.legalise.fusing import fuse
from dlbridge.frameworks.keras.legalise.merges import merging_layers
from dlbridge.frameworks.keras.legalise.operators import call_functions
from dlbridge.frameworks.keras.legalise.recurrent_layers import recurrent_layers
from dlbridge.frameworks.keras.legalise.scaled import taken_for_sparse
from dlbridge.frameworks.keras.names import DefinitionNames, spelled
from dlbridge.frameworks.keras.printing import automatic
from dlbridge.frameworks.keras.printing.lists import lists_of_layers
from dlbridge.frameworks.keras.printing.needs import Classes, nodes_of
from dlbridge.frameworks.keras.printing.printer import (
    BUILD,
    SPEC,
    flat,
    member,
    print_module,
    sizes_of,
    stand_in,
)
from dlbridge.frameworks.keras.printing.weights import KerasWeights
from dlbridge.frameworks.keras.rules import KERAS_DTYPES, rules
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import Pass, Pipeline, layout
from dlbridge.passes.layout.pads import split_pads
from dlbridge.passes.pipeline import LAST
from dlbridge.passes.prepare import FINISH, PREPARE
from dlbridge.passes.sizes import require_shapes
from dlbridge.passes.standard import graph_pass, on_graph
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.condense.concats import GROW_CONCATS
from dlbridge.source.definitions import Instance, Line, Member, Written, block_class, define, substitute_layer
from dlbridge.source.emission import emit_all, pass_weights, returned_values, weight_paths, weights_by_block
from dlbridge.source.functions import Functions
from dlbridge.source.names import Names, class_name, snake_case
from dlbridge.source.op import Layer
from dlbridge.source.paths import Paths
from dlbridge.source.printing import helper_names
from dlbridge.source.program import Source
from dlbridge.source.tree.code import LAYER, Code, call, code
from dlbridge.source.tree.expr import Attr, Call, Const, Index, Items, Var, layer_inputs
from dlbridge.source.variables import given_name, hint, hint_of_path
from dlbridge.source.weights import Weight


def write(model: Model, options: WriteOptions) -> Source:
    """The model as Keras source.

    Args:
        model: The model.
        options: See ``WriteOptions``.

    Raises:
        ShapeError: When it is not known how many axes an input has.
        UnsupportedOpError: When ops have no rule; all of them are named.
    """
    import_rules(writes)
    require_shapes(model.inputs)
    model = model.clone()
    pipeline(options.io_layout)(model.ir)
    paths = Paths(spelled, flat)
    paths.respell(model.graph)
    return KerasWriter(model, paths, options.partial).source()


def pipeline(io_layout: str = "same") -> Pipeline:
    """What is done to a model before it is printed.

    Args:
        io_layout: The layout of inputs and outputs (:func:`dlbridge.passes.layout.channels_last`).
    """
    last = functools.partial(layout.channels_last, io_layout=io_layout)
    split = on_graph(split_pads, layout.DOMAIN)
    return Pipeline(
        LAST,
        [
            *PREPARE,
            Pass("layout", last, "Let spatial ops be channels-last, with few transposes."),
            Pass("split_pads", split, "Put pads that Keras' layers cannot say before them."),
            GROW_CONCATS,
            graph_pass(free_shared, "Write without a layer what has the weights of other layers."),
            graph_pass(fuse, "Let a layer do the activation behind it, and drop the axes it pools over."),
            graph_pass(merging_layers, "Let ops that were merging layers be these again."),
            graph_pass(recurrent_layers, "Let recurrent ops be layers, with the batch first."),
            *FINISH,
        ],
    )


class KerasWriter(KerasWeights):
    """Holds what is known while one model is written."""

    def __init__(self, model: Model, paths: Paths, partial: bool = False) -> None:
        self.model = model
        self.graph = model.graph
        arithmetic = Arithmetic(
            lambda value, axis: code(f"ops.shape({{}})[{axis}]", value), largest="larger_size", smallest="smaller_size"
        )
        self.names = DefinitionNames("keras", "layers", "ops", "math", "build_model", *helper_names(helpers))
        self.functions = Functions(rules, arithmetic, _tensor_of_ints, self.names, stand_in, partial)
        self.emits, self.returned = emit_all(self.graph, rules, arithmetic, _tensor_of_ints, self.functions)
        #: The values that follow from an input; where layers are joined, others are constants, outside of the graph.
        self.following, symbolic = call_functions(self.emits, self.model.inputs, self._is_printed)
        self.layers: dict[tuple, str] = {}  # what a layer is -> the name of the one that is made for it
        #: What is the same for two calls of one layer, by the node that calls it.
        self.identities = {n: e.layer.identity(self.graph) for n, e in self.emits.items() if e.layer is not None}
        self.calls = Counter(self.identities.values())
        self._set_blocks()
        self.weight_paths = weight_paths(self.graph, self.root, self.emits, paths, reachable=True)
        self.weights_by_block = weights_by_block(self.root, self.weight_paths)
        joined = {node for block in self.root.blocks() if block not in self.dynamic for node in nodes_of(block)}
        emits = {node: emit for node, emit in self.emits.items() if node in joined}
        self.sparse = taken_for_sparse(emits, symbolic) if self.dynamic else set[ir.Value]()
        pass_weights(self.root, self.emits, self.weight_paths, self._is_printed)
        self.weights: dict[str, Weight] = {}
        self.taken = Names(*(v.name or "" for v in model.inputs))
        self.outermost: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self.automatic = automatic.of_writer(self)

    def _set_blocks(self) -> None:
        """Arrange the nodes in blocks, and find which of them are classes and which are lists of layers in these."""
        lists: dict[str, dict[str, int]] = {}
        while True:
            self.root = block_tree(self.graph, self.emits, returned_values(self.returned), lists)
            classes = Classes(self.graph, self.root, self.emits, self.returned, self.following, self.functions.written)
            more = lists_of_layers(self.graph, self.root, classes.dynamic, self._makes_layer)
            if lists or not more:
                break
            lists = more
        #: Dotted path of each layer in a list of layers -> its index in that list.
        self.places = {path: place for items in lists.values() for path, place in items.items()}
        self.calls_of = classes.calls_of
        self.dynamic, self.eager, self.building = classes.dynamic, classes.eager, classes.building
        self.subclassed, self.wrapped = classes.subclassed, classes.wrapped

    def _makes_layer(self, node: ir.Node) -> bool:
        return self.emits[node].layer is not None and not self._is_shared(node)

    def source(self) -> Source:
        name_class = block_class(self.graph)

        def name_of(block: Block) -> str:
            name = name_class(block.path)
            return class_name(name) if block in self.dynamic else snake_case(name)

        definitions, instance = define(self.root, self._write_block, self._weight_key, name_of, self.names)
        return Source(
            framework="keras",
            model=self.model,
            text=print_module(self, definitions, instance.definition),
            entry="build_model",
            weights=self.weights,
            inputs=[v.name or "" for v in self.model.inputs],
            outputs=[v.name or "" for v in self.model.outputs],
            stand_ins=self.functions.stand_ins,
        )

    # --- one block -------------------------------------------------------------------------------------------------

    def _write_block(self, block: Block, instances: Mapping[Block, Instance]) -> Written:
        written = Written(block)
        for value in self.weights_by_block.get(block, ()):
            if not self._is_printed(value):
                self._write_free_weight(written, value)
        for step in block.steps:
            if isinstance(step, Block):
                self._write_inner(written, step, instances)
            else:
                self._write_node(written, step)
        if block in self.eager and not (block is self.root and self.subclassed):
            specs = [_spec(v) for v in (self.model.graph.outputs if block is self.root else block.outputs)]
            new = specs[0] if len(specs) == 1 else Items("(", tuple(specs))
            written.members.append(Member(SPEC, new, SPEC))
        return written

    def _build(self, written: Written, layer: Code, value: ir.Value) -> None:
        """A member's weights, made from the shape of its input: code that runs eagerly cannot be traced for it."""
        if written.block in self.building:
            new = call(Attr(layer, "build"), Const(sizes_of(value)))
            written.members.append(Member(BUILD, new, BUILD))

    def _reach(self, path: str, block: Block) -> tuple[str, Code]:
        """(the name of the member at a path, how the code of a block's class reaches it)."""
        name, place = block.relative(path), self.places.get(path)
        if place is None:
            return flat(name), member(name)
        container = flat(name.rpartition(".")[0])
        return f"{container}.{place}", Index(member(container), Const(place))

    def _write_node(self, written: Written, node: ir.Node) -> None:
        emit, block = self.emits[node], written.block
        targets = list(node.outputs)
        is_class = block in self.dynamic
        fragment, layer = emit.code, emit.layer
        if layer is None and emit.module is not None and not is_class:
            layer = emit.module
            fragment = call(LAYER, next(emit.code.values()))
        if layer is not None:
            path = self._layer_path(node)
            new = self._named(layer, node, block)
            if path == node.name:
                self._remember(block, node, layer)
            if is_class:
                name, reached = self._reach(path, block)
                if path == node.name:
                    written.members.append(Member(name, new))
                    if layer.weights:
                        self._build(written, reached, next(emit.code.values()))
                new = reached
            elif path != node.name or self._is_shared(node):
                # A layer that is called more than once is made once, before its first call.
                variable = snake_case(flat(block.relative(path))) + "_layer"
                if path == node.name:
                    written.members.append(Member(variable, new))
                new = Var(variable)
            fragment = substitute_layer(fragment, new)
        given = None if traits.is_anonymous(node) else given_name(node.name or "")
        written.lines.append(Line(targets, fragment, emit.targets, hint(node, layer), label=given))

    def _write_inner(self, written: Written, inner: Block, instances: Mapping[Block, Instance]) -> None:
        instance, name = instances[inner], written.block.relative(inner.path)
        inputs: list[Any] = list(inner.inputs)
        if inner not in self.dynamic:
            keywords = {"name": self._name_code(name, written.block, is_layer=False)}
            fragment = instance.call(*inputs, **keywords)
        else:
            new = instance.call(name=self._name_code(name, written.block))
            if written.block in self.dynamic:
                own, reached = self._reach(inner.path, written.block)
                written.members.append(Member(own, new))
                self._build(written, reached, inner.inputs[0])
                new = reached
            else:
                inputs = [self._dense(value) for value in inputs]
            fragment = call(new, *inputs)
        written.lines.append(Line(list(inner.outputs), fragment, None, hint_of_path(name), label=given_name(name)))

    def _dense(self, value: ir.Value) -> Code | ir.Value:
        """A value that a class is called on, through a layer where Keras takes it for sparse."""
        dtype = value.dtype
        if value not in self.sparse or dtype is None or not dtype.is_floating_point():
            return value
        wide = None if dtype == ir.DataType.FLOAT else Const(KERAS_DTYPES[dtype])
        return call(call("layers.Activation", "linear", dtype=wide), value)

    # --- names and weights -----------------------------------------------------------------------------------------

    def _named(self, layer: Layer, node: ir.Node, block: Block) -> Code:
        """The code that makes a layer, with its name and, where it is not float32, its dtype."""
        new, dtype = layer.new, node.outputs[0].dtype
        assert isinstance(new, Call)
        if dtype is not None and dtype.is_floating_point() and dtype != ir.DataType.FLOAT:
            new = new.with_keyword("dtype", Const(KERAS_DTYPES[dtype]))
        if self.is_named(node, layer):
            new = new.with_keyword("name", self._name_code(block.relative(node.name or ""), block))
        return new

    def is_named(self, node: ir.Node, layer: Layer) -> bool:
        return not (traits.is_anonymous(node) and (self.sequence is not None or not layer.weights))

    @functools.cached_property
    def sequence(self) -> list[ir.Node] | None:
        """The nodes of a model that is one chain of layers: ``keras.Sequential``; None when it is not."""
        if self.root.path or self.wrapped or len(self.model.inputs) != 1 or len(self.model.outputs) != 1:
            return None
        current = self.model.inputs[0]
        for step in self.root.steps:
            if isinstance(step, Block):
                return None
            emit = self.emits[step]
            if (emit.layer or emit.module) is None or list(emit.code.values()) != [current] or len(step.outputs) != 1:
                return None
            if emit.layer is not None and layer_inputs(emit.code) != [current]:
                return None  # more is done than calling the layer: its result is cropped
            if emit.layer is not None and self._is_shared(step):
                return None  # Sequential holds a layer once
            current = step.outputs[0]
        is_only = self.returned == [current] and traits.output_keys(self.model.graph) is None
        return self.root.steps if is_only and self.root.steps else None  # type: ignore[return-value]

    def _layer_path(self, node: ir.Node) -> str:
        """The name of the layer that a node calls: two calls of one layer share it."""
        key = self.identities.get(node)
        return node.name or "" if key is None else self.layers.setdefault(key, node.name or "")

    def _is_shared(self, node: ir.Node) -> bool:
        key = self.identities.get(node)
        return key is not None and self.calls[key] > 1

    def _remember(self, block: Block, node: ir.Node, layer: Layer) -> None:
        sequence = self.sequence
        prefix = f"#{sequence.index(node)}" if sequence is not None else self._variable_path(block, node.name or "")
        for slot, weight in layer.weights.items():
            self.weights[f"{prefix}/{slot}"] = weight


def _spec(value: ir.Value) -> Code:
    assert value.dtype is not None
    return call("keras.KerasTensor", Const(sizes_of(value)), dtype=Const(KERAS_DTYPES[value.dtype]))


def _tensor_of_ints(elements: Elements, value: ir.Value) -> Code:
    assert value.dtype is not None
    return code("ops.convert_to_tensor({}, dtype={})", elements.nested, Const(KERAS_DTYPES[value.dtype]))
