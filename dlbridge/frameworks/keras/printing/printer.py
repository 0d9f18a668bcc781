"""Prints the definitions of a model as functions, ``Layer`` subclasses and ``build_model``."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import keras
import onnx_ir as ir

from dlbridge.frameworks.keras import helpers
from dlbridge.frameworks.keras.names import NETWORK, layer_name
from dlbridge.frameworks.keras.printing.layer_loops import layer_loops
from dlbridge.frameworks.keras.printing.lists import list_of
from dlbridge.frameworks.keras.rules import KERAS_DTYPES
from dlbridge.frameworks.keras.training.code import printer
from dlbridge.ops import traits
from dlbridge.source import printing
from dlbridge.source.blocks import Block
from dlbridge.source.bodies import assignments, made_members, merge_return, plain, returned, split_parameters
from dlbridge.source.condense.module_loops import module_loops
from dlbridge.source.condense.nesting import nest
from dlbridge.source.condense.unrolled import roll_steps
from dlbridge.source.definitions import Definition
from dlbridge.source.names import class_name, identifier
from dlbridge.source.training.code import training_part
from dlbridge.source.tree.code import Code, call, expression
from dlbridge.source.tree.expr import Arguments, Attr, Const, Dict, Expr, Items, Name, Var
from dlbridge.source.tree.statements import Assign, Class, Def, Do, Raise, Return, Statement, Text, variables
from dlbridge.source.variables import input_names, name_values, names_read, output_names

if TYPE_CHECKING:
    from dlbridge.frameworks.keras.writer import KerasWriter

#: A layer that gives back its input.
IDENTITY = "layers.Identity()"
_OWN = frozenset(vars(keras.layers.Layer()))
#: Names that no variable may have.
RESERVED = frozenset({"self", "name", "math", "keras", "layers", "ops"})
#: Kinds of members that are no layers: a call in ``build``, and what ``compute_output_spec`` returns.
BUILD, SPEC = "build", "spec"
_REGISTER = expression("keras.saving.register_keras_serializable()")
_SUPER = expression("super().__init__")


def print_module(writer: KerasWriter, definitions: list[Definition], root: Definition) -> str:
    """The whole file."""
    parts: list[Statement] = [*writer.functions.written]
    for definition in definitions:
        if definition.written.block in writer.dynamic:
            parts.append(_class(writer, definition, definition is root))
        elif definition is not root:
            parts.append(_function(writer, definition))
    parts.append(_build_model(writer, root))
    parts += training_part(writer.model, printer(eagerly=bool(writer.eager)))
    return printing.file(parts, helpers, _imported)


def _imported(used: set[str]) -> list[str]:
    words = [word for word in ("layers", "ops") if word in used]
    return ["import keras", *([f"from keras import {', '.join(words)}"] if words else [])]


def stand_in(name: str, node: ir.Node, about: list[str]) -> tuple[Code, Class]:
    """A layer to be filled in: models that hold it are built, and raise when called."""
    name = class_name(name)
    given = ("self", *(f"x{i}" for i, v in enumerate(node.inputs) if v is not None))
    error = expression(f'NotImplementedError("{name} is to be filled in")')
    specs = [call("keras.KerasTensor", Const(sizes_of(v)), Const(KERAS_DTYPES[v.dtype])) for v in node.outputs]  # type: ignore[index]
    spec = specs[0] if len(specs) == 1 else Arguments(tuple(specs))
    parts = (
        printing.docstring(about),
        Def("call", given, (Raise(error),)),
        Def("compute_output_spec", given, (Return(spec),)),
    )
    return expression(f"{name}()"), Class(name, expression("layers.Layer"), parts, _REGISTER)


def sizes_of(value: ir.Value) -> tuple[int | None, ...]:
    """A shape as Keras says it: None for sizes that are not known."""
    return tuple(d if isinstance(d, int) else None for d in value.shape or ())


def member(path: str) -> Code:
    """How the code of a layer's class reaches the member at a path."""
    return Attr(Name("self"), member_name(path))


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


def _function(writer: KerasWriter, definition: Definition) -> Def:
    written = definition.written
    taken = {*RESERVED, *names_read(written), *definition.parameters}
    names = input_names(written.block.inputs, taken, is_root=False, path=written.block.path)
    parameters = (*names.values(), *definition.signature("name"))
    _, in_lines = split_parameters(definition)
    lines = _statements(writer, definition, names, in_lines, reserved=definition.parameters)
    lines.append(Return(returned(written.block.outputs, _namer(writer, definition, names))))
    return Def(definition.name, parameters, tuple(merge_return(layer_loops(roll_steps(lines)))))


