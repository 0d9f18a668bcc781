"""Prints the definitions of a model as functions, ``Layer`` subclasses and ``build_model``."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras import helpers
from dlbridge.frameworks.keras.names import NETWORK, layer_name
from dlbridge.frameworks.keras.rules import KERAS_DTYPES
from dlbridge.frameworks.keras.training_code import training_calls
from dlbridge.source import printing
from dlbridge.source.blocks import Block
from dlbridge.source.definitions import Definition
from dlbridge.source.loops import Loop, roll
from dlbridge.source.names import Names, class_name, identifier, quoted
from dlbridge.source.printing import INDENT
from dlbridge.source.regularized import comment
from dlbridge.source.statements import (
    assignments,
    indent,
    member_texts,
    merge_return,
    plain,
    returned,
    split_parameters,
)
from dlbridge.source.variables import input_names, name_values, names_read, output_names

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.writer import KerasWriter

#: A layer that gives back its input.
IDENTITY = "layers.Identity()"
_OWN = frozenset(vars(keras.layers.Layer()))
#: Names that no variable may have.
RESERVED = frozenset({"self", "name", "math", "keras", "layers", "ops"})
#: A layer's name that ends in a number; how many layers of such names are made in a loop.
NUMBERED, MIN_ROUNDS = re.compile(r'(?<=name=)f?"(?:\{name\}-)?[^"{}\\]*[0-9]"'), 3
#: Kinds of members that are no layers: a call in ``build``, and what ``compute_output_spec`` returns.
BUILD, SPEC = "build", "spec"


def print_module(writer: KerasWriter, definitions: list[Definition], root: Definition) -> str:
    """The whole file."""
    parts = []
    for definition in definitions:
        block = definition.written.block
        if block in writer.dynamic:
            parts.append(_class(writer, definition, definition is root))
        elif definition is not root:
            parts.append(_function(writer, definition))
    parts.append(_build_model(writer, root))
    if writer.model.training is not None:
        inputs = [identifier(v.name or "x") for v in writer.model.inputs]
        calls = training_calls(writer.model.training, inputs, writer.model.outputs, eagerly=bool(writer.eager))
        calls[1:1] = comment(writer.model.graph)
        parts.append([part for line in calls for part in printing.fit(line)])
    body = "\n\n\n".join([*writer.functions.texts, *("\n".join(lines) for lines in parts)])
    return printing.file(body, helpers, _imported)


def _imported(used: set[str]) -> list[str]:
    words = [word for word in ("layers", "ops") if word in used]
    return ["import keras", *([f"from keras import {', '.join(words)}"] if words else [])]


def stand_in(name: str, node: ir.Node, about: list[str]) -> tuple[str, str]:
    """A layer to be filled in: models that hold it are built, and raise when called."""
    name = class_name(name)
    arguments = ", ".join(["self", *(f"x{i}" for i, v in enumerate(node.inputs) if v is not None)])
    specs = [f'keras.KerasTensor({_sizes(v)}, "{KERAS_DTYPES[v.dtype]}")' for v in node.outputs]  # type: ignore[index]
    text = ["@keras.saving.register_keras_serializable()", f"class {name}(layers.Layer):"]
    text += [*printing.docstring(about, INDENT), "", f"{INDENT}def call({arguments}):"]
    text += [f'{2 * INDENT}raise NotImplementedError("{name} is to be filled in")', ""]
    text += [f"{INDENT}def compute_output_spec({arguments}):", f"{2 * INDENT}return {', '.join(specs)}"]
    return f"{name}()", "\n".join(text)


def _sizes(value: ir.Value) -> str:
    return str(tuple(d if isinstance(d, int) else None for d in value.shape or ()))


def member_name(path: str) -> str:
    """What a layer's class calls the member at a path: not a number, nor what Keras' own class has under that name."""
    name = flat(path)
    if name[:1].isdigit():
        return f"layer_{name}"
    return f"{name}_" if hasattr(keras.layers.Layer, name) or name in _OWN or keyword.iskeyword(name) else name


def flat(path: str) -> str:
    """A path as one word of an identifier."""
    return re.sub(r"\W", "_", path)


def variable_path(blocks: list[str], name: str, root: str | None, outermost: Callable[[str], str]) -> str:
    """Keras' path of a layer: each class on the way adds one part, by its name there (``outermost`` in the model)."""
    parts = [root] if root else []
    before = ""
    for path in [*blocks, name]:
        parts.append((layer_name if parts else outermost)(path[len(before) :].lstrip(".")))
        before = path
    return "/".join(parts)


