"""What ``torch.export`` knows of the sizes of a program: their names, and the relations without which it is not right.

While torch traces a module it takes one way at each branch on a size, and notes the condition (a *guard*): ``s <= 64``,
``Mod(s, 32) == 0``. Here guards are collected, those that hold for all sizes left out, and said as text.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv, SymT, symbol_is_type

from dlbridge.constraints import Expression, smallest
from dlbridge.frameworks.inputs import arithmetic
from dlbridge.frameworks.pytorch.compat import TruncToInt, ValueRanges, bound_sympy, int_oo
from dlbridge.frameworks.pytorch.fx.schema import source_line
from dlbridge.frameworks.pytorch.fx.size_text import words
from dlbridge.frameworks.pytorch.fx.tensors import size_of
from dlbridge.ops.names import python_name, unique

#: Functions of torch that ask how a tensor lies in memory: what they find changes no number.
_OF_MEMORY = ("check_contiguous", "is_contiguous", "is_channels_last", "should_swap", "compute_", "is_non_overlapping")
#: Where torch finds how a reshape can be made of views: that sizes differ changes no number either.
_OF_RESHAPES = "_reshape_view_helper_core_alg"
#: Sizes up to this one are tried, all of them, to find how a relation on one name is said in the plainest way.
_TRIED = 1024
#: Larger sizes that are tried besides.
_LARGE = (2999, 4096, 5040, 6143, 16384, 30030, 65521, 131072, 131073, 1048576)


@dataclass(frozen=True)
class Guard:
    """A relation between sizes without which a program is not right.

    Attributes:
        relation: The relation.
        place: ``model.py:12``, where it comes from; empty where that is not known.
        is_of_memory: Whether torch asked how a tensor lies in memory: it says which program was traced, but nothing of
            what the model takes.
    """

    relation: sympy.Basic
    place: str = ""
    is_of_memory: bool = False


def environment(program: ExportedProgram) -> ShapeEnv | None:
    """What torch knows of the symbols of a program; None when all sizes are numbers, or it is not there any more."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and getattr(value, "fake_mode", None) is not None:
            return value.fake_mode.shape_env
    return None


