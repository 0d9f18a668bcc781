"""The statements of a body: what the printers of classes and of functions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from dlbridge.source import printing
from dlbridge.source.code import Code
from dlbridge.source.definitions import Definition, Member, OptionalSteps, Written

NameOf = Callable[[ir.Value], str]


def print_code(fragment: Code, parameters: Sequence[str | None], name: NameOf = str) -> str:
    """Print code with some of its literals, in order, as parameters."""
    shown = iter(parameters)
    return fragment.text(name, lambda literal: literal.text(next(shown)))


def plain(fragment: Code) -> str:
    """Print code that reads no values, with its literals as they are."""
    return fragment.text(str)


def split_parameters(definition: Definition) -> tuple[dict[int, str], dict[int, str]]:
    """The parameters by the literals of the members that they replace, and of the lines; each counted from 0."""
    count = sum(len(list(member.new.literals())) for member in definition.written.members)
    in_members = {slot: name for slot, name in definition.slots.items() if slot < count}
    in_lines = {slot - count: name for slot, name in definition.slots.items() if slot >= count}
    return in_members, in_lines


def member_texts(definition: Definition, identity: str | None) -> list[tuple[Member, str]]:
    """Each member with the expression that makes it."""
    parameters, _ = split_parameters(definition)
    steps = OptionalSteps(definition, identity)
    slot, texts = 0, []
    for index, member in enumerate(definition.written.members):
        count = len(list(member.new.literals()))
        shown = [parameters.get(slot + i) for i in range(count)]
        slot += count
        texts.append((member, steps.member(index, print_code(member.new, shown))))
    return texts


def assignments(
    definition: Definition,
    names: Mapping[ir.Value, str],
    name: NameOf,
    parameters: Mapping[int, str],
    *,
    prefix: str = "",
    identity: str | None = None,
) -> list[str]:
    """The lines of a body.

    Args:
        definition: What is printed.
        names: The variables.
        name: How code reads a value: a variable, or a weight at its place.
        parameters: Place of a literal among those of the lines -> the parameter that stands for it.
        prefix: How the body reaches the flags of optional steps.
        identity: As in ``Dialect``.
    """
    steps = OptionalSteps(definition, identity)
    slot, lines = 0, []
    for index, line in enumerate(definition.written.lines):
        count = len(list(line.code.literals()))
        shown = [parameters.get(slot + i) for i in range(count)]
        slot += count
        text = steps.line(index, print_code(line.code, shown, name), name, prefix)
        lines.append(f"{targets(line.targets, line.pattern, names)} = {text}")
    return lines


def targets(values: Sequence[ir.Value], pattern: str | None, names: Mapping[ir.Value, str]) -> str:
    """The left side of an assignment."""
    found = [names[v] for v in values]
    return pattern.format(*found) if pattern else ", ".join(found)


def plain_assignments(written: Written, names: Mapping[ir.Value, str]) -> list[str]:
    """The lines of a body that has neither parameters nor optional steps."""
    return assignments(Definition("", written), names, names.__getitem__, {})


def returned(values: Sequence[ir.Value | Code], name: NameOf) -> str:
    """What a body returns."""
    return ", ".join(v.text(name) if isinstance(v, Code) else name(v) for v in values)


def merge_return(lines: list[str]) -> list[str]:
    """``x = f(x)`` followed by ``return x`` is ``return f(x)``."""
    if len(lines) < 2:
        return lines
    target, _, value = lines[-2].partition(" = ")
    return [*lines[:-2], f"return {value}"] if lines[-1] == f"return {target}" and "," not in target else lines


def indent(lines: list[str], depth: int = 1) -> list[str]:
    """The lines one or more steps to the right, those that are too long in several."""
    return [part for line in lines for part in printing.fit(depth * printing.INDENT + line)]
