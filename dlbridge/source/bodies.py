"""The statements of a body: what the printers of classes and of functions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import onnx_ir as ir

from dlbridge.source.definitions import Definition, Member, OptionalSteps, Written
from dlbridge.source.tree.code import Arguments, Code
from dlbridge.source.tree.expr import Attr, Call, Const, Dict, Expr, Keyword, Lit, Name, Val, Var
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.statements import Assign, Return, Statement, target, variables

NameOf = Callable[[ir.Value], Expr]


def bind(fragment: Code, parameters: Sequence[Expr | None], name: NameOf | None = None) -> Expr:
    """Code with names for its values, and some of its literals, in order, as parameters.

    A keyword that has its default, and is no parameter, is left out.
    """
    shown = iter(parameters)

    def bound(node: Expr) -> Expr:
        if isinstance(node, Lit):
            return next(shown) or node
        if isinstance(node, Val):
            return node if name is None else name(node.value)
        children = node.children()
        new = tuple(bound(child) for child in children)
        if isinstance(node, Call):
            return Call(new[0], tuple(part for part in new[1:] if not _is_default(part)))
        return node if all(a is b for a, b in zip(new, children, strict=True)) else node.with_children(new)

    return bound(fragment)


def _is_default(node: Expr) -> bool:
    literal = node.value.literal if isinstance(node, Keyword) and isinstance(node.value, Lit) else None
    return literal is not None and literal.keyword is not None and literal.value == literal.default


def plain(fragment: Code, name: NameOf | None = None) -> Expr:
    """Code with its literals as they are."""
    return bind(fragment, [None] * len(list(fragment.literals())), name)


def print_code(fragment: Code, name: Callable[[ir.Value], str]) -> str:
    """Code on one line, with a variable's name for each value."""
    return text_of(plain(fragment, lambda value: Var(name(value))))


def split_parameters(definition: Definition) -> tuple[dict[int, str], dict[int, str]]:
    """The parameters by the literals of the members that they replace, and of the lines; each counted from 0."""
    count = sum(len(list(member.new.literals())) for member in definition.written.members)
    in_members = {slot: name for slot, name in definition.slots.items() if slot < count}
    in_lines = {slot - count: name for slot, name in definition.slots.items() if slot >= count}
    return in_members, in_lines


def made_members(definition: Definition, identity: str | None) -> list[tuple[Member, Expr]]:
    """Each member with the expression that makes it."""
    parameters, _ = split_parameters(definition)
    steps = OptionalSteps(definition, identity)
    members = definition.written.members
    shown = _shown([member.new for member in members], parameters, Var)
    bound = [bind(member.new, literals) for member, literals in zip(members, shown, strict=True)]
    return [(member, steps.member(index, bound[index])) for index, member in enumerate(members)]


def _shown(
    codes: Sequence[Code], parameters: Mapping[int, str], parameter: Callable[[str], Expr]
) -> Iterator[list[Expr | None]]:
    """For the literals of each code, counted over all of them: the parameter that stands for it, None for itself."""
    slot = 0
    for each in codes:
        count = len(list(each.literals()))
        yield [parameter(parameters[i]) if i in parameters else None for i in range(slot, slot + count)]
        slot += count


def assignments(
    definition: Definition,
    names: Mapping[ir.Value, str],
    name: NameOf,
    parameters: Mapping[int, str],
    *,
    in_class: bool = False,
    identity: str | None = None,
) -> list[Statement]:
    """The lines of a body.

    Args:
        definition: What is printed.
        names: The variables.
        name: How code reads a value: a variable, or a weight at its place.
        parameters: Place of a literal among those of the lines -> the parameter that stands for it.
        in_class: Whether the body is a method, which reaches parameters and flags by ``self``.
        identity: As in ``Dialect``.
    """

    def parameter(word: str) -> Expr:
        return Attr(Name("self"), word) if in_class else Var(word)

    steps = OptionalSteps(definition, identity)
    lines = definition.written.lines
    found: list[Statement] = []
    shown = _shown([line.code for line in lines], parameters, parameter)
    for index, (line, literals) in enumerate(zip(lines, shown, strict=True)):
        value = steps.line(index, bind(line.code, literals, name), name, parameter)
        words = [names[v] for v in line.targets]
        found.append(Assign(target(line.pattern, words) if line.pattern else variables(words), value))
    return found


def plain_assignments(written: Written, names: Mapping[ir.Value, str]) -> list[Statement]:
    """The lines of a body that has neither parameters nor optional steps."""
    return assignments(Definition("", written), names, lambda v: Var(names[v]), {})


def returned(values: Sequence[ir.Value | Code], name: NameOf, keys: Sequence[str] | None = None) -> Expr:
    """What a body returns, as a dict if there are keys; ``None`` where that is nothing."""
    found = tuple(plain(v, name) if isinstance(v, Expr) else name(v) for v in values)
    if not found:
        return Const(None)
    if keys is not None:
        return Dict(tuple(map(Const, keys)), found)
    return found[0] if len(found) == 1 else Arguments(found)


def merge_return(statements: list[Statement]) -> list[Statement]:
    """``x = f(x)`` followed by ``return x`` is ``return f(x)``."""
    if len(statements) < 2:
        return statements
    *before, made, last = statements
    if not isinstance(made, Assign) or not isinstance(last, Return):
        return statements
    same = isinstance(made.target, Var) and isinstance(last.value, Var) and made.target.id == last.value.id
    return [*before, Return(made.value)] if same else statements