# --- functions -----------------------------------------------------------------------------------------------------


def _function(writer: KerasWriter, definition: Definition) -> list[str]:
    written = definition.written
    taken = {*RESERVED, *names_read(written), *definition.parameters}
    names = input_names(written.block.inputs, taken, is_root=False, path=written.block.path)
    arguments = ", ".join([*names.values(), *definition.signature("name")])
    lines = _statements(writer, definition, names, definition.slots)
    lines.append(f"return {returned(written.block.outputs, _namer(writer, definition, names))}")
    return [*printing.fit(f"def {definition.name}({arguments}):"), *indent(merge_return(_loops(lines)))]


def _build_model(writer: KerasWriter, root: Definition) -> list[str]:
    lines: list[str] = []
    about = printing.about_sizes(writer.model.graph, INDENT)
    sequence = writer.sequence()
    names = input_names(writer.model.inputs, RESERVED | names_read(root.written), is_root=True)
    if len(names) == 1:
        names = dict.fromkeys(names, "inputs")
    if sequence is not None:
        items = [_input(writer.model.inputs[0], None)]
        for step in sequence:
            emit = writer.emits[step]
            layer = emit.layer or emit.module
            assert layer is not None
            items.append(writer._named(layer, step, writer.root).text(str))
        lines = [f"return keras.Sequential([{', '.join(items)}])"]
        return ["def build_model():", *about, *indent(lines)]
    if writer.subclassed:
        return ["def build_model():", *about, f'{INDENT}return {root.name}(name="{NETWORK}")']
    lines += [f"{name} = {_input(value, writer.input_name(value))}" for value, name in names.items()]
    if writer.wrapped:
        lines.append(f'outputs = {root.name}(name="{NETWORK}")({", ".join(names.values())})')
        outputs = "outputs"
    else:
        lines = _loops(lines + _statements(writer, root, names, {}, frozenset(names.values())))
        outputs = returned(writer.returned, _namer(writer, root, names))
        outputs = f"[{outputs}]" if len(writer.returned) > 1 else outputs
    inputs = ", ".join(names[v] for v in writer.model.inputs)
    inputs = inputs if len(writer.model.inputs) == 1 else f"[{inputs}]"
    lines.append(f'return keras.Model({inputs}, {outputs}, name="{_model_name(writer.model.name)}")')
    return ["def build_model():", *about, *indent(lines)]


def _model_name(name: str) -> str:
    """A name that TensorFlow takes for a scope, which does not begin with an underscore."""
    return identifier(name, "model").lstrip("_") or "model"


def _input(value: ir.Value, name: str | None) -> str:
    shape = [d if isinstance(d, int) else None for d in value.shape or ()]
    arguments = [f"{tuple(shape[1:])}"] if shape[:1] == [None] else [f"batch_shape={tuple(shape)}"]
    if value.dtype is not None and value.dtype != ir.DataType.FLOAT:
        arguments.append(f'dtype="{KERAS_DTYPES[value.dtype]}"')
    if name is not None:
        arguments.append(f"name={quoted(name)}")
    return f"keras.Input({', '.join(arguments)})"


# --- classes -------------------------------------------------------------------------------------------------------


