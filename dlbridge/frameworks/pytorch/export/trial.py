"""Tries a module at sizes that break a guard of its export: does its code refuse them, or take another way?

A guard alone does not tell. ``if n % 4: raise`` and ``positions[:, :n]`` say which sizes the model takes; ``if n > 16``
chooses between two models, of which the export has one; and behind ``if pad > 0: x = F.pad(x, pad)`` both ways compute
the same. So the module itself is run at such sizes, and the graph beside it.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram

from dlbridge.constraints import Expression, broken, smallest
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.export import state
from dlbridge.frameworks.pytorch.export.examples import Example
from dlbridge.frameworks.pytorch.fx import guards
from dlbridge.frameworks.pytorch.fx.guards import Guard, Names
from dlbridge.frameworks.pytorch.fx.tensors import sizes_of

#: Inputs with more elements in total than this are not tried.
_LARGEST = 1 << 23
#: Products of strides that are usual for images and for sound.
_STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 10, 20, 40, 80, 160, 320, 640, 1280)
#: At how many sizes a module is run.
_TRIALS = 32
#: Largest allowed difference of results, relative to the largest number in them.
_TOLERANCE = 1e-4

Sizes = dict[sympy.Symbol, int]


class Outcome(enum.Enum):
    """What happened at sizes that break a guard."""

    SAME = "both compute the same"
    REFUSED = "the module does not take these sizes"
    FAILED = "the module takes these sizes, the graph does not"
    OTHER = "the module computes something else"
    UNKNOWN = "it could not be tried"


class Trial:
    """A module and the program that it was exported to, side by side.

    Args:
        module: The module, in eval mode.
        program: Its export.
        example: The inputs that it was exported with.
        names: The names of the program's sizes.
    """

    def __init__(self, module: torch.nn.Module, program: ExportedProgram, example: Example, names: Names) -> None:
        self._module, self._program, self._example = module, program, example
        self._stated, self._written = example.stated, state.written_buffers(program)
        self._inputs: list[tuple[Any, list[Any] | None]] = []
        self.now: Sizes = {}
        for node, leaf in zip(guards.inputs_of(program), example.leaves, strict=False):
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                self._inputs.append((leaf, None))
                continue
            shape = [names.in_names(sympy.sympify(s)) for s in sizes_of(value)]
            self._inputs.append((leaf, shape))
            for size, length in zip(shape, leaf.shape, strict=True):
                if isinstance(size, sympy.Symbol):
                    self.now[size] = int(length)
        for _, sizes in self._inputs:  # a name of which only multiples are sizes
            for size in sizes or ():
                for symbol in size.free_symbols - self.now.keys():
                    self.now[symbol] = self._solved(size, symbol)
        self._usable: bool | None = None

    def _solved(self, size: sympy.Expr, symbol: sympy.Symbol) -> int:
        for (leaf, shape), number in itertools.product(self._inputs, range(1, 4096)):
            for axis, other in enumerate(shape or ()):
                if other == size and other.xreplace({**self.now, symbol: sympy.Integer(number)}) == leaf.shape[axis]:
                    return number
        return 1

    # --- which sizes -----------------------------------------------------------------------------------------------

    def breaking(self, guard: Guard, others: Sequence[Guard]) -> list[Sizes]:
        """Some sizes that break a guard and, where there are such, no other: smaller ones and larger ones."""
        found: list[tuple[int, int, Sizes]] = []
        for candidates in (self._candidates(guard), self._far_candidates(guard)):
            for sizes in candidates:
                if _holds(guard, sizes) is False:
                    count = sum(_holds(other, sizes) is False for other in others if other is not guard)
                    found.append((count, len(found), sizes))
            if any(count == 0 for count, _, _ in found):
                break
        chosen: dict[bool, Sizes] = {}
        for _, _, sizes in sorted(found, key=lambda f: f[:2]):
            chosen.setdefault(sum(sizes.values()) > sum(self.now.values()), sizes)
        return list(chosen.values())

    def _candidates(self, guard: Guard) -> Iterator[Sizes]:
        symbols = sorted((s for s in guard.relation.free_symbols if s in self.now), key=str)
        numbers = [int(n) for n in guard.relation.atoms(sympy.Integer)]
        near = {s: self._near(s, numbers) for s in symbols}
        for symbol in symbols:
            for size in near[symbol]:
                yield {**self.now, symbol: size}
        for first, second in itertools.combinations(symbols, 2):
            for a, b in itertools.product(near[first][:12], near[second][:12]):
                yield {**self.now, first: a, second: b}

    def _far_candidates(self, guard: Guard) -> Iterator[Sizes]:
        """Sizes that differ by steps of strides and pools in a row, for guards on what such a row leaves of a size."""
        for symbol in sorted((s for s in guard.relation.free_symbols if s in self.now), key=str):
            for step in _STEPS:
                for size in (self.now[symbol] + step, self.now[symbol] - step):
                    if size >= 1 and broken(self._stated, {str(symbol): size}) is None:
                        yield {**self.now, symbol: size}

    def _near(self, symbol: sympy.Symbol, numbers: Sequence[int]) -> list[int]:
        now = self.now[symbol]
        wanted = [now + d for d in (1, -1, 2, -2, 3, -3, 5)] + [n + d for n in numbers for d in (0, 1, -1)]
        wanted += [1, 2, 3, now // 2, 2 * now, 2 * now + 1, 3 * now]
        return [
            n for n in dict.fromkeys(wanted) if n >= 1 and n != now and broken(self._stated, {str(symbol): n}) is None
        ]

    def ones(self, kept: Sequence[Guard]) -> Iterator[tuple[list[str], Sizes]]:
        """Names and sizes of 1 for them: for all, then for each alone; such as keep the guards."""
        free = [s for s, n in self.now.items() if n != 1 and broken(self._stated, {str(s): 1}) is None]
        for some in ([free] if len(free) > 1 else []) + [[s] for s in free]:
            sizes = {**self.now, **dict.fromkeys(some, 1)}
            if not any(_holds(g, sizes) is False for g in kept):
                yield [str(s) for s in some], sizes

    def zeros(self) -> Iterator[tuple[str, Sizes]]:
        """Each name that the user lets be 0, and sizes at which it is; the others as they are, then 1."""
        for symbol in self.now:
            if smallest(str(symbol), self._stated) == 0:
                yield str(symbol), {**self.now, symbol: 0}
                ones = {s: 1 if broken(self._stated, {str(s): 1}) is None else n for s, n in self.now.items()}
                yield str(symbol), {**ones, symbol: 0}

    # --- side by side ------------------------------------------------------------------------------------------------

    def at(self, sizes: Sizes) -> Outcome:
        """Run both at sizes."""
        inputs = self._made(sizes)
        if inputs is None or self._usable is False:
            return Outcome.UNKNOWN
        outcome = self._compare(inputs)
        if outcome is Outcome.REFUSED and self._usable is None:
            now = self._made(self.now)  # a module that runs nowhere refuses nothing
            self._usable = now is not None and self._compare(now) is Outcome.SAME
            return outcome if self._usable else Outcome.UNKNOWN
        return outcome

    def carried_over(self) -> list[str]:
        """The attributes that the module writes to, where a second call gives another result than the first."""
        inputs = self._made(self.now)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), state.kept(self._module, self._written) as changed:
            try:
                first, second = self._called(inputs or []), self._called(inputs or [])
            except Exception:  # whatever the module's code raises: it cannot be tried
                return []
        same = len(first) == len(second) and all(_close(a, b) for a, b in zip(second, first, strict=True))
        return [] if same else list(dict.fromkeys(changed))

    def _called(self, inputs: list[Any]) -> list[Any]:
        """The results of the module."""
        torch.manual_seed(0)
        args, kwargs = pytree.tree_unflatten([_copy(v) for v in inputs], self._program.call_spec.in_spec)
        return [_copy(v) for v in _tensors(self._module(*args, **kwargs))]

    def _made(self, sizes: Sizes) -> list[Any] | None:
        """The example, repeated or cut to these sizes along each axis; None if that is too large."""
        made: list[Any] = []
        numbers = {s: sympy.Integer(n) for s, n in sizes.items()}
        total = 0
        for leaf, shape in self._inputs:
            if shape is None:
                made.append(leaf)
                continue
            lengths = [s.xreplace(numbers) for s in shape]
            if not all(n.is_Integer and n >= 0 for n in lengths):
                return None
            total += int(sympy.prod(lengths))
            if total > max(_LARGEST, 4 * leaf.numel()):
                return None
            for axis, length in enumerate(lengths):
                if int(length) != leaf.shape[axis]:
                    leaf = leaf.index_select(axis, torch.arange(int(length)) % leaf.shape[axis])
            made.append(leaf)
        return made

    def _compare(self, inputs: list[Any]) -> Outcome:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                with state.kept(self._module, self._written):
                    wanted = self._called(inputs)
            except Exception:  # whatever the module's code raises: it does not take these sizes
                return Outcome.REFUSED
            torch.manual_seed(0)
            try:
                made = self._graph([_copy(v) for v in inputs])
            except Exception:  # the graph has the sizes of the example baked in, and notices
                return Outcome.FAILED
        if any(_is_all_nan(value) for value in wanted):
            return Outcome.UNKNOWN
        same = len(made) == len(wanted) and all(_close(a, b) for a, b in zip(made, wanted, strict=True))
        return Outcome.SAME if same else Outcome.OTHER

    def _graph(self, inputs: list[Any]) -> list[torch.Tensor]:
        """The user's outputs of the program's graph."""
        program, given = self._program, iter(inputs)
        arguments = []
        for spec in program.graph_signature.input_specs:
            if spec.kind.name == "USER_INPUT":
                arguments.append(next(given))
                continue
            tensor = program.state_dict.get(spec.target)
            if tensor is None:
                tensor = program.constants.get(spec.target)
            arguments.append(_copy(tensor) if spec.kind.name != "PARAMETER" else tensor)
        results = torch.fx.Interpreter(program.graph_module).run(*arguments)
        specs = program.graph_signature.output_specs
        return _tensors([r for r, s in zip(results, specs, strict=True) if s.kind.name == "USER_OUTPUT"])


def _holds(guard: Guard, sizes: Mapping[sympy.Symbol, int]) -> bool | None:
    """Whether a guard holds at sizes; None where it cannot be computed."""
    try:
        value = guard.relation.xreplace({s: sympy.Integer(n) for s, n in sizes.items()})
    except (ZeroDivisionError, AssertionError, TypeError):
        return None
    return {sympy.true: True, sympy.false: False}.get(value)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _tensors(result: Any) -> list[Any]:
    return [leaf for leaf in pytree.tree_leaves(result) if leaf is not None]


def _close(made: Any, wanted: Any) -> bool:
    if not isinstance(wanted, torch.Tensor) or not isinstance(made, torch.Tensor):
        return bool(made == wanted)
    if made.shape != wanted.shape or made.dtype != wanted.dtype:
        return False
    if not wanted.numel():
        return True
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(made, wanted)
    scale = float(torch.nan_to_num(wanted.abs().double(), posinf=0.0).max())
    said = ~wanted.isnan()  # of a row that is masked as a whole, PyTorch's ways of attention make NaN or 0
    return torch.allclose(made[said], wanted[said], rtol=_TOLERANCE, atol=_TOLERANCE * scale)


def _is_all_nan(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() > 0 and bool(value.isnan().all())


# --- what comes of it -------------------------------------------------------------------------------------------------


def settle(trial: Trial, found: Sequence[Guard]) -> tuple[list[Guard], Guard | None]:
    """The guards that say which sizes the model takes; and one that chooses between two models, if there is any.

    Args:
        trial: The module and its export.
        found: The guards that do not hold anyway.
    """
    kept: list[Guard] = []
    pending = list(found)
    tried: dict[tuple[int, ...], Outcome] = {}
    for guard in found:
        outcomes = set()
        for sizes in trial.breaking(guard, pending):
            key = tuple(sizes.values())
            if key not in tried:
                tried[key] = trial.at(sizes) if len(tried) < _TRIALS else Outcome.UNKNOWN
            outcomes.add(tried[key])
        if Outcome.OTHER in outcomes or (Outcome.FAILED in outcomes and _fixes(guard)):
            return kept, guard
        says_nothing = guard.is_of_memory and outcomes and outcomes <= {Outcome.SAME, Outcome.REFUSED}
        if outcomes == {Outcome.SAME} or says_nothing:
            pending.remove(guard)
        else:
            kept.append(guard)
    return kept, None


def _fixes(guard: Guard) -> bool:
    """Whether a guard fixes a size, or an expression of sizes, to one number."""
    parts = sympy.preorder_traversal(guard.relation)
    return guards.says_number(guard.relation) and not any("Mod" in type(part).__name__ for part in parts)


def at_one(trial: Trial, kept: Sequence[Guard]) -> list[str]:
    """The names of sizes for which the module's code behaves differently at 1, which PyTorch's guards do not record."""
    for names, sizes in trial.ones(kept):
        outcome = trial.at(sizes)
        if outcome is Outcome.SAME and len(names) > 1:
            return []
        if outcome is Outcome.OTHER and len(names) == 1:
            return names
    return []


def at_zero(trial: Trial) -> str | None:
    """The name of a size that the user lets be 0, for which the graph does not compute what the module does."""
    for name, sizes in trial.zeros():
        if trial.at(sizes) not in (Outcome.SAME, Outcome.UNKNOWN):
            return name
    return None


def unstated(texts: Sequence[str], stated: Sequence[Expression]) -> list[str]:
    """Merge constraints with those that the user stated, without duplicates."""
    return list(dict.fromkeys([*(c.text for c in stated), *texts]))
