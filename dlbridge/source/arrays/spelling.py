"""What a framework calls the functions of arrays: in code that rules write, and in helpers that are written once."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The name by which helpers read functions of arrays.
NEUTRAL = "ops"
#: A place in a form: ``{x}``, or ``{*axes}`` for the elements of a list.
_SLOT = re.compile(r"\{(\*?)(\w+)\}")
#: What a method can be called on without brackets.
_PRIMARY = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Tuple, ast.List)


@dataclass(frozen=True)
class Spelling:
    """What functions of arrays are called.

    Example:
        >>> Spelling("torch.", {}, {"transpose(x, axes)": "{x}.permute({*axes})"}).respell("ops.transpose(a, (1, 0))")
        'a.permute(1, 0)'

    Attributes:
        prefix: What stands before the name of a function: ``"jnp."``.
        names: Function, as ``keras.ops`` calls it -> what it is called here, where that is not the prefix and its name.
        forms: A call, as helpers that are written once have it -> how it is written here, where more than the name
            differs. ``x.dtype`` in a call is the dtype of an array, of which the form may use the array.
        dtypes: What stands before the name of a dtype, where it is no string.
        only_named: Whether helpers may call only functions that have a name or form here: others of the same name mean
            something else.
    """

    prefix: str
    names: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    dtypes: str | None = None
    only_named: bool = False

    def name(self, function: str) -> str:
        """What a function is called that ``keras.ops`` calls so."""
        return self.names.get(function, self.prefix + function)

    def respell(self, source: str) -> str:
        """The source of a helper with ``ops.function`` as it is called here."""
        return _Respelled(self, source).text(ast.parse(source))


class _Respelled:
    """The source of a helper, while its calls are written as a framework has them; what is around them stays."""

    def __init__(self, spelling: Spelling, source: str) -> None:
        self.spelling = spelling
        self.forms = _parsed(tuple(spelling.forms.items()))
        self.source = source.encode()  # places in a syntax tree count bytes
        lines = self.source.split(b"\n")
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def text(self, node: ast.AST) -> str:
        """The source of a node, with what is in it respelled."""
        start, end = self._span(node)
        pieces, at = [], start
        for (first, last), new in sorted(self._replaced(node)):
            pieces += [self.source[at:first].decode(), new]
            at = last
        return "".join([*pieces, self.source[at:end].decode()])

    def _span(self, node: ast.AST) -> tuple[int, int]:
        if not isinstance(node, (ast.expr, ast.keyword)):
            return 0, len(self.source)
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def _replaced(self, node: ast.AST) -> list[tuple[tuple[int, int], str]]:
        """(place, new text) of the outermost parts of a node that are written otherwise here; itself, if it is."""
        form = self._form(node)
        if form is not None:
            return [(self._span(node), form)]
        if isinstance(node, ast.Attribute) and _is_neutral(node):
            if self.spelling.only_named and node.attr not in self.spelling.names:
                raise LookupError(f"it is not said how a helper's call of {node.attr} is written here")
            return [(self._span(node), self.spelling.name(node.attr))]
        return [found for child in ast.iter_child_nodes(node) for found in self._replaced(child)]

    def _form(self, node: ast.AST) -> str | None:
        """A call as the first form has it that takes its arguments; None if there is none."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not _is_neutral(node.func):
            return None
        for pattern, form in self.forms.get(node.func.attr, ()):
            bound = pattern.bind(node)
            if bound is not None:
                return _SLOT.sub(functools.partial(self._slot, bound=bound, form=form), form)
        return None

    def _slot(self, slot: re.Match[str], bound: Mapping[str, ast.expr], form: str) -> str:
        node = bound[slot[2]]
        is_string = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if slot[2] == "dtype" and self.spelling.dtypes is not None and is_string:
            return f"{self.spelling.dtypes}{node.value}"  # type: ignore[attr-defined]
        if slot[1] and isinstance(node, (ast.Tuple, ast.List)):
            return ", ".join(self.text(item) for item in node.elts) or "()"
        if slot[1]:
            return f"*{self.text(node)}"
        method = form[slot.end() :].startswith(".") and not isinstance(node, _PRIMARY)
        return f"({self.text(node)})" if method else self.text(node)


@dataclass(frozen=True)
class _Pattern:
    """A call that a form stands for."""

    args: tuple[ast.expr, ...]
    keywords: Mapping[str, ast.expr]

    def bind(self, call: ast.Call) -> dict[str, ast.expr] | None:
        """The arguments by name; None if the call has others."""
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if len(call.args) != len(self.args) or given.keys() != self.keywords.keys():
            return None
        pairs = [*zip(self.args, call.args, strict=True), *((self.keywords[name], given[name]) for name in given)]  # type: ignore[index]
        bound: dict[str, ast.expr] = {}
        for wanted, node in pairs:
            if isinstance(wanted, ast.Name):
                bound[wanted.id] = node
            elif isinstance(wanted, ast.Constant) and ast.dump(wanted) == ast.dump(node):
                continue
            elif isinstance(wanted, ast.Attribute) and isinstance(node, ast.Attribute) and node.attr == wanted.attr:
                bound[ast.unparse(wanted.value)] = node.value
            else:
                return None
        return bound


@functools.cache
def _parsed(forms: tuple[tuple[str, str], ...]) -> dict[str, list[tuple[_Pattern, str]]]:
    found: dict[str, list[tuple[_Pattern, str]]] = {}
    for text, form in forms:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
        found.setdefault(call.func.id, []).append((_Pattern(tuple(call.args), keywords), form))
    return found


def _is_neutral(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == NEUTRAL