def _class(writer: KerasWriter, definition: Definition, is_root: bool) -> list[str]:
    written = definition.written
    parameters = definition.parameters
    _, in_lines = split_parameters(definition)
    init = [f"self.{p} = {p}" for p in parameters]
    init += [
        f"self.{member_name(member.name)} = {text}"
        for member, text in member_texts(definition, IDENTITY)
        if member.kind not in (BUILD, SPEC)
    ]
    in_call = {slot: f"self.{p}" for slot, p in in_lines.items()}
    taken = RESERVED | names_read(written)
    names = input_names(written.block.inputs, taken, is_root=is_root, path=written.block.path)
    inputs = list(names.values())
    lines = _statements(writer, definition, names, in_call, frozenset(inputs) if is_root else frozenset())
    results = writer.returned if is_root else written.block.outputs
    lines.append(f"return {returned(results, _namer(writer, definition, names))}")
    subclassed = is_root and writer.subclassed
    if subclassed and written.block in writer.eager:
        init.append("self.run_eagerly = True")  # so that predict and evaluate do; compile sets it anew
    if subclassed and not written.members:
        init.append("self.built = True")  # there is nothing to build
    base = "keras.Model" if subclassed else "layers.Layer"
    text = ["@keras.saving.register_keras_serializable()", f"class {definition.name}({base}):"]
    header = ", ".join(["self", *definition.signature(), "**kwargs"])
    cast = "" if _is_single(written.block) else "autocast=False, "
    text += [*indent([f"def __init__({header}):"]), *indent([f"super().__init__({cast}**kwargs)", *init], 2), ""]
    built = [plain(member.new) for member in written.members if member.kind == BUILD]
    if built:
        text += [f"{INDENT}def build(self, input_shape):", *indent([*built, "self.built = True"], 2), ""]
    if subclassed and len(inputs) > 1:
        lines.insert(0, f"{', '.join(inputs)} = inputs")
    given = ["inputs"] if subclassed and len(inputs) > 1 else inputs or ["inputs=None"]
    text += [f"{INDENT}def call({', '.join(['self', *given])}):", *indent(merge_return(lines), 2)]
    if written.block in writer.eager:
        text.insert(
            2, f'{INDENT}"""Reads numbers from tensors, so it runs eagerly: compile with run_eagerly=True."""\n'
        )
    spec = next((plain(member.new) for member in written.members if member.kind == SPEC), None)
    if spec is not None:
        head = f"{INDENT}def compute_output_spec({', '.join(['self', *inputs])}):"
        text += ["", head, *indent([f"return {spec}"], 2)]
    if parameters:
        config = ", ".join(f'"{p}": self.{p}' for p in parameters)
        text += ["", f"{INDENT}def get_config(self):", *indent([f"return {{**super().get_config(), {config}}}"], 2)]
    return text


def _is_single(block: Block) -> bool:
    """Whether all floats of a block are float32, which is what a layer takes its inputs in."""
    values = [v for n in block.nodes() for v in (*n.inputs, *n.outputs) if v is not None] + block.inputs
    return all(v.dtype is None or not v.dtype.is_floating_point() or v.dtype == ir.DataType.FLOAT for v in values)


# --- statements ----------------------------------------------------------------------------------------------------


def _statements(
    writer: KerasWriter,
    definition: Definition,
    names: dict[ir.Value, str],
    parameters: dict[int, str],
    kept: frozenset[str] = frozenset(),
) -> list[str]:
    """The assignments of a body. ``names`` comes with the inputs' names and gets those of all values."""
    written = definition.written
    leaving = output_names(writer.model.outputs) if written.block is writer.root else None
    names.update(name_values(written, names, kept, RESERVED, leaving))
    is_class = written.block in writer.dynamic
    # Where layers are joined, those that are called more than once are made first.
    lines = [] if is_class else [f"{member.name} = {plain(member.new)}" for member in written.members]
    name, prefix = _namer(writer, definition, names), "self." if is_class else ""
    return lines + assignments(definition, names, name, parameters, prefix=prefix, identity=IDENTITY)


def _namer(writer: KerasWriter, definition: Definition, names: Mapping[ir.Value, str]) -> Callable[[ir.Value], str]:
    """How the code of a body reads a value: as a variable, or as a weight at its place."""

    def name(value: ir.Value) -> str:
        if value in names:
            return names[value]
        text = writer.weight_text(definition.written.block, value)
        assert text is not None, value.name
        return text

    return name


def _loops(lines: list[str]) -> list[str]:
    """Statements that make the same layers under numbered names become a loop over the numbers."""
    index = Names(*re.findall(r"\w+", "\n".join(lines))).fresh("i")

    def loop(parts: list[str]) -> Loop | None:
        names = [re.fullmatch(r'(.*?)([0-9]+)"', part) for part in parts]
        first = names[0]
        assert first is not None
        numbers = range(int(first[2]), int(first[2]) + len(parts))
        wanted = [f'{first[1]}{number}"' for number in numbers]
        count = next((i for i, (a, b) in enumerate(zip(parts, wanted, strict=True)) if a != b), len(parts))
        if count < MIN_ROUNDS:
            return None
        bounds = f"{numbers[0]}, {numbers[0] + count}" if numbers[0] else f"{count}"
        text = first[1] if first[1].startswith("f") else f"f{first[1]}"
        return Loop(f"for {index} in range({bounds}):", f'{text}{{{index}}}"', count)

    return roll(lines, NUMBERED, loop)
