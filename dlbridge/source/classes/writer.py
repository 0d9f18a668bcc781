"""``ModuleWriter``: writes a model as classes of modules, in any framework that has such (``source.dialect``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import Pass, Pipeline
from dlbridge.passes.pipeline import LAST
from dlbridge.passes.standard import on_graph
from dlbridge.source import blocks
from dlbridge.source.arithmetic import Arithmetic
from dlbridge.source.blocks import Block
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.classes.printer import print_file, sequence
from dlbridge.source.classes.weights import ModuleWeights
from dlbridge.source.condense import repeats
from dlbridge.source.condense.concats import GROW_CONCATS
from dlbridge.source.definitions import Instance, Line, Member, Written, block_class, define, substitute_layer
from dlbridge.source.emission import emit_all, pass_weights, returned_values, weight_paths, weights_by_block
from dlbridge.source.functions import Functions
from dlbridge.source.names import Names, is_index
from dlbridge.source.op import Layer
from dlbridge.source.paths import Paths
from dlbridge.source.program import Source
from dlbridge.source.tree.code import Code, call, expression
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.variables import given_name, hint, hint_of_path
from dlbridge.source.weights import Weight


class NotCallableError(Exception):
    """A further call of a module, whose path is the message, does not fit the code that was written for the first."""


def write_modules(model: Model, passes: Iterable[Pass], dialect: Dialect, *, partial: bool = False) -> Source:
    """Write a model.

    Args:
        model: The model, which stays as it is.
        passes: The passes of its route, which legalise it for the framework.
        dialect: The framework's dialect.
        partial: Whether what has no rule gets a stand-in, not an error.
    """
    apart: set[str] = set()
    while True:
        copy = model.clone()
        pipeline(passes, apart)(copy.ir)
        paths = Paths(dialect.spelled)
        repeats.respell_calls(copy.graph, paths)
        try:
            return ModuleWriter(copy, paths, dialect, partial).source()
        except NotCallableError as error:
            apart |= set(paths.of(str(error)))  # they no longer are among the modules that are called


def pipeline(passes: Iterable[Pass], apart: Collection[str] = ()) -> Pipeline:
    """What is done to a model before its classes are printed.

    Args:
        passes: The passes of the framework's own.
        apart: Paths of modules each call of which is written out.
    """
    repeat = on_graph(repeats.join_repeats, apart)
    return Pipeline(
        LAST,
        [
            *passes,
            Pass("join_repeats", repeat, "Let further calls of a module be calls of it."),
            GROW_CONCATS,
        ],
    )


class ModuleWriter(ModuleWeights):
    """Holds what is known while one model is written."""

    def __init__(self, model: Model, paths: Paths, dialect: Dialect, partial: bool = False) -> None:
        self.model, self.paths, self.dialect = model, paths, dialect
        self.graph = model.graph
        arithmetic, ints = Arithmetic(dialect.dim, **dialect.bounds), dialect.tensor_of_ints
        self.names = Names(*dialect.taken)
        self.functions = Functions(dialect.rules, arithmetic, ints, self.names, dialect.stand_in, partial)
        self.emits, self.returned = emit_all(self.graph, dialect.rules, arithmetic, ints, self.functions)
        self.root = self._tree()
        self.blocks = {block.path: block for block in self.root.blocks()}
        self.weight_paths = weight_paths(self.graph, self.root, self.emits, paths) | self._unread()
        self.weights_by_block = weights_by_block(self.root, self.weight_paths)
        pass_weights(self.root, self.emits, self.weight_paths)
        self.weights: dict[str, Weight] = {}
        #: Keys of constants that are too large to be printed.
        self.constants: list[str] = []
        #: Keys of the parameters of layers -> whether they train.
        self.trains: dict[str, bool] = {}
        #: (path, path) of what is one and the same under two paths, as the code says it.
        self.joined: list[tuple[str, str]] = []
        #: Lists of the original of which the code has none -> their modules, as the code says them.
        self.second_lists: dict[str, list[str]] = {}
        self.layers: dict[tuple, str] = {}  # what a layer is -> the path of the one that is made for it
        self.sequences: dict[Block, list[Code]] = {}
        #: Blocks that are one module of the framework: an activation in a class of its own.
        self.single: dict[Block, Code] = {}
        #: The layer that the model itself is: its class is a subclass of that layer's.
        self.base: Code | None = None
        roots = [node for node, emit in self.emits.items() if emit.layer and traits.ROOT_LAYER in node.metadata_props]
        self.root_layer = roots[0] if len(roots) == 1 else None

    def source(self) -> Source:
        name_class = block_class(self.graph)
        definitions, instance = define(
            self.root, self._write_block, self._weight_name, lambda block: name_class(block.path), self.names
        )
        ties = self.ties()
        self.joined = [*self.aliases(), *ties]
        return Source(
            framework=self.dialect.framework,
            model=self.model,
            text=print_file(self, definitions, instance.definition),
            entry=self.dialect.entry(self, instance.definition),
            weights=self.weights,
            inputs=[v.name or "" for v in self.model.inputs],
            outputs=[v.name or "" for v in self.model.outputs],
            ties=self.ties(),
            stand_ins=self.functions.stand_ins,
        )

    def _weight_name(self, block: Block, value: ir.Value) -> str:
        return text_of(self.weight_code(block, value))

    def _tree(self) -> Block:
        """The blocks. One whose parts are numbered but are no chain is a list of modules in the block around it."""
        dissolved: set[str] = set()
        while True:
            root = blocks.build(self.graph, self.emits, returned_values(self.returned), dissolved)
            lists = {b.path for b in root.blocks() if b.path and _is_numbered(b) and not self._is_chain(b)}
            if not lists:
                return root
            dissolved |= lists

    # --- one block -------------------------------------------------------------------------------------------------

    def _write_block(self, block: Block, instances: Mapping[Block, Instance]) -> Written | None:
        if self._is_chain(block):
            self.sequences[block] = [self._item(step, instances) for step in block.steps]
            if block.path:
                return None
        module = self._only_module(block)
        if module is not None:
            self.single[block] = module.new
            return None
        written = Written(block)
        for step in block.steps:
            if isinstance(step, Block):
                self._write_inner(written, step, instances)
            elif step.domain == repeats.DOMAIN:
                self._write_call(written, step)
            else:
                self._write_node(written, step)
        for value in self.weights_by_block.get(block, ()):
            kind, new = self.free_weight(value)
            written.members.append(Member(block.relative(self.weight_paths[value]), new, kind))
        return written

    def _write_node(self, written: Written, node: ir.Node) -> None:
        emit, block = self.emits[node], written.block
        fragment, member = emit.code, None
        if emit.layer is not None and node is self.root_layer:
            self.remember("", emit.layer)
            self.base = emit.layer.new
            fragment = substitute_layer(fragment, expression(f"super().{self.dialect.call}"))
        elif emit.layer is not None:
            path = self._layer_path(node, emit.layer, block)
            member = block.relative(path)
            if path == node.name:
                written.members.append(Member(member, emit.layer.new))
                self.remember(path, emit.layer)
            fragment = substitute_layer(fragment, self.reach(path, block))
        fragment = self.dialect.read_weights(fragment)
        given = None if traits.is_anonymous(node) else given_name(node.name or "")
        written.lines.append(Line(list(node.outputs), fragment, emit.targets, hint(node, emit.layer), member, given))

    def _write_inner(self, written: Written, inner: Block, instances: Mapping[Block, Instance]) -> None:
        name = written.block.relative(inner.path)
        written.members.append(Member(name, self._new(inner, instances)))
        fragment = self.dialect.read_weights(call(self.reach(inner.path, written.block), *inner.inputs))
        written.lines.append(Line(list(inner.outputs), fragment, None, hint_of_path(name), name, given_name(name)))

    def _write_call(self, written: Written, further: ir.Node) -> None:
        """A further call of a module (``repeats``)."""
        path, count = further.attributes[repeats.PATH].as_string(), further.attributes[repeats.COUNT].as_int()
        if not written.block.holds(path):
            raise NotCallableError(path)
        values = list(self.emits[further].code.values())
        given, first, results = values[:count], values[count : 2 * count], values[2 * count :]
        same = dict(zip(first, given, strict=True))
        name = written.block.relative(path)
        reach = self.reach(path, written.block)
        inner = self.blocks.get(path)
        if inner is not None:
            unknown = any(v not in same and not blocks.is_weight(v) for v in inner.inputs)
            if unknown or set(inner.outputs) - set(results):
                raise NotCallableError(path)
            fragment = call(reach, *(same.get(v, v) for v in inner.inputs))
            targets, pattern = [further.outputs[results.index(v)] for v in inner.outputs], None
        else:
            node = next((n for n in self.emits if n.name == path), None)
            emit = self.emits[node] if node is not None else None
            if node is None or emit is None or emit.layer is None or len(node.outputs) != len(further.outputs):
                raise NotCallableError(path)
            fragment = substitute_layer(emit.code.substituted(same.get), reach)
            targets, pattern = list(further.outputs), emit.targets
        fragment = self.dialect.read_weights(fragment)
        written.lines.append(Line(targets, fragment, pattern, hint_of_path(name), name, given_name(name)))

    def _new(self, block: Block, instances: Mapping[Block, Instance]) -> Code:
        """The code that makes the module of a block."""
        if block in self.sequences:
            return sequence(self.dialect, self.sequences[block])
        if block in self.single:
            return self.single[block]
        instance = instances[block]
        return instance.call(**(self.dialect.passed_on if instance.definition.written.members else {}))

    def _only_module(self, block: Block) -> Layer | None:
        """The module without weights that does all that a block does, of its one input; None where there is none."""
        step = block.steps[0] if len(block.steps) == 1 else None
        emit = self.emits[step] if isinstance(step, ir.Node) else None
        if not block.path or emit is None or emit.layer is not None or emit.targets is not None:
            return None
        reads = list(emit.code.values()) == block.inputs and len(block.inputs) == 1
        return emit.module if reads and block not in self.weights_by_block else None

    def _is_chain(self, block: Block) -> bool:
        """Whether a block is modules named 0, 1, 2, ... each of which reads the one before it: ``nn.Sequential``."""
        if len(block.inputs) != 1 or len(block.outputs) != 1:
            return False
        if not block.path and (self.returned != block.outputs or traits.output_keys(self.model.graph) is not None):
            return False
        current = block.inputs[0]
        for index, step in enumerate(block.steps):
            if block.relative(_path(step)) != str(index):
                return False
            if isinstance(step, Block):
                reads, makes = step.inputs, list(step.outputs)
            else:
                emit = self.emits[step]
                if (emit.layer is None and emit.module is None) or emit.targets not in (None, "{0}"):
                    return False
                reads, makes = list(emit.code.values()), list(step.outputs[: 1 if emit.targets else None])
            if reads != [current] or len(makes) != 1:
                return False
            current = makes[0]
        return current is block.outputs[0]

    def _item(self, step: ir.Node | Block, instances: Mapping[Block, Instance]) -> Code:
        if isinstance(step, Block):
            return self._new(step, instances)
        layer = self.emits[step].layer or self.emits[step].module
        assert layer is not None
        self.remember(step.name or "", layer)
        return layer.new

    def _layer_path(self, node: ir.Node, layer: Layer, block: Block) -> str:
        """Where the layer of a node lives: two calls of one layer share it, where the block has it."""
        key = layer.identity(self.graph)
        path = node.name or "" if key is None else self.layers.setdefault(key, node.name or "")
        return path if block.holds(path) else node.name or ""


def _is_numbered(block: Block) -> bool:
    return any(is_index(block.relative(_path(step)).partition(".")[0]) for step in block.steps)


def _path(step: ir.Node | Block) -> str:
    return step.path if isinstance(step, Block) else step.name or ""
