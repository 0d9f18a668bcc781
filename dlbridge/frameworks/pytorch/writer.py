"""Writes a model as the source of a ``torch.nn.Module``."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch import writes
from dlbridge.frameworks.pytorch.printer import (
    BUFFER,
    BUILD,
    CONSTANT,
    RESERVED,
    attribute,
    print_module,
    sequence,
    spelled,
    stand_in,
)
from dlbridge.frameworks.pytorch.repeats import COUNT, PATH, join_repeats, respell_calls
from dlbridge.frameworks.pytorch.repeats import DOMAIN as REPEATS
from dlbridge.frameworks.pytorch.rules import STATE, TORCH_DTYPES, placed, rules
from dlbridge.frameworks.pytorch.stacks import join_stacks
from dlbridge.frameworks.pytorch.writes.linear import TRANSPOSE
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.names import prefixes
from dlbridge.passes.layout.pads import join_pads
from dlbridge.passes.prepare import prepare
from dlbridge.source import blocks
from dlbridge.source.arithmetic import Arithmetic, Elements
from dlbridge.source.blocks import Block
from dlbridge.source.code import Code, Literal, Raw, call, code, join
from dlbridge.source.concats import grow_concats
from dlbridge.source.definitions import Instance, Line, Written, block_class, define, substitute_layer
from dlbridge.source.emission import emit_all, held, homes, leaving, pass_weights
from dlbridge.source.functions import Functions
from dlbridge.source.names import Names, is_index, is_plain, quoted
from dlbridge.source.op import Layer
from dlbridge.source.paths import Paths
from dlbridge.source.program import Source
from dlbridge.source.variables import given_name, hint, hint_of_path
from dlbridge.source.weights import Weight

#: Memory formats, and how many axes the tensors have that are in them.
MEMORY_FORMATS = {"channels_last": 4, "channels_last_3d": 5}
#: Kinds of the weights that are parameters in PyTorch.
PARAMETERS = ("parameter", "frozen")
#: Constants with more elements than this come from the weights file, not from the source.
MAX_PRINTED = 64
#: Of constants with more elements than this, a number that all of them are is printed once.
MAX_REPEATED = 8


def write(model: Model, *, memory_format: str | None = None, partial: bool = False) -> Source:
    """The model as PyTorch source.

    Args:
        model: The model.
        memory_format: ``"channels_last"`` (images) or ``"channels_last_3d"`` (volumes): a function ``build_model``
            makes the module in that format. What it takes and gives stays (batch, channels, ...).
        partial: Write what has no rule as functions to be filled in, which raise when called.

    Raises:
        UnsupportedOpError: When ops have no rule; all of them are named. When weights do not go into the memory format.
    """
    _load_rules()
    apart: set[str] = set()
    while True:
        prepared = prepare(model)
        join_pads(prepared.graph)
        join_stacks(prepared.graph)
        join_repeats(prepared.graph, apart)
        grow_concats(prepared.graph)
        if memory_format is not None:
            _check_memory_format(prepared, memory_format)
        paths = Paths(spelled)
        respell_calls(prepared.graph, paths)
        try:
            return _Writer(prepared, paths, memory_format, partial).source()
        except _NotCallableError as error:
            apart |= set(paths.of(str(error)))  # they no longer are among the modules that are called


class _NotCallableError(Exception):
    """A further call of a module, whose path is the message, does not fit the code that was written for the first."""


def _check_memory_format(model: Model, wanted: str) -> None:
    if wanted not in MEMORY_FORMATS:
        hint = f"memory formats: {', '.join(MEMORY_FORMATS)}"
        raise UnsupportedOpError(f"PyTorch has no memory format '{wanted}'", where=model.name, hint=hint)
    for name, value in model.graph.initializers.items():
        rank = len(value.shape or ())
        if traits.kind(value) != "constant" and rank in MEMORY_FORMATS.values() and rank != MEMORY_FORMATS[wanted]:
            other = next(name for name, axes in MEMORY_FORMATS.items() if axes == rank)
            raise UnsupportedOpError(f"a weight of {rank} axes is not in {wanted}", where=name, hint=f"try {other}")


def _load_rules() -> None:
    for module in pkgutil.iter_modules(writes.__path__):
        importlib.import_module(f"{writes.__name__}.{module.name}")


class _Writer:
    def __init__(self, model: Model, paths: Paths, memory_format: str | None = None, partial: bool = False) -> None:
        self.model, self.paths, self.memory_format = model, paths, memory_format
        self.graph = model.graph
        arithmetic = Arithmetic(lambda value, axis: code(f"{{}}.shape[{axis}]", value))
        self.names = Names(*RESERVED)
        self.functions = Functions(rules, arithmetic, _tensor_of_ints, self.names, stand_in, partial)
        self.emits, self.returned = emit_all(self.graph, rules, arithmetic, _tensor_of_ints, self.functions)
        self.root = self._tree()
        self.blocks = {block.path: block for block in self.root.blocks()}
        self.homes = homes(self.graph, self.root, self.emits, paths) | self._unread()
        self.held = held(self.root, self.homes)
        pass_weights(self.root, self.emits, self.homes)
        self.weights: dict[str, Weight] = {}
        #: Keys of constants that are too large to be printed: the original's state dict does not have them.
        self.constants: list[str] = []
        #: Keys of the parameters of layers -> whether they train.
        self.trains: dict[str, bool] = {}
        self.layers: dict[tuple, str] = {}  # what a layer is -> the path of the one that is made for it
        self.sequences: dict[Block, list[Code]] = {}
        #: The layer that the model itself is: its class is a subclass of that layer's.
        self.base: Code | None = None
        roots = [node for node, emit in self.emits.items() if emit.layer and traits.ROOT_LAYER in node.metadata_props]
        self.root_layer = roots[0] if len(roots) == 1 else None

    def _tree(self) -> Block:
        """The blocks. One whose parts are numbered but are no chain is a list of modules in the block around it."""
        dissolved: set[str] = set()
        while True:
            root = blocks.build(self.graph, self.emits, leaving(self.returned), dissolved)
            lists = {b.path for b in root.blocks() if b.path and _is_numbered(b) and not self._is_chain(b)}
            if not lists:
                return root
            dissolved |= lists

    def _unread(self) -> dict[ir.Value, str]:
        """The weights that no code reads and no layer holds: the state dict has them all the same."""
        layers = [layer for emit in self.emits.values() for layer in (emit.layer, emit.module) if layer is not None]
        held = {view.initializer for layer in layers for w in layer.weights.values() for view in w.views}
        read = {value.name for emit in self.emits.values() for value in emit.code.values()}
        return {
            value: self.paths(name)
            for name, value in self.graph.initializers.items()
            if traits.kind(value) != "constant" and name not in held | read and not value.is_graph_output()
        }

    def source(self) -> Source:
        name_class = block_class(self.graph)
        definitions, instance = define(
            self.root, self._write_block, self._weight_name, lambda block: name_class(block.path), self.names
        )
        ties = self._ties()
        #: What is one and the same under two paths, as the code says it.
        self.joined = [*self._aliases(), *ties]
        text = print_module(self, definitions, instance.definition)
        return Source(
            framework="pytorch",
            model=self.model,
            text=text,
            entry=BUILD if self.memory_format else instance.definition.name,
            weights=self.weights,
            inputs=[v.name or "" for v in self.model.inputs],
            outputs=[v.name or "" for v in self.model.outputs],
            ties=self._ties(),
            stand_ins=self.functions.stand_ins,
        )

    # --- one block -------------------------------------------------------------------------------------------------

    def _write_block(self, block: Block, instances: Mapping[Block, Instance]) -> Written | None:
        if self._is_chain(block):
            self.sequences[block] = [self._item(step, instances) for step in block.steps]
            if block.path:
                return None
        written = Written(block)
        for step in block.steps:
            if isinstance(step, Block):
                self._write_inner(written, step, instances)
            elif step.domain == REPEATS:
                self._write_call(written, step)
            else:
                self._write_node(written, step)
        for value in self.held.get(block, ()):
            written.members.append((block.relative(self.homes[value]), self._free_weight(value)))
        return written

    def _write_node(self, written: Written, node: ir.Node) -> None:
        emit, block = self.emits[node], written.block
        fragment, member = emit.code, None
        if emit.layer is not None and node is self.root_layer:
            self._remember("", emit.layer)
            self.base = emit.layer.new
            fragment = substitute_layer(fragment, Code(("super().forward",)))
        elif emit.layer is not None:
            path = self._layer_path(node, emit.layer, block)
            member = block.relative(path)
            if path == node.name:
                written.members.append((block.relative(path), emit.layer.new))
                self._remember(path, emit.layer)
            fragment = substitute_layer(fragment, Code((f"self{attribute(block.relative(path))}",)))
        given = None if traits.is_anonymous(node) else given_name(node.name or "")
        written.lines.append(Line(list(node.outputs), fragment, emit.targets, hint(node), member, given))

    def _write_inner(self, written: Written, inner: Block, instances: Mapping[Block, Instance]) -> None:
        name = written.block.relative(inner.path)
        written.members.append((name, self._new(inner, instances)))
        fragment = code("{}({})", Raw(f"self{attribute(name)}"), join(", ", list(inner.inputs)))
        written.lines.append(Line(list(inner.outputs), fragment, None, hint_of_path(name), name, given_name(name)))

    def _write_call(self, written: Written, call: ir.Node) -> None:
        """A further call of a module (``repeats``)."""
        path, count = call.attributes[PATH].as_string(), call.attributes[COUNT].as_int()
        if not written.block.holds(path):
            raise _NotCallableError(path)
        values = list(self.emits[call].code.values())
        given, first, results = values[:count], values[count : 2 * count], values[2 * count :]
        same = dict(zip(first, given, strict=True))
        reach = f"self{attribute(written.block.relative(path))}"
        inner = self.blocks.get(path)
        if inner is not None:
            if any(v not in same and not blocks.is_weight(v) for v in inner.inputs) or set(inner.outputs) - set(
                results
            ):
                raise _NotCallableError(path)
            fragment = code("{}({})", Raw(reach), join(", ", [same.get(v, v) for v in inner.inputs]))
            targets, pattern = [call.outputs[results.index(v)] for v in inner.outputs], None
        else:
            node = next((n for n in self.emits if n.name == path), None)
            emit = self.emits[node] if node is not None else None
            if node is None or emit is None or emit.layer is None or len(node.outputs) != len(call.outputs):
                raise _NotCallableError(path)
            parts = tuple(same.get(p, p) if isinstance(p, ir.Value) else p for p in emit.code.parts)
            fragment = substitute_layer(Code(parts), Code((reach,)))
            targets, pattern = list(call.outputs), emit.targets
        name = written.block.relative(path)
        written.lines.append(Line(targets, fragment, pattern, hint_of_path(name), name, given_name(name)))

    def _new(self, block: Block, instances: Mapping[Block, Instance]) -> Code:
        return sequence(self.sequences[block]) if block in self.sequences else instances[block].call()

    def _is_chain(self, block: Block) -> bool:
        """Whether a block is modules named 0, 1, 2, ... each of which reads the one before it: ``nn.Sequential``."""
        if len(block.inputs) != 1 or len(block.outputs) != 1:
            return False
        if not block.path and self.returned != block.outputs:
            return False
        current = block.inputs[0]
        for index, step in enumerate(block.steps):
            if block.relative(_path(step)) != str(index):
                return False
            if isinstance(step, Block):
                reads, makes = step.inputs, step.outputs
            else:
                emit = self.emits[step]
                if (emit.layer is None and emit.module is None) or emit.targets not in (None, "{0}"):
                    return False
                reads, makes = list(emit.code.values()), step.outputs[: 1 if emit.targets else None]
            if reads != [current] or len(makes) != 1:
                return False
            current = makes[0]
        return current is block.outputs[0]

    def _item(self, step: ir.Node | Block, instances: Mapping[Block, Instance]) -> Code:
        if isinstance(step, Block):
            return self._new(step, instances)
        layer = self.emits[step].layer or self.emits[step].module
        assert layer is not None
        self._remember(step.name or "", layer)
        return layer.new

    # --- weights ---------------------------------------------------------------------------------------------------

    def _layer_path(self, node: ir.Node, layer: Layer, block: Block) -> str:
        """Where the layer of a node lives: two calls of one layer share it, where the block has it."""
        plain = tuple(sorted((slot, w.plain) for slot, w in layer.weights.items()))
        if not plain or any(name is None for _, name in plain):
            return node.name or ""
        key = (tuple(str(p) for p in layer.new.parts), plain)
        path = self.layers.setdefault(key, node.name or "")
        return path if block.holds(path) else node.name or ""

    def _remember(self, path: str, layer: Layer) -> None:
        for (slot, weight), kinds in zip(layer.weights.items(), layer.kinds(self.graph).values(), strict=True):
            key = f"{path}.{slot}" if path else slot
            self.weights[key] = weight
            if slot not in STATE:
                self.trains[key] = slot not in layer.frozen and kinds != {"frozen"}

    def frozen(self) -> list[str]:
        """The paths of what does not train: modules of which nothing trains, and single weights of others.

        Weights that no layer holds say so where they are made.
        """
        free = {self.homes[v]: traits.kind(v) == "parameter" for v in self.homes if traits.kind(v) in PARAMETERS}
        trained = {path for key, trains in (self.trains | free).items() if trains for path in ("", *prefixes(key))}
        found = [
            next(path for path in ("", *prefixes(key)) if path not in trained)
            for key in self.trains
            if key not in trained
        ]
        return list(dict.fromkeys(found))

    def _free_weight(self, value: ir.Value) -> Code:
        tensor = value.const_value
        assert tensor is not None
        kind = traits.kind(value)
        shape, dtype = tuple(tensor.shape.numpy()), TORCH_DTYPES[tensor.dtype]
        made = _constant(tensor.numpy(), dtype) if kind == "constant" else None
        if made is not None:
            return code(f"{CONSTANT}{{}}", made)
        transposed = traits.is_transposed(value)
        self.weights[self.homes[value]] = Weight.of(value.name or "", *TRANSPOSE[transposed])
        if kind == "constant":
            self.constants.append(self.homes[value])
        shape = shape[::-1] if transposed else shape
        empty = code("torch.empty({}, dtype={})" if dtype != "torch.float32" else "torch.empty({})", shape, Raw(dtype))
        if kind in PARAMETERS:
            return call("nn.Parameter", empty, requires_grad=False if kind == "frozen" else None)
        return code(f"{BUFFER}{{}}", empty)

    def _weight_name(self, block: Block, value: ir.Value) -> str:
        return self.reach(self.homes[value], block, traits.kind(value))

    def reach(self, path: str, block: Block | None = None, kind: str = "module") -> str:
        """How the code of a block (the model's, when None) names the weight of that kind, or the module, at a path.

        What is called by a number is an item of a list, but where the module around it is a class of its own.
        """
        relative = (block or self.root).relative(path)
        around = path.removesuffix(relative)
        owner, _, last = relative.rpartition(".")
        steps = relative.split(".")
        in_class = any(is_index(s) and self._is_class(around + ".".join(steps[:i])) for i, s in enumerate(steps) if i)
        start = f"self.get_submodule({quoted(owner)})" if in_class else f"self{attribute(owner)}"
        if self.root in self.sequences and block in (None, self.root):
            start = re.sub(r'^self\.get_submodule\("([0-9]+)"\)', r"self[\1]", start)
            if is_index(last) and not owner:
                return f"self[{last}]"
        if is_plain(last):
            return f"{start}.{last}"
        if is_index(last) and owner and not self._is_class(around + owner):
            return f"{start}[{last}]"
        getter = {"module": "get_submodule", "parameter": "get_parameter", "frozen": "get_parameter"}
        return f"{start}.{getter.get(kind, 'get_buffer')}({quoted(last)})"

    def _is_class(self, path: str) -> bool:
        """Whether a class is written for the module at a path: it is a block, and no chain."""
        block = self.blocks.get(path)
        return block is not None and block not in self.sequences

    def _aliases(self) -> list[tuple[str, str]]:
        """(path in the original, path here) of layers, or weights, that the original's state dict has under both.

        They are added to the weights. Only a module that the code has, and that is no chain, can hold one more.
        """
        held: dict[str, list[str]] = {}
        for key in self.weights:
            held.setdefault(_owner(key), []).append(key)
        found: dict[str, str] = {}
        for value in self.graph.initializers.values():
            names = [self.paths(name) for name in (value.name or "", *traits.aliases(value))]
            key = next((k for k, w in self.weights.items() if w.plain == value.name), None) if names[1:] else None
            for name in names if key is not None else ():
                owner = _owner(name)
                if name in self.weights or name.rpartition(".")[2] != key.rpartition(".")[2]:
                    continue
                if self._is_class(owner):
                    found[name] = key
                elif self._is_class(_owner(owner)) and owner not in held and held[_owner(key)] == [key]:
                    found.setdefault(owner, _owner(key))
                else:
                    continue
                self.weights[name] = self.weights[key]
        return list(found.items())

    def _ties(self) -> list[tuple[str, str]]:
        """(key, key) of weights of different layers that are the same initializer."""
        first: dict[str, str] = {}
        pairs = []
        for key, weight in self.weights.items():
            views = repr(weight.views)
            if weight.views and first.setdefault(views, key) != key:
                pairs.append((key, first[views]))
        return pairs


def _constant(array: np.ndarray, dtype: str) -> Code | None:
    """What makes a constant in the source: its one number, or its few elements. None where there are too many."""
    if array.size > MAX_REPEATED and array.tobytes() == np.full_like(array, array.flat[0]).tobytes():
        kept = Raw(dtype) if dtype != "torch.float32" else None
        if not any(array.tobytes()):
            return call("torch.zeros", array.shape, dtype=kept)
        return call("torch.full", array.shape, Literal(array.flat[0], "value"), dtype=Raw(dtype))
    if array.size > MAX_REPEATED and array.ndim > 1 and array.dtype.kind in "bif":
        for side, k in _diagonals(array):
            if np.array_equal(array, getattr(np, side)(np.ones_like(array), k)):
                ones = call("torch.ones", *array.shape, dtype=Raw(dtype) if dtype != "torch.float32" else None)
                return code(f"{{}}.{side}({{}})", ones, k) if k else code(f"{{}}.{side}()", ones)
    if 0 < array.size <= MAX_PRINTED:
        return code("torch.tensor({}, dtype={})", Literal(array, "values"), Raw(dtype))
    return None


def _diagonals(array: np.ndarray) -> list[tuple[str, int]]:
    """The diagonal at which a matrix (of matrices) of ones would end or begin, were it a triangle."""
    row = array.reshape(-1, array.shape[-1])[0] != 0
    return [("tril", int(row.sum()) - 1), ("triu", int(row.argmax()))]


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _is_numbered(block: Block) -> bool:
    return any(is_index(block.relative(_path(step)).partition(".")[0]) for step in block.steps)


def _path(step: ir.Node | Block) -> str:
    return step.path if isinstance(step, Block) else step.name or ""


def _tensor_of_ints(elements: Elements, value: ir.Value) -> Code:
    items = elements.items[0] if elements.rank == 0 else list(elements.items)
    dtype = "" if value.dtype == ir.DataType.INT64 and items != [] else f", dtype={TORCH_DTYPES[value.dtype]}"  # type: ignore[index]
    made = code(f"torch.tensor({{}}{dtype})", items)
    return made if elements.rank == 0 else placed(made)  # a single number goes with tensors of any device