def _build_model(writer: KerasWriter, root: Definition) -> Def:
    about, sequence = printing.about_sizes(writer.model.graph), writer.sequence
    if sequence is not None:
        return Def("build_model", (), (*about, Return(_sequential(writer, sequence))))
    network = call(root.name, name=Const(NETWORK))
    if writer.subclassed:
        return Def("build_model", (), (*about, Return(network)))
    names = input_names(writer.model.inputs, RESERVED | names_read(root.written), is_root=True)
    if len(names) == 1:
        names = dict.fromkeys(names, "inputs")
    lines: list[Statement] = [Assign(Var(n), _input(v, writer.input_name(v))) for v, n in names.items()]
    inputs = [Var(names[v]) for v in writer.model.inputs]
    if writer.wrapped:
        lines.append(Assign(Var("outputs"), call(network, *map(Var, names.values()))))
        outputs: Expr = Var("outputs")
    else:
        lines += _statements(writer, root, names, {}, frozenset(names.values()))
        outputs = returned(writer.returned, _namer(writer, root, names), traits.output_keys(writer.model.graph))
        *lines, last = layer_loops(roll_steps([*lines, Return(outputs)]))
        assert isinstance(last, Return)
        outputs = last.value
        outputs = Items("[", outputs.items) if isinstance(outputs, Arguments) else outputs
    given = inputs[0] if len(inputs) == 1 else Items("[", tuple(inputs))
    model = call("keras.Model", given, outputs, name=Const(_model_name(writer.model.name)))
    return Def("build_model", (), (*about, *lines, Return(model)))


def _sequential(writer: KerasWriter, nodes: list[ir.Node]) -> Expr:
    items = [_input(writer.model.inputs[0], None)]
    for node in nodes:
        emit = writer.emits[node]
        layer = emit.layer or emit.module
        assert layer is not None
        items.append(plain(writer._named(layer, node, writer.root)))
    return call("keras.Sequential", Items("[", tuple(items)))


def _model_name(name: str) -> str:
    """A name that TensorFlow takes for a scope, which does not begin with an underscore."""
    return identifier(name, "model").lstrip("_") or "model"


def _input(value: ir.Value, name: str | None) -> Code:
    shape = sizes_of(value)
    batched = shape[:1] == (None,)
    is_float = value.dtype is None or value.dtype == ir.DataType.FLOAT
    return call(
        "keras.Input",
        *([Const(shape[1:])] if batched else []),
        batch_shape=None if batched else Const(shape),
        dtype=None if is_float else Const(KERAS_DTYPES[value.dtype]),  # type: ignore[index]
        name=None if name is None else Const(name),
    )


# --- classes -------------------------------------------------------------------------------------------------------


def _class(writer: KerasWriter, definition: Definition, is_root: bool) -> Class:
    written, subclassed = definition.written, is_root and writer.subclassed
    taken = RESERVED | names_read(written)
    names = input_names(written.block.inputs, taken, is_root=is_root, path=written.block.path)
    inputs = tuple(names.values())
    parts: list[Statement] = []
    if written.block in writer.eager:
        text = "Reads numbers from tensors, so it runs eagerly: compile with run_eagerly=True."
        parts.append(Text((f'"""{text}"""',)))
    made = _init(writer, definition, subclassed)
    if len(made) > 1 or not _is_single(written.block):
        parts.append(Def("__init__", ("self", *definition.signature(), "**kwargs"), tuple(made)))
    built = [Do(plain(m.new)) for m in written.members if m.kind == BUILD]
    if built:
        parts.append(Def("build", ("self", "input_shape"), (*built, _set("built", Const(True)))))
    parts.append(_call(writer, definition, names, is_root))
    spec = next((plain(m.new) for m in written.members if m.kind == SPEC), None)
    if spec is not None:
        parts.append(Def("compute_output_spec", ("self", *inputs), (Return(spec),)))
    if definition.parameters:
        own = [(Const(p), Attr(Name("self"), p)) for p in definition.parameters]
        pairs = [(Name("**"), expression("super().get_config()")), *own]
        config = Dict(*zip(*pairs, strict=True))
        parts.append(Def("get_config", ("self",), (Return(config),)))
    return Class(definition.name, expression("keras.Model" if subclassed else "layers.Layer"), tuple(parts), _REGISTER)


