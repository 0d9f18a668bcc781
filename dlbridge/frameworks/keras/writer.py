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

from dlbridge.frameworks.keras import WriteOptions, automatic, helpers, writes
from dlbridge.frameworks.keras.automatic import is_automatic
from dlbridge.frameworks.keras.blocks import block_tree, free_shared
from dlbridge.frameworks.keras.fusing import fuse
from dlbridge.frameworks.keras.merges import merging_layers
from dlbridge.frameworks.keras.names import NETWORK, layer_name, spelled
from dlbridge.frameworks.keras.needs import needs_layer, reads_numbers
from dlbridge.frameworks.keras.operators import call_functions
from dlbridge.frameworks.keras.printer import (
    BUILD,
    SPEC,
    flat,
    member,
    print_module,
    sizes_of,
    stand_in,
    variable_path,
)
from dlbridge.frameworks.keras.recurrent_layers import recurrent_layers
from dlbridge.frameworks.keras.rules import KERAS_DTYPES, rules
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import Pass, Pipeline, layout
from dlbridge.passes.layout.pads import split_pads
from dlbridge.passes.pipeline import LAST
from dlbridge.passes.prepare import PREPARE
from dlbridge.passes.standard import on_graph
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.code import LAYER, Code, Literal, call, code
from dlbridge.source.concats import grow_concats
from dlbridge.source.definitions import Instance, Line, Member, Written, block_class, define, substitute_layer
from dlbridge.source.emission import emit_all, held, homes, leaving, pass_weights
from dlbridge.source.expr import Attr, Call, Const, FString, Items, Var, layer_inputs
from dlbridge.source.expr_printer import text_of
from dlbridge.source.functions import Functions
from dlbridge.source.names import Names, class_name, identifier, snake_case
from dlbridge.source.op import Layer
from dlbridge.source.paths import Paths
from dlbridge.source.printing import calls_of, helper_names
from dlbridge.source.program import Source
from dlbridge.source.statements import Def
from dlbridge.source.variables import given_name, hint, hint_of_path
from dlbridge.source.weights import Weight

#: Constants with more elements than this come from the weights file, not from the source.
MAX_PRINTED = 64


def write(model: Model, options: WriteOptions) -> Source:
    """The model as Keras source.

    Args:
        model: The model.
        options: See ``WriteOptions``.

    Raises:
        UnsupportedOpError: When ops have no rule; all of them are named.
    """
    import_rules(writes)
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
            Pass(
                "grow_concats", on_graph(grow_concats), "Let a list of tensors grow where it is joined again and again."
            ),
            Pass("free_shared", on_graph(free_shared), "Write without a layer what has the weights of other layers."),
            Pass("fuse", on_graph(fuse), "Let a layer do the activation behind it, and drop the axes it pools over."),
            Pass("merging_layers", on_graph(merging_layers), "Let ops that were merging layers be these again."),
            Pass("recurrent_layers", on_graph(recurrent_layers), "Let recurrent ops be layers, with the batch first."),
        ],
    )


