"""The names and weights of a written Keras model: what layers are called, and where Keras finds a variable."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.keras.names import NETWORK, layer_name
from dlbridge.frameworks.keras.printing.automatic import is_automatic
from dlbridge.frameworks.keras.printing.printer import flat, member, variable_path
from dlbridge.frameworks.keras.rules import KERAS_DTYPES
from dlbridge.ops import traits
from dlbridge.source.blocks import Block
from dlbridge.source.definitions import Line, Member, Written
from dlbridge.source.names import Names, identifier
from dlbridge.source.tree.code import Code, Literal, call, code
from dlbridge.source.tree.expr import Const, FString, Var
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.literals import is_counted, is_repeated
from dlbridge.source.weights import Weight

#: Constants with more elements than this come from the weights file, not from the source.
MAX_PRINTED = 64


class KerasWeights:
    """The part of a writer that names layers and keeps their weights.

    Attributes:
        root: The blocks.
        dynamic: Those that are ``Layer`` subclasses.
        wrapped: Whether all of the model is in one layer.
        weight_paths: Where each weight that code reads by name lives.
        automatic: Names that Keras may give by itself.
        taken: Names of layers of the model itself.
        outermost: Path -> the name of the layer of the model itself that has it.
        renamed: Name of an input -> the name of its layer, where Keras may give the first.
        weights: Keras' path of each variable -> how it is made of initializers.
    """

    root: Block
    dynamic: set[Block]
    wrapped: bool
    weight_paths: dict[ir.Value, str]
    automatic: frozenset[str]
    taken: Names
    outermost: dict[str, str]
    renamed: dict[str, str]
    weights: dict[str, Weight]

    # --- names -------------------------------------------------------------------------------------------------------

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

    # --- weights -----------------------------------------------------------------------------------------------------

    def _variable_path(self, block: Block, name: str) -> str:
        """Keras' path of what is called ``name`` in a block: classes add one part each, functions none."""
        chain = [b for b in self.dynamic if b.path and name.startswith(b.path + ".")]
        chain.sort(key=lambda b: len(b.path))
        return variable_path([b.path for b in chain], name, NETWORK if self.wrapped else None, self._outermost)

    def _is_printed(self, value: ir.Value) -> bool:
        tensor = value.const_value
        return traits.kind(value) == "constant" and tensor is not None and tensor.size <= MAX_PRINTED

    def _write_free_weight(self, written: Written, value: ir.Value) -> None:
        block, home = written.block, self.weight_paths[value]
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
        return block.relative(self.weight_paths[value]) if found is None else text_of(found)

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
            if is_repeated(numbers):
                return call("ops.full", numbers.shape, Literal(numbers.flat[0]), dtype=dtype)
            if is_counted(numbers):
                made = call("ops.arange", numbers.size, dtype=dtype)
                return made if numbers.ndim == 1 else call("ops.reshape", made, numbers.shape)
            return code("ops.array({}, dtype={})", numbers, dtype)
        if block in self.dynamic:
            return member(block.relative(self.weight_paths[value]))
        return None
