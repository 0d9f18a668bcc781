"""Prints the definitions of a model as classes of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.source import printing
from dlbridge.source.blocks import is_weight
from dlbridge.source.bodies import assignments, merge_return, plain, returned, split_parameters
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.classes.members import member_statements
from dlbridge.source.condense.module_loops import module_loops
from dlbridge.source.condense.nesting import nest
from dlbridge.source.condense.unrolled import roll_steps
from dlbridge.source.definitions import Definition, OptionalSteps
from dlbridge.source.tree.code import Code, Literal, call, expression
from dlbridge.source.tree.expr import Attr, Call, Comprehension, Expr, Lit, Name, Star, Val, Var
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.statements import Assign, Class, Def, Do, Return, Statement
from dlbridge.source.variables import input_names, name_values, names_read, output_names

if TYPE_CHECKING:
    from dlbridge.source.classes.writer import ModuleWriter

_INIT = expression("super().__init__")


def print_file(writer: ModuleWriter, definitions: list[Definition], root: Definition) -> str:
    """The whole file."""
    dialect = writer.dialect
    classes = [_class(writer, d, d is root) for d in definitions]
    parts = [*writer.functions.written, *classes, *dialect.epilogue(writer, root)]
    return printing.file(parts, dialect.helpers, dialect.imported)


def sequence(dialect: Dialect, items: list[Code]) -> Code:
    """The code that makes a sequence of modules."""
    if len({text_of(plain(i)) for i in items}) == 1 and len(items) > 2:
        count = call("range", Lit(Literal(len(items), "depth")))
        return call(dialect.sequence, Star(Comprehension("[", items[0], "_", count)))
    return call(dialect.sequence, *items)


def _class(writer: ModuleWriter, definition: Definition, is_root: bool) -> Class:
    dialect, written = writer.dialect, definition.written
    about = printing.about_sizes(writer.graph) if is_root else []
    items = writer.sequences.get(written.block) if is_root else None
    if items is not None:
        body = (Do(plain(call(_INIT, *items))), *dialect.endings(writer))
        made_of = Def("__init__", ("self", *dialect.parameters), body)
        return Class(definition.name, expression(dialect.sequence), (*about, made_of))
    base, init = expression(dialect.base), [Do(expression(dialect.init))] if dialect.init else []
    layer = plain(writer.base) if is_root and writer.base is not None else None
    if isinstance(layer, Call):
        base, init = layer.function, [Do(Call(_INIT, layer.arguments))]
    made = _members(writer, definition) + (dialect.endings(writer) if is_root else [])
    parts: list[Statement] = [*about]
    if made or layer is not None:
        extra = dialect.parameters if written.members or layer is not None else ()
        parts.append(Def("__init__", ("self", *definition.signature(), *extra), (*init, *made)))
    return Class(definition.name, base, (*parts, _call(writer, definition, is_root)))


def _members(writer: ModuleWriter, definition: Definition) -> list[Statement]:
    """What a class keeps: parameters that it reads when it is called, and its members."""
    _, in_lines = split_parameters(definition)
    steps = OptionalSteps(definition, writer.dialect.identity)
    read = {*in_lines.values(), *steps.kept()}
    kept = [Assign(Attr(Name("self"), p), Var(p)) for p in definition.parameters if p in read]
    return kept + member_statements(writer.dialect, definition)


def _call(writer: ModuleWriter, definition: Definition, is_root: bool) -> Def:
    """The method that computes."""
    dialect, written = writer.dialect, definition.written
    taken = dialect.modules | names_read(written)
    inputs = input_names(written.block.inputs, taken, is_root=is_root, path=written.block.path)
    kept = frozenset(inputs.values()) - {"x"} if is_root else frozenset()
    named = output_names(writer.model.outputs) if is_root else None
    names = name_values(written, inputs, kept, dialect.modules, named)

    def name(value: ir.Value) -> Expr:
        if value not in names and is_weight(value):
            return writer.weight_code(written.block, value)
        return Var(names[value])

    _, in_lines = split_parameters(definition)
    lines = assignments(definition, names, name, in_lines, in_class=True, identity=dialect.identity)
    results = writer.returned if is_root else written.block.outputs
    arrays = [dialect.read_weights(Val(v)) if isinstance(v, ir.Value) and is_weight(v) else v for v in results]
    lines.append(Return(returned(arrays, name, traits.output_keys(writer.model.graph) if is_root else None)))
    # Layers that get a second place may get it here, as children that no line calls.
    attached = [path for path, _ in writer.joined if path not in writer.weights]
    members = [member.name for member in written.members]
    lines = roll_steps(module_loops(lines, [*members, *attached], dialect.children))
    body = nest(merge_return(lines))
    return Def(dialect.call, ("self", *inputs.values()), tuple(body))