class KerasWriter:
    """Holds what is known while one model is written."""

    def __init__(self, model: Model, paths: Paths, partial: bool = False) -> None:
        self.model = model
        self.graph = model.graph
        arithmetic = Arithmetic(
            lambda value, axis: code(f"ops.shape({{}})[{axis}]", value), largest="larger_size", smallest="smaller_size"
        )
        self.names = Names("keras", "layers", "ops", "math", "build_model", *helper_names(helpers))
        self.functions = Functions(rules, arithmetic, _tensor_of_ints, self.names, stand_in, partial)
        self.emits, self.returned = emit_all(self.graph, rules, arithmetic, _tensor_of_ints, self.functions)
        #: The values that follow from an input; where layers are joined, others are constants, outside of the graph.
        self.symbolic = call_functions(self.emits, self.model.inputs)
        self.root = block_tree(self.graph, self.emits, leaving(self.returned))
        self.homes = homes(self.graph, self.root, self.emits, paths, reachable=True)
        self.held = held(self.root, self.homes)
        self._called: dict[ir.Node, set[str]] = {}
        #: Blocks that are ``Layer`` subclasses; those of them that run eagerly; those that build their own layers.
        self.dynamic, self.eager = self._dynamic_blocks()
        #: Whether the model is a ``keras.Model`` subclass: it has no inputs, or how many axes an output has is known
        #: only at run time.
        shapeless = self.root in self.eager and any(v.shape is None for v in self.graph.outputs)
        self.subclassed = shapeless or not model.inputs
        self.building = {i for b in self.eager | ({self.root} if self.subclassed else set()) for i in b.blocks()}
        self.wrapped = self.root in self.dynamic
        pass_weights(self.root, self.emits, self.homes, self._is_printed)
        self.weights: dict[str, Weight] = {}
        self.layers: dict[tuple, str] = {}  # what a layer is -> the name of the one that is made for it
        self.taken = Names(*(v.name or "" for v in model.inputs))
        self.outermost: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self.calls = Counter(e.layer.identity(self.graph) for e in self.emits.values() if e.layer is not None)
        self.automatic = automatic.of_writer(self)

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

    def _dynamic_blocks(self) -> tuple[set[Block], set[Block]]:
        """Blocks that are ``Layer`` subclasses, and those of them that run eagerly.

        A block is a subclass when it computes with sizes known only at run time, draws random numbers, reads the
        numbers in a tensor, or has layers with weights that see no input, and so are all blocks inside it. What reads
        numbers runs eagerly, and what holds it.
        """
        wanted = {
            b
            for b in self.root.blocks()
            if any(needs_layer(self._calls(s)) or self._is_loose(s) for s in self.nodes_of(b))
        }
        given = [r for r in self.returned if isinstance(r, Code)]
        sees = [self.symbolic & set(r.values() if isinstance(r, Code) else [r]) for r in self.returned]
        if not all(sees) or any(needs_layer(self.calls_of(r)) for r in given):
            wanted.add(self.root)
        while True:
            dynamic = {inner for block in wanted for inner in block.blocks()}
            reading = {b for b in dynamic if any(reads_numbers(self._calls(n)) for n in b.nodes())}
            eager = {b for b in dynamic if reading & set(b.blocks())}
            shapeless = {b for b in eager if any(v.shape is None for v in b.outputs)}
            around = {b for b in self.root.blocks() if shapeless & {s for s in b.steps if isinstance(s, Block)}}
            if around <= wanted:
                break
            wanted |= around
        return dynamic, eager

    def _is_loose(self, node: ir.Node) -> bool:
        """Whether a node is a layer whose weights no functional model would find: nothing of the graph leads to it."""
        layer = self.emits[node].layer
        return layer is not None and bool(layer.weights) and not self.symbolic & set(node.outputs)

    def nodes_of(self, block: Block) -> list[ir.Node]:
        return [s for s in block.steps if isinstance(s, ir.Node)]

    def _calls(self, node: ir.Node) -> set[str]:
        """What the code of a node calls where layers are joined."""
        if node not in self._called:
            self._called[node] = self.calls_of(self._joined(node))
        return self._called[node]

    def calls_of(self, code: Code | Def) -> set[str]:
        """The dotted names of what code calls, itself or by functions of the file: helpers, bodies of control flow."""
        found, names = code.called(), code.names()
        bodies = [part for part in self.functions.written if isinstance(part, Def) and part.name in names]
        return found.union(*map(self.calls_of, bodies), *(calls_of(helpers, name) for name in names))

    def _joined(self, node: ir.Node) -> Code:
        """The code of a node where layers are joined."""
        emit = self.emits[node]
        return emit.code if emit.module is None else emit.module.new

    # --- one block -------------------------------------------------------------------------------------------------

    def _write_block(self, block: Block, instances: Mapping[Block, Instance]) -> Written:
        written = Written(block)
        for value in self.held.get(block, ()):
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

    def _build(self, written: Written, attribute: str, value: ir.Value) -> None:
        """A member's weights, made from the shape of its input: code that runs eagerly cannot be traced for it."""
        if written.block in self.building:
            new = call(Attr(member(attribute), "build"), Const(sizes_of(value)))
            written.members.append(Member(BUILD, new, BUILD))

    def _write_node(self, written: Written, node: ir.Node) -> None:
        emit, block = self.emits[node], written.block
        targets = list(node.outputs)
        is_class = block in self.dynamic
        fragment, layer = emit.code, emit.layer
        if layer is None and emit.module is not None and not is_class:
            layer = emit.module
            fragment = call(LAYER, next(emit.code.values()))
        if layer is not None:
            path = self._layer_path(node, layer)
            new = self._named(layer, node, block)
            if path == node.name:
                self._remember(block, node, layer)
            if is_class:
                attribute = flat(block.relative(path))
                if path == node.name:
                    written.members.append(Member(attribute, new))
                    if layer.weights:
                        self._build(written, attribute, next(emit.code.values()))
                new = member(attribute)
            elif path != node.name or self._is_shared(node, layer):
                # A layer that is called more than once is made once, before its first call.
                variable = snake_case(flat(block.relative(path))) + "_layer"
                if path == node.name:
                    written.members.append(Member(variable, new))
                new = Var(variable)
            fragment = substitute_layer(fragment, new)
        given = None if traits.is_anonymous(node) else given_name(node.name or "")
        written.lines.append(Line(targets, fragment, emit.targets, hint(node), label=given))

    def _write_inner(self, written: Written, inner: Block, instances: Mapping[Block, Instance]) -> None:
        instance, name = instances[inner], written.block.relative(inner.path)
        inputs: list[Any] = list(inner.inputs)
        if inner not in self.dynamic:
            keywords = {"name": self._name_code(name, written.block, is_layer=False)}
            fragment = instance.call(*inputs, **keywords)
        else:
            new = instance.call(name=self._name_code(name, written.block))
            if written.block in self.dynamic:
                attribute = flat(name)
                written.members.append(Member(attribute, new))
                self._build(written, attribute, inner.inputs[0])
                new = member(attribute)
            fragment = call(new, *inputs)
        written.lines.append(Line(list(inner.outputs), fragment, None, hint_of_path(name), label=given_name(name)))

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
        return not (traits.is_anonymous(node) and (self._is_sequential() or not layer.weights))

    def _name_code(self, relative: str, block: Block, *, is_layer: bool = True) -> Code:
        """The name of what is called ``relative`` in a block: a function gets its own name as an argument."""
        inner = layer_name(relative) if block.path or self.wrapped or not is_layer else self._outermost(relative)
        in_function = block.path and block not in self.dynamic
        return FString((Var("name"), Const(f"-{inner}"))) if in_function else Const(inner)

    def _outermost(self, path: str) -> str:
        """The name of a layer of the model itself, where the inputs are layers too, and what has no name gets one.

        A path has one name, which no other has, and none that Keras may give to something else.
        """
        if path not in self.outermost:
            name = layer_name(path)
            if is_automatic(name, self.automatic):
                name = f"{name}_layer"
            self.outermost[path] = self.taken.fresh(name)
        return self.outermost[path]

    def input_name(self, value: ir.Value) -> str:
        """The name of the layer of an input."""
        name = value.name or "x"
        if not is_automatic(name, self.automatic):
            return name
        return self.renamed.setdefault(name, self.taken.fresh(f"{name}_input"))

    def _is_sequential(self) -> bool:
        return self.sequence() is not None

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
            if emit.layer is not None and self._is_shared(step, emit.layer):
                return None  # Sequential holds a layer once
            current = step.outputs[0]
        return self.root.steps if self.returned == [current] and self.root.steps else None  # type: ignore[return-value]

    def _layer_path(self, node: ir.Node, layer: Layer) -> str:
        """The name of the layer that a node calls: two calls of one layer share it."""
        key = layer.identity(self.graph)
        return node.name or "" if key is None else self.layers.setdefault(key, node.name or "")

    def _is_shared(self, node: ir.Node, layer: Layer) -> bool:
        key = layer.identity(self.graph)
        return key is not None and self.calls[key] > 1

    def _remember(self, block: Block, node: ir.Node, layer: Layer) -> None:
        sequence = self.sequence()
        prefix = f"#{sequence.index(node)}" if sequence is not None else self._variable_path(block, node.name or "")
        for slot, weight in layer.weights.items():
            self.weights[f"{prefix}/{slot}"] = weight

    def _variable_path(self, block: Block, name: str) -> str:
        """Keras' path of what is called ``name`` in a block: classes add one part each, functions none."""
        chain = [b for b in self.root.blocks() if b in self.dynamic and b.path and name.startswith(b.path + ".")]
        chain.sort(key=lambda b: len(b.path))
        return variable_path([b.path for b in chain], name, NETWORK if self.wrapped else None, self._outermost)

    def _is_printed(self, value: ir.Value) -> bool:
        tensor = value.const_value
        return traits.kind(value) == "constant" and tensor is not None and tensor.size <= MAX_PRINTED

    def _write_free_weight(self, written: Written, value: ir.Value) -> None:
        block, home = written.block, self.homes[value]
        tensor, name = value.const_value, block.relative(home)
        assert tensor is not None
        shape, trainable = tuple(tensor.shape.numpy()), traits.kind(value) == "parameter"
        dtype = None if tensor.dtype == ir.DataType.FLOAT else Const(KERAS_DTYPES[tensor.dtype])
        frozen = None if trainable else False
        if block in self.dynamic:
            attribute = flat(name)
            new = call(
                "self.add_weight", name=Const(attribute), shape=Literal(shape, "shape"), dtype=dtype, trainable=frozen
            )
            written.members.append(Member(attribute, new))
            self.weights[f"{self._variable_path(block, home).rpartition('/')[0]}/{attribute}".lstrip("/")] = Weight.of(
                value.name or ""
            )
            return
        label = self._name_code(name, block)
        new = call("Weight", Literal(shape, "shape"), dtype=dtype, trainable=frozen, name=label)
        written.lines.append(Line([value], call(new, block.inputs[0]), None, identifier(name)))
        self.weights[f"{self._outermost(home)}/value"] = Weight.of(value.name or "")

    def _weight_key(self, block: Block, value: ir.Value) -> str:
        found = self.weight_code(block, value)
        return block.relative(self.homes[value]) if found is None else text_of(found)

    def weight_code(self, block: Block, value: ir.Value) -> Code | None:
        """How code of a block reads a weight that no variable of the block holds."""
        if self._is_printed(value):
            tensor = value.const_value
            assert tensor is not None and value.dtype is not None
            numbers = tensor.numpy()
            if value.dtype == ir.DataType.UINT64 and numbers.size and numbers.max() >= 2**63:
                # TensorFlow's backend makes tensors of Python ints by way of int64.
                return code('ops.cast(ops.array({}, dtype="int64"), "uint64")', numbers.view("int64"))
            dtype = Const(KERAS_DTYPES[value.dtype])
            if not numbers.size:  # a list of nothing does not tell the shape
                return code("ops.zeros({}, dtype={})", Literal(numbers.shape), dtype)
            return code("ops.array({}, dtype={})", numbers, dtype)
        if block in self.dynamic:
            return member(block.relative(self.homes[value]))
        return None


def _spec(value: ir.Value) -> Code:
    assert value.dtype is not None
    return call("keras.KerasTensor", Const(sizes_of(value)), dtype=Const(KERAS_DTYPES[value.dtype]))


def _tensor_of_ints(elements: Elements, value: ir.Value) -> Code:
    items = elements.items[0] if elements.rank == 0 else list(elements.items)
    assert value.dtype is not None
    return code("ops.convert_to_tensor({}, dtype={})", items, Const(KERAS_DTYPES[value.dtype]))