def _set(name: str, value: Expr) -> Assign:
    return Assign(Attr(Name("self"), name), value)


def _init(writer: KerasWriter, definition: Definition, subclassed: bool) -> list[Statement]:
    written = definition.written
    cast = {} if _is_single(written.block) else {"autocast": Const(False)}
    lines: list[Statement] = [Do(call(_SUPER, **cast, **{"**": Var("kwargs")}))]
    lines += [_set(p, Var(p)) for p in definition.parameters]
    lines += _members(definition)
    if subclassed and written.block in writer.eager:
        lines.append(_set("run_eagerly", Const(True)))  # so that predict and evaluate do; compile sets it anew
    if subclassed and not written.members:
        lines.append(_set("built", Const(True)))  # there is nothing to build
    return lines


def _members(definition: Definition) -> list[Statement]:
    """The assignments that make a class's members; those of a list, whose names end in their places, as one."""
    made = [(m.name, new) for m, new in made_members(definition, IDENTITY) if m.kind not in (BUILD, SPEC)]
    lists: dict[str, dict[int, Expr]] = {}
    for name, new in made:
        owner, _, place = name.rpartition(".")
        lists.setdefault(owner or name, {})[int(place) if owner else 0] = new
    listed = {name.rpartition(".")[0] for name, _ in made}
    return [
        _set(member_name(name), list_of([items[i] for i in sorted(items)]) if name in listed else items[0])
        for name, items in lists.items()
    ]


def _call(writer: KerasWriter, definition: Definition, names: dict[ir.Value, str], is_root: bool) -> Def:
    written = definition.written
    inputs = tuple(names.values())
    as_list = is_root and writer.subclassed and len(inputs) > 1
    _, in_lines = split_parameters(definition)
    lines = _statements(writer, definition, names, in_lines, frozenset(inputs) if is_root else frozenset())
    results = writer.returned if is_root else written.block.outputs
    keys = traits.output_keys(writer.model.graph) if is_root else None
    lines.append(Return(returned(results, _namer(writer, definition, names), keys)))
    if as_list:
        lines.insert(0, Assign(variables(inputs), Var("inputs")))
    given = ("inputs",) if as_list else inputs or ("inputs=None",)
    items = [m.name.rpartition(".") for m in written.members]
    members = [f"{member_name(owner)}.{last}" if owner else member_name(last) for owner, _, last in items]
    lines = roll_steps(module_loops(lines, members, None))
    return Def("call", ("self", *given), tuple(nest(merge_return(lines))))


def _is_single(block: Block) -> bool:
    """Whether all floats of a block are float32, which is what a layer takes its inputs in."""
    values = [v for n in block.nodes() for v in (*n.inputs, *n.outputs) if v is not None] + block.inputs
    return all(v.dtype is None or not v.dtype.is_floating_point() or v.dtype == ir.DataType.FLOAT for v in values)


# --- statements ----------------------------------------------------------------------------------------------------


def _statements(
    writer: KerasWriter,
    definition: Definition,
    names: dict[ir.Value, str],
    parameters: Mapping[int, str],
    kept: frozenset[str] = frozenset(),
    reserved: Iterable[str] = (),
) -> list[Statement]:
    """The assignments of a body. ``names`` comes with the inputs' names and gets those of all values.

    ``kept`` and ``reserved`` are as in :func:`dlbridge.source.variables.name_values`.
    """
    written = definition.written
    named = output_names(writer.model.outputs) if written.block is writer.root else None
    names.update(name_values(written, names, kept, {*RESERVED, *reserved}, named))
    in_class = written.block in writer.dynamic
    # Where layers are joined, those that are called more than once are made first.
    members = [] if in_class else made_members(definition, IDENTITY)
    made: list[Statement] = [Assign(Var(member.name), new) for member, new in members]
    name = _namer(writer, definition, names)
    return made + assignments(definition, names, name, parameters, in_class=in_class, identity=IDENTITY)


def _namer(writer: KerasWriter, definition: Definition, names: Mapping[ir.Value, str]) -> Callable[[ir.Value], Expr]:
    """How the code of a body reads a value: as a variable, or as a weight at its place."""

    def name(value: ir.Value) -> Expr:
        if value in names:
            return Var(names[value])
        found = writer.weight_code(definition.written.block, value)
        assert found is not None, value.name
        return found

    return name