def inputs_of(program: ExportedProgram) -> list[torch.fx.Node]:
    """The placeholders of the user's inputs, in order; those that are no tensors have no ``val`` that is one."""
    names = {s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"}
    return [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]


# --- names ----------------------------------------------------------------------------------------------------------


class Names:
    """The names of a program's symbols: the user's names, else ``batch`` for the first axis, else the input's name.

    One name is one size: symbols that the user gives one name, or arithmetic on names of others, are made one.

    Args:
        program: The program.
        named: Name of a placeholder -> the names of its axes, or arithmetic on names.
        stated: What the user says of the names.

    Attributes:
        text: Symbol -> its name, or the arithmetic on names that it is.
    """

    def __init__(
        self,
        program: ExportedProgram,
        named: Mapping[str, Mapping[int, str]],
        stated: Sequence[Expression] = (),
    ) -> None:
        self.text: dict[sympy.Symbol, str] = {}
        self._env = environment(program)
        self._known: dict[str, Any] = {}
        zeros = [name for c in stated for name in c.names if smallest(name, stated) == 0]
        self._local: dict[str, sympy.Symbol] = {
            name: sympy.Symbol(name, integer=True, nonnegative=True) for name in zeros
        }
        places = [
            (node, axis, named.get(node.name, {}).get(axis))
            for node in inputs_of(program)
            for axis in range(node.meta["val"].dim() if isinstance(node.meta.get("val"), torch.Tensor) else 0)
        ]
        given = [(node, axis, text) for node, axis, text in places if text is not None]
        for derived in (False, True):
            for node, axis, text in given:
                if text.isidentifier() != derived:
                    self._give(size_of(node.meta["val"].shape[axis]), text)
        taken = {name for text in self.text.values() for name in Expression(text).names}
        for node, axis, _ in places:
            symbol = size_of(node.meta["val"].shape[axis])
            if isinstance(symbol, sympy.Symbol) and symbol not in self.text:
                plain = "batch" if axis == 0 else f"{python_name(node.name)}_{axis}"
                self.text[symbol] = unique(plain, taken)

    def _give(self, size: Any, text: str) -> None:
        """Bind a size to a name, or to an expression of names that are known."""
        if isinstance(size, int):
            return
        own = self._known.get(text)
        if own is None and not text.isidentifier():
            with contextlib.suppress(KeyError):
                own = arithmetic(text, self._known)
        if own is None:
            self._known[text] = size
            if isinstance(size, sympy.Symbol):
                self.text.setdefault(size, str(arithmetic(text, _Symbols(self._local))))
        elif size != own and isinstance(size, sympy.Symbol) and size not in self.text and self._env is not None:
            with contextlib.suppress(AssertionError):  # where torch holds their ranges to exclude each other
                self._env._set_replacement(size, own, "one name is one size")
            if self._env.replace(size) == size:
                self.text[size] = str(arithmetic(text, _Symbols(self._local)))

    def in_names(self, expression: sympy.Basic) -> sympy.Basic:
        """An expression in symbols that are called as the sizes are."""
        found = self._env.replace(expression) if self._env is not None else expression
        swap: dict[sympy.Basic, Any] = {}
        for symbol in found.free_symbols:
            if symbol in self.text:
                swap[symbol] = arithmetic(self.text[symbol], _Symbols(self._local))
        return found.xreplace(swap) if swap else found


class _Symbols(dict):
    """Name -> its symbol, made when first asked for."""

    def __init__(self, known: dict[str, sympy.Symbol]) -> None:
        self._known = known

    def __getitem__(self, name: str) -> sympy.Symbol:
        return self._known.setdefault(name, sympy.Symbol(name, integer=True, positive=True))


# --- guards ---------------------------------------------------------------------------------------------------------


def found(
    env: ShapeEnv | None,
    names: Names,
    stated: Sequence[Expression] = (),
    line: Callable[[int], str] = lambda index: "",
    since: int = 0,
) -> list[Guard]:
    """The guards of an environment, in names, that do not follow from what the user has stated.

    Args:
        env: The environment.
        names: The names of its symbols.
        stated: Bounds of names.
        line: Number of a guard -> the user's line of the call that made it.
        since: The first guard that is asked for.
    """
    if env is None:
        return []
    made: dict[sympy.Basic, Guard] = {}
    for index, guard in enumerate(list(env.guards)[since:], since):
        is_of_memory = of_memory(guard)
        if is_of_memory and not says_number(guard.expr):
            continue
        place = line(index) or _place(guard.sloc)
        relation = _cancelled(names.in_names(guard.expr))
        if _of_data(relation) or follows(relation, stated):
            continue
        made.setdefault(relation, Guard(relation, place, is_of_memory))
    return list(made.values())


def _cancelled(relation: sympy.Basic) -> sympy.Basic:
    """A relation without the positive factors that both of its sides have: ``1 < b`` of ``a < a*b``."""
    if not isinstance(relation, sympy.core.relational.Relational):
        return relation
    left, right = relation.lhs, relation.rhs
    for factor in set(sympy.Mul.make_args(left)) & set(sympy.Mul.make_args(right)):
        if factor.is_positive and not factor.is_number:
            left, right = left / factor, right / factor
    return relation.func(left, right)


def of_memory(guard: Any) -> bool:
    """Whether a guard of torch's is about how a tensor lies in memory."""
    function = getattr(guard.sloc.framework_loc, "name", "")
    if function == _OF_RESHAPES:
        return isinstance(guard.expr, sympy.Ne)
    return function.startswith(_OF_MEMORY)


def says_number(relation: sympy.Basic) -> bool:
    """Whether a relation says which number a size is; torch puts that in its place from there on."""
    return isinstance(relation, sympy.Eq) and any(side.is_number for side in relation.args)


def pinned(program: ExportedProgram, size: int, line: Callable[[int], str]) -> str:
    """Where a symbol became that number."""
    for index, guard in enumerate(_guards(program)):
        relation = guard.expr
        if isinstance(relation, sympy.Eq) and size in relation.args and any(a.is_Symbol for a in relation.args):
            return line(index) or _place(guard.sloc)
    return ""


def is_pinned_by_one(program: ExportedProgram, size: int) -> bool:
    """Whether a symbol became that number because something computed from it is 1: ``x[:, 8:]`` of 9."""
    relations = (guard.expr for guard in _guards(program))
    computed = (a for r in relations if isinstance(r, sympy.Eq) and 1 in r.args for a in r.args if not a.is_Symbol)
    return any(len(a.free_symbols) == 1 and a.subs(next(iter(a.free_symbols)), size) == 1 for a in computed)


def cuts_quotients(program: ExportedProgram) -> bool:
    """Whether code asks for the integer of a quotient of sizes, ``int(n / 4)``: torch has the example's alone."""
    return any(guard.expr.has(TruncToInt) for guard in _guards(program))


def _guards(program: ExportedProgram) -> Sequence[Any]:
    """The guards as torch has them."""
    env = environment(program)
    return env.guards if env is not None else ()


def _place(sloc: Any) -> str:
    if sloc.maybe_user_loc:
        return source_line(str(sloc.maybe_user_loc)) or str(sloc.maybe_user_loc)
    frame = sloc.framework_loc
    return f"{frame.filename}:{frame.lineno}" if hasattr(frame, "filename") else ""


def _of_data(relation: sympy.Basic) -> bool:
    """Whether a relation is about sizes that depend on the data, which torch checks as it goes."""
    return any(symbol_is_type(s, (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT)) for s in relation.free_symbols)


def ranges(names: Sequence[sympy.Symbol], stated: Sequence[Expression]) -> dict[sympy.Symbol, ValueRanges]:
    """The sizes that names may have, as far as stated bounds tell; 1 at least, if they do not say 0."""
    made = {}
    for name in names:
        own = [c for c in stated if c.names == {str(name)}]
        least = smallest(str(name), own)
        inside = [n for n in range(least, _TRIED) if all(c({str(name): n}) for c in own)] if own else []
        low = min(inside, default=least)
        high = max(inside, default=0)
        made[name] = ValueRanges(low, high if own and high and high < _TRIED - 1 else int_oo)
    return made


def follows(relation: sympy.Basic, stated: Sequence[Expression]) -> bool:
    """Whether a relation holds for all sizes within the stated bounds."""
    if relation is sympy.true or relation is True:
        return True
    if not relation.free_symbols:
        return bool(relation)
    known = ranges([s for s in relation.free_symbols if isinstance(s, sympy.Symbol)], stated)
    try:
        bounds = bound_sympy(relation, known)
    except Exception:  # torch has no bounds for every function; then nothing is known
        return False
    return bounds.lower == sympy.true


def of_ranges(program: ExportedProgram, names: Names) -> list[Guard]:
    """The ranges that a program states of its symbols, as guards; torch takes sizes of 0 and 1 for right below 2."""
    made = []
    for symbol, bounds in program.range_constraints.items():
        size = names.in_names(symbol)
        if _of_data(size) or not size.free_symbols:
            continue
        if bounds.lower > 2:
            made.append(Guard(sympy.Ge(size, bounds.lower)))
        if bounds.upper != int_oo and bounds.upper < 2**31 - 1:
            made.append(Guard(sympy.Le(size, bounds.upper)))
    return made


# --- as text ----------------------------------------------------------------------------------------------------------


def constraints_of(guards: Sequence[Guard]) -> tuple[list[str], list[Guard]]:
    """(guards as text in the simplest form, guards that cannot be written as text)."""
    said: dict[str, Expression] = {}
    wordless: dict[frozenset[sympy.Basic], list[Guard]] = {}
    for guard in guards:
        try:
            text = words(guard.relation)
            said[text] = Expression(text)
        except ValueError:
            wordless.setdefault(frozenset(guard.relation.free_symbols), []).append(guard)
    unsaid: list[Guard] = []
    for symbols, group in sorted(wordless.items(), key=lambda item: len(item[0])):
        texts = _tabulated(symbols, group, list(said.values()))
        said.update({text: Expression(text) for text in texts or ()})
        if texts is None:
            unsaid += [g for g in group if not follows(g.relation, list(said.values()))]
    return _plainest(list(said.values())), unsaid


def _plainest(given: list[Expression]) -> list[str]:
    """Combine the constraints on one name into bounds and a divisor, if that is equivalent."""
    texts: list[str] = []
    for name in sorted({next(iter(c.names)) for c in given if len(c.names) == 1}):
        own = [c for c in given if c.names == {name}]
        numbers = {int(n) for c in own for n in re.findall(r"\d{4,9}", c.text)}
        bounds = _as_bounds(name, _all_of(name, own), numbers)
        texts += [c.text for c in own if not _always(c)] if bounds is None else bounds
    known = [Expression(text) for text in texts]
    return texts + [c.text for c in given if len(c.names) != 1 and not _always(c, known)]


def _always(constraint: Expression, known: Sequence[Expression] = ()) -> bool:
    """Whether no sizes that satisfy what is known break a constraint; PyTorch cannot prove every such implication."""
    names = sorted(constraint.names)
    generator = random.Random(0)
    sizes = []
    for name in names:
        own = [c for c in known if c.names == {name}]
        inside = [n for n in range(1, _TRIED) if all(c({name: n}) for c in own)]
        sizes.append(inside + [n for n in _LARGE if all(c({name: n}) for c in own)])
    small = itertools.product(*(s[:12] for s in sizes)) if len(names) <= 3 else ()
    large = ([generator.choice(s) for s in sizes] for _ in range(1000 if all(sizes) else 0))
    tried = 0
    for combination in itertools.chain(small, large):
        tried += 1
        if not constraint(dict(zip(names, combination, strict=True))):
            return False
    return tried > 0


def _all_of(name: str, constraints: Sequence[Expression]) -> Callable[[int], bool]:
    return lambda size: all(c({name: size}) for c in constraints)


def _tabulated(
    symbols: frozenset[sympy.Basic], guards: Sequence[Guard], said: Sequence[Expression]
) -> list[str] | None:
    """Relations on one name that have no notation (``trunc(0.4*n) >= 2``) as bounds of it, found by trial."""
    if len(symbols) != 1:
        return None
    (symbol,) = symbols
    holds = _all_of(str(symbol), [c for c in said if c.names == {str(symbol)}])

    def keeps(size: int) -> bool:
        number = sympy.Integer(size)
        return holds(size) and all(bool(g.relation.xreplace({symbol: number})) for g in guards)

    return _as_bounds(str(symbol), keeps)


def _as_bounds(name: str, keeps: Callable[[int], bool], numbers: Collection[int] = ()) -> list[str] | None:
    """The constraint on a size as bounds and a remainder; None if it has another form.

    Args:
        name: The name of the size.
        keeps: Whether a size is right.
        numbers: Where bounds may be, beyond the sizes that are tried in any case.
    """
    tried = sorted({*range(1, _TRIED + 1), *_LARGE, *(n + d for n in numbers for d in (-1, 0, 1))})
    inside = [n for n in tried if keeps(n)]
    steps = {b - a for a, b in itertools.pairwise(n for n in inside if n <= _TRIED)}
    if len(steps) != 1:
        return None
    (step,), low = steps, inside[0]
    outside = next((n for n in tried if n > low and n % step == low % step and not keeps(n)), None)
    texts = [f"{name} >= {low}"] if low > step or (step == 1 and low > 1) else []
    if outside is not None:
        high = max(n for n in inside if n < outside)
        while high + step < outside:  # the exact bound is between two sizes that were tried
            middle = high + step * max(1, (outside - high) // step // 2)
            high, outside = (middle, outside) if keeps(middle) else (high, middle)
        texts.append(f"{name} <= {high}")
    texts += [f"{name} % {step} == {low % step}"] if step > 1 else []
    bounds = [Expression(text) for text in texts]
    same = all(keeps(n) == all(b({name: n}) for b in bounds) for n in tried)
    return texts if same else None
