"""Prints the definitions of a model as classes of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from dlbridge.source import printing
from dlbridge.source.blocks import is_weight
from dlbridge.source.code import Code, Literal, call
from dlbridge.source.definitions import Definition, OptionalSteps
from dlbridge.source.dialect import Dialect
from dlbridge.source.members import member_statements
from dlbridge.source.module_loops import module_loops
from dlbridge.source.printing import INDENT
from dlbridge.source.statements import assignments, indent, merge_return, plain, returned, split_parameters
from dlbridge.source.variables import input_names, name_values, names_read, output_names

if TYPE_CHECKING:
    from dlbridge.source.modules import ModuleWriter


def print_file(writer: ModuleWriter, definitions: list[Definition], root: Definition) -> str:
    """The whole file."""
    dialect = writer.dialect
    parts = [_class(writer, d, d is root) for d in definitions] + dialect.epilogue(writer, root)
    body = "\n\n\n".join([*writer.functions.texts, *("\n".join(lines) for lines in parts)])
    return printing.file(body, dialect.helpers, dialect.imported)


def sequence(dialect: Dialect, items: list[Code]) -> Code:
    """The code that makes a sequence of modules."""
    if len({plain(i) for i in items}) == 1 and len(items) > 2:
        inner = items[0].parts
        return Code((f"{dialect.sequence}(*[", *inner, " for _ in range(", Literal(len(items), "depth"), ")])"))
    return call(dialect.sequence, *items)


def _class(writer: ModuleWriter, definition: Definition, is_root: bool) -> list[str]:
    dialect, written = writer.dialect, definition.written
    about = printing.about_sizes(writer.graph, INDENT) if is_root else []
    about += [""] if about else []
    items = writer.sequences.get(written.block) if is_root else None
    if items is not None:
        lines = [plain(call("super().__init__", *items)), *dialect.endings(writer)]
        header = f"{INDENT}def __init__({', '.join(['self', *dialect.parameters])}):"
        return [f"class {definition.name}({dialect.sequence}):", *about, header, *indent(lines, 2)]
    base, init = dialect.base, [dialect.init] if dialect.init else []
    if is_root and writer.base is not None:
        base, _, given = plain(writer.base).partition("(")
        init = [f"super().__init__({given}"]
    made = _members(writer, definition) + (dialect.endings(writer) if is_root else [])
    lines = [f"class {definition.name}({base}):", *about]
    if made or base != dialect.base:
        extra = dialect.parameters if written.members or base != dialect.base else ()
        header = f"{INDENT}def __init__({', '.join(['self', *definition.signature(), *extra])}):"
        lines += [*printing.fit(header), *indent([*init, *made], 2), ""]
    return lines + _call(writer, definition, is_root)


def _members(writer: ModuleWriter, definition: Definition) -> list[str]:
    """What a class keeps: parameters that it reads when it is called, and its members."""
    _, in_lines = split_parameters(definition)
    steps = OptionalSteps(definition, writer.dialect.identity)
    read = {*in_lines.values(), *steps.kept()}
    kept = [f"self.{p} = {p}" for p in definition.parameters if p in read]
    return kept + member_statements(writer.dialect, definition)


def _call(writer: ModuleWriter, definition: Definition, is_root: bool) -> list[str]:
    """The method that computes."""
    dialect, written = writer.dialect, definition.written
    taken = dialect.modules | names_read(written)
    inputs = input_names(written.block.inputs, taken, is_root=is_root, path=written.block.path)
    kept = frozenset(inputs.values()) - {"x"} if is_root else frozenset()
    leaving = output_names(writer.model.outputs) if is_root else None
    names = name_values(written, inputs, kept, dialect.modules, leaving)

    def name(value: ir.Value) -> str:
        return writer.weight_name(written.block, value) if value not in names and is_weight(value) else names[value]

    _, in_lines = split_parameters(definition)
    parameters = {slot: f"self.{p}" for slot, p in in_lines.items()}
    lines = assignments(definition, names, name, parameters, prefix="self.", identity=dialect.identity)
    result = returned(writer.returned if is_root else written.block.outputs, name)
    lines.append(f"return {result or None}")
    # Layers that get a second place may get it here, as children that no line calls.
    attached = [path for path, _ in writer.joined if path not in writer.weights]
    members = [member.name for member in written.members]
    header = f"{INDENT}def {dialect.call}({', '.join(['self', *inputs.values()])}):"
    body = merge_return(module_loops(lines, [*members, *attached], dialect.children))
    return [*printing.fit(header), *indent(body, 2)]
