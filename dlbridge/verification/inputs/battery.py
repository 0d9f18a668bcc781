"""The battery: the sets of inputs that a model is verified with, made from its graph.

A conversion takes the quick battery, three sets: plain random numbers of one row, of two rows at other sizes, and nine
rows, each filled by another strategy. ``dlbridge verify`` takes the full one: each strategy alone, and each free size
at 1, 2, an odd number, a larger one, and beyond the constants of the graph.

The plain sets are required. The others are probes: one that the original does not take, or for which it gives no finite
numbers, is left out, and the report says so.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dlbridge import constraints
from dlbridge.errors import DlbridgeError, ShapeError, first_line
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import is_op
from dlbridge.verification.inputs import literals, suspicions
from dlbridge.verification.inputs.arrays import batch_dim, filled_inputs
from dlbridge.verification.inputs.plans import Case, Plan
from dlbridge.verification.inputs.roles import Role, roles
from dlbridge.verification.inputs.shares import rows_without_numbers, unsettled_rows
from dlbridge.verification.inputs.sizes import (
    DEFAULT_SIZE,
    LONGEST,
    elements,
    fitting_sizes,
    has_large_weights,
    longest_constant,
    shape_at,
)
from dlbridge.verification.inputs.strategies import (
    EACH_NUMBER,
    EACH_ROW,
    LARGER,
    MIXED,
    NOT_FINITE,
    ON,
    PADDED,
    PLAIN,
    STRATEGIES,
    THOROUGH_ONLY,
    WHOLE_RANGE,
    Strategy,
)
from dlbridge.verification.judge import Judge
from dlbridge.verification.measure import Arrays, is_float

#: Rows of the three sets of the quick battery.
BATCHES = (1, 2, 9)
#: Free sizes of the second set of the quick battery, and of the full one.
_ODD, _FREE_SIZES = 5, (1, 2, 5, 11)
#: The original may accept only sizes that are multiples of one of these. Its code asserts that and no constraint states
#: it: a network that halves its images five times, say.
_UNITS = (2, 4, 8, 16, 32, 64)
#: Rows of a set of the full battery.
_ROWS = 2
#: Elements of all values that are computed for a set of the quick battery.
_MOST_ELEMENTS = 1 << 30
#: The full battery has two more sets with this many rows, and another with this free size: longer than the blocks that
#: most code works in, and with so many numbers that some are near 0 at every node. Of several numbers, it takes the
#: first with which all values of the graph together have at most ``_FEW_ELEMENTS`` elements. Each row of a table is
#: read once where so many rows are few.
_MANY_ROWS, _MANY_SIZES, _FEW_ELEMENTS = (257, 33), (129, 65, 33), 1 << 24
#: The full battery has these sizes of the batch, and of the other free sizes, where that is next to no work, and those
#: that stand in the forms under test while all such sets together have few elements.
_EACH_SIZE, _NEXT_TO_NOTHING = (3, 4, 5, 6, 7, 8, 9, 10, 12, 16), 1 << 18
#: Elements of all values of the set at the largest sizes that the model's constraints allow.
_AT_THE_LARGEST = 1 << 26
#: How often a set whose rows the original does not all take is made anew.
_ATTEMPTS = 3


@dataclass
class Battery:
    """The sets of inputs of a model.

    Args:
        model: The model.
        sizes: Sizes that the caller has chosen.
        batch_sizes: The rows of the plain sets and of the mixed one, ``BATCHES`` when None; the probes have the first.
        seed: The seed of the random numbers.
        full: Whether it is the full battery.
        numbers: Numbers that stand in the forms under test.
        unlike: For each input that is an index, the rows in which tables of the forms have other numbers.

    Attributes:
        left_out: What was not tried, and why.
    """

    model: Model
    sizes: Mapping[str, int]
    batch_sizes: Sequence[int] | None
    seed: int
    full: bool
    numbers: frozenset[float] = frozenset()
    unlike: suspicions.Rows = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    _unit: int = 1

    def cases(self, judge: Judge) -> list[Case]:
        """The sets of inputs that the judge takes; it has run on each of them.

        Raises:
            VerificationError: When it does not even take plain random numbers.
        """
        try:
            return self._taken(judge)
        except DlbridgeError as refused:
            if judge.own or not self._finds_unit(judge, refused):
                raise
        return self._taken(judge)

    def _taken(self, judge: Judge) -> list[Case]:
        found: list[Case] = []
        for plan in self._plans():
            case = self._tried(judge, plan) if plan.is_probe else self._required(judge, plan)
            if case is not None:
                found.append(case)
        return found

    # --- the sizes ----------------------------------------------------------------------------------------------------

    def _finds_unit(self, judge: Judge, refused: DlbridgeError) -> bool:
        """Whether the original takes sizes that are multiples of a unit, after it has refused the usual ones."""
        batch = batch_dim(self.model)
        free = self._free(batch)
        for unit in _UNITS if free else ():
            self._unit = unit
            odd = math.ceil(DEFAULT_SIZE / unit) | 1  # an even multiple would be one of a larger unit
            preferred = {**({batch: 1} if batch else {}), **dict.fromkeys(free, unit * odd)}
            plan = Plan(self.sizes, preferred, (PLAIN,), self.seed)
            try:
                judge.run(self._made(plan).arrays)
            except DlbridgeError:
                continue
            self._leave_out(f"sizes that are no multiples of {unit}", refused)
            return True
        return False

    def _free(self, batch: str | None) -> list[str]:
        """The names of the sizes that are neither the batch nor chosen by the caller."""
        return [name for name in fitting_sizes(self.model) if name != batch and name not in self.sizes]

    def _fitting(self, preferred: Mapping[str, int], fixed: Mapping[str, int]) -> dict[str, int]:
        """A size for each name, within the constraints, and a multiple of the unit."""
        if self._unit == 1:
            return fitting_sizes(self.model, preferred, fixed)
        free = self._free(batch_dim(self.model))
        rounded = {n: self._unit * math.ceil(preferred.get(n, DEFAULT_SIZE) / self._unit) for n in free}
        return fitting_sizes(self.model, {**preferred, **rounded}, fixed)

    # --- what is tried ------------------------------------------------------------------------------------------------

    def _plans(self) -> Iterator[Plan]:
        name = batch_dim(self.model)
        batches = list(self.batch_sizes or self._batches(name))
        free = self._free(name)
        strategies = self._strategies()
        for position, batch in enumerate(batches):
            preferred = {name: batch} if name else {}
            others = self._empty(free) if position == 0 else {}
            if position == 1:
                others = {n: self._other_size(i) for i, n in enumerate(free)}
            plan = Plan(self.sizes, {**preferred, **others}, (PLAIN,), self.seed + position, is_probe=False)
            if not self.full and strategies:
                is_last = position == len(batches) - 1 > 0
                plan = replace(plan, strategies=self._shared(strategies, self._rows(name, batch), position, is_last))
            yield plan
        if self.full:
            yield from self._probes(name, free, strategies, len(batches))

    def _empty(self, free: list[str]) -> dict[str, int]:
        """Size 0 for each free name that allows it, such as the length of the cache before a decoder's first token."""
        known = traits.constraints(self.model.graph)
        return {name: 0 for name in free if constraints.smallest(name, known) == 0}

    def _other_size(self, index: int) -> int:
        """The size of a free name in the second set: odd, and different from that of the name before it."""
        return _ODD + 2 * index if self._unit == 1 else self._unit * (2 + index % 2)

    def _batches(self, batch: str | None) -> list[int]:
        """The usual numbers of rows, or fewer if the intermediate values would not fit into memory: Keras keeps all."""
        if batch is None:
            return list(BATCHES)
        one, two = (elements(self.model, {**self._fitting({}, self.sizes), batch: n}) for n in (1, 2))
        most = _MOST_ELEMENTS // max(two - one, 1)
        return [min(rows, max(most, 2)) for rows in BATCHES]

    def _probes(self, batch: str | None, free: list[str], strategies: list[Strategy], position: int) -> Iterator[Plan]:
        chosen = next(iter(self.batch_sizes or ()), _ROWS)
        rows = {batch: chosen} if batch else {}
        for index, strategy in enumerate(strategies):
            yield Plan(self.sizes, rows, (strategy,), self.seed + position + index)
        longest = longest_constant(self.model)
        known = roles(self.model, self._fitting({}, self.sizes))
        tried: set[tuple[int, ...]] = set()
        for size in (*_FREE_SIZES, *([longest + 1] if longest else [])) if free else ():
            fitting = self._fitting({**rows, **dict.fromkeys(free, size)}, self.sizes)
            if tuple(fitting[n] for n in free) not in tried:
                yield Plan(self.sizes, {**rows, **dict.fromkeys(free, size)}, (PLAIN,), self.seed + size)
            tried.add(tuple(fitting[n] for n in free))
        if batch and free and not self.batch_sizes:
            yield Plan(self.sizes, dict.fromkeys((batch, *free), 1), (PLAIN,), self.seed)  # one number in all
        yield from self._each_size(batch, free, known)
        yield from self._at_the_largest(batch, free, tried)
        for names, counts in (((batch,) if batch and not self.batch_sizes else (), _MANY_ROWS), (free, _MANY_SIZES)):
            wanted = ({**rows, **dict.fromkeys(names, count)} for count in counts if names)
            few = (w for w in wanted if self._elements(w) <= _FEW_ELEMENTS)
            for preferred in itertools.islice(few, 1):
                yield Plan(self.sizes, preferred, (EACH_ROW,), self.seed + max(counts))
                if batch in names:  # a strategy has few numbers in a set of its own
                    mixed = tuple(s for s in MIXED if s in strategies)
                    yield Plan(self.sizes, preferred, (PLAIN, *mixed), self.seed + max(counts) + 1)
                    alone = (EACH_NUMBER, literals.strategy(self.numbers), LARGER, PADDED, WHOLE_RANGE)
                    for index, strategy in enumerate(alone, 2):
                        if any(strategy.applies(role) for role in known):
                            yield Plan(self.sizes, preferred, (strategy,), self.seed + max(counts) + index)
        yield from self._all_rows(batch, rows, known)
        yield from self._of_the_code(batch, free, rows, known)

    def _all_rows(self, batch: str | None, rows: Mapping[str, int], known: list[Role]) -> Iterator[Plan]:
        """One set that reads each row of larger tables, where so many rows of inputs are little work."""
        if batch is None or self.batch_sizes:
            return
        sizes = self._fitting(rows, self.sizes)
        indices = [role for role in known if EACH_ROW.applies(role)]
        places = {role.name: math.prod(shape_at(role.value, {**sizes, batch: 1})) for role in indices}
        wanted = max((math.ceil((role.rows or 0) / max(places[role.name], 1)) for role in indices), default=0)
        preferred = {**rows, batch: wanted}
        if wanted > max(_MANY_ROWS) and self._elements(preferred) <= _FEW_ELEMENTS:
            yield Plan(self.sizes, preferred, (EACH_ROW,), self.seed + wanted)

    def _of_the_code(
        self, batch: str | None, free: list[str], rows: Mapping[str, int], known: list[Role]
    ) -> Iterator[Plan]:
        """Sets with what stands in the forms under test alone: numbers, sizes, rows of tables with other numbers."""
        found = literals.foreign(self.numbers, self.model)
        names = [batch] if batch and not self.batch_sizes else []
        sets = suspicions.plans(found, self.unlike, known, rows, names, free)
        left = _FEW_ELEMENTS
        for index, (preferred, strategy) in enumerate(sets):
            left -= self._elements(preferred)
            if left >= 0:
                yield Plan(self.sizes, preferred, (strategy,), self.seed + index)

    def _each_size(self, batch: str | None, free: list[str], known: list[Role]) -> Iterator[Plan]:
        """Plain sets at many sizes, and at those that stand in the forms under test: something may be wrong at one."""
        left = _FEW_ELEMENTS
        strategies = (PLAIN, ON) if any(ON.applies(role) for role in known) else (PLAIN,)
        rows = [batch] if batch and not self.batch_sizes else []
        for names in (rows, free):
            for size in sorted({*_EACH_SIZE, *literals.sizes_of(self.numbers)}) if names else ():
                preferred = {**({batch: _ROWS} if batch else {}), **dict.fromkeys(names, size)}
                count = self._elements(preferred)
                if count > (_NEXT_TO_NOTHING if size in _EACH_SIZE else left):
                    continue
                left -= count
                yield Plan(
                    self.sizes,
                    preferred,
                    strategies if preferred.get(batch or "", 1) > 1 else (PLAIN,),
                    self.seed + size,
                )

    def _at_the_largest(self, batch: str | None, free: list[str], tried: set[tuple[int, ...]]) -> Iterator[Plan]:
        """One row at the largest sizes that constraints allow, where there are such and they are not tried already."""
        known = traits.constraints(self.model.graph)
        bounds = {name: constraints.largest(name, known, LONGEST) for name in free}
        preferred = {name: size for name, size in bounds.items() if size is not None}
        if not preferred:
            return
        rows = {batch: next(iter(self.batch_sizes or ()), 1)} if batch else {}
        fitting = self._fitting({**rows, **preferred}, self.sizes)
        if tuple(fitting[n] for n in free) not in tried and elements(self.model, fitting) <= _AT_THE_LARGEST:
            yield Plan(self.sizes, {**rows, **preferred}, (EACH_ROW,), self.seed + max(preferred.values()))

    def _elements(self, preferred: Mapping[str, int]) -> int:
        return elements(self.model, self._fitting(preferred, self.sizes))

    def _strategies(self) -> list[Strategy]:
        known = roles(self.model, self._fitting({}, self.sizes))
        wanted = [s for s in STRATEGIES if self.full or s.name not in THOROUGH_ONLY]
        return [s for s in wanted if any(s.applies(role) for role in known)]

    def _rows(self, batch: str | None, wanted: int) -> int:
        """The number of rows that can be divided among strategies."""
        if batch is not None:
            return self._fitting({batch: wanted}, self.sizes)[batch]
        firsts = [v.shape[0] for v in self.model.inputs if v.shape is not None and len(v.shape)]
        return min((int(s) for s in firsts if isinstance(s, int)), default=1)

    def _shared(self, strategies: list[Strategy], rows: int, position: int, is_last: bool) -> tuple[Strategy, ...]:
        """The strategies of one set of the quick battery: all in the last set, as far as there are rows for them. A
        model that accepts only single rows gets one strategy in each set after the first."""
        single = rows < 2 and batch_dim(self.model) is None
        if single and position > 0:
            return (strategies[(position - 1) % len(strategies)],)
        return (PLAIN, *strategies)[:rows] if is_last else (PLAIN,)

    # --- what the judge takes -----------------------------------------------------------------------------------------

    def _made(self, plan: Plan) -> Case:
        sizes = {**self.sizes, **self._fitting(plan.preferred, plan.sizes)}
        arrays = filled_inputs(self.model, sizes, plan.strategies, seed=plan.seed)
        return Case(sizes, arrays, tuple(s.name for s in plan.strategies), plan.is_probe)

    def _required(self, judge: Judge, plan: Plan) -> Case:
        """A set that must be there: with fewer strategies, or at other sizes, where the judge does not take it."""
        first = self._tried(judge, replace(plan, is_probe=True)) if plan.strategies != (PLAIN,) else None
        if first is not None:
            return first
        batch = batch_dim(self.model)
        small = {name: size for name, size in plan.preferred.items() if name == batch}
        plain = replace(plan, strategies=(PLAIN,))
        if small != dict(plan.preferred):
            try:
                case = self._made(plain)
                judge.add(case.arrays)
                return case
            except (DlbridgeError, ShapeError) as error:
                self._leave_out(f"sizes {_said(plan.preferred)}", error)
        case = self._made(replace(plain, preferred=small))
        judge.add(case.arrays)
        return case

    def _tried(self, judge: Judge, plan: Plan) -> Case | None:
        """A probe, without the rows that the judge does not take; None if nothing is left of it."""
        for _ in range(_ATTEMPTS):
            try:
                case = self._made(plan)
                outputs = judge.run(case.arrays)
            except Exception as error:  # an index without a row, a size without a kernel: no input of this model
                self._leave_out(", ".join(s.name for s in plan.strategies), error)
                plan = replace(plan, strategies=tuple(s for s in plan.strategies if s in _harmless(plan)))
            else:
                parts = len(plan.strategies)
                bad = rows_without_numbers(self.model, outputs, parts, case.sizes) if judge.is_finite else set()
                if plan.strategies[0].name in NOT_FINITE and not _stands(outputs):
                    bad = {0}
                why = "the judge's outputs are not finite"
                if not bad and self._chooses and plan.strategies != (PLAIN,):
                    bad = unsettled_rows(self.model, judge.unsettled(case.arrays), parts, case.sizes)
                    why = "rounding decides which numbers the judge takes"
                if not bad:
                    judge.add(case.arrays, outputs)
                    return case
                names = [s.name for i, s in enumerate(plan.strategies) if i in bad]
                self.left_out.append(f"{', '.join(names)}: {why}")
                plan = replace(plan, strategies=tuple(s for i, s in enumerate(plan.strategies) if i not in bad))
            if not plan.strategies:
                return None
        return None

    def _leave_out(self, what: str, error: Exception) -> None:
        said = f"{what}: the judge does not take it ({first_line(error)[:120]})"
        if said not in self.left_out:
            self.left_out.append(said)

    @functools.cached_property
    def _chooses(self) -> bool:
        """Whether the model takes the largest of numbers, and is small enough to be asked whether some are equal."""
        return any(is_op(node, "TopK") for node in self.model.graph) and not has_large_weights(self.model)


def _harmless(plan: Plan) -> tuple[Strategy, ...]:
    """The strategies to try next after the judge has raised: those that fill floats alone, then none."""
    of_floats = tuple(s for s in plan.strategies if s is PLAIN or s.name in _OF_FLOATS)
    return of_floats if len(of_floats) < len(plan.strategies) else ()


def _stands(outputs: Arrays) -> bool:
    """Whether inputs that are not finite still give outputs that can be compared, which are finite floats. Integers
    cannot be: no standard says where a NaN sorts."""
    return all(is_float(a.dtype) and bool(np.isfinite(a.astype(np.float64)).all()) for a in outputs.values())


_OF_FLOATS = frozenset({"small", "mixture", "halves", "large", "ties", "negative", "positive", "spread"})


def _said(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
