"""Steps in a row: statements that are the same again and again, but for numbers that count and what is handed on.

Variables are followed as versions: each assignment makes one. A step is the same as another when it reads the same
versions from before the steps, and otherwise those that stand at the same place, as counted from the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dlbridge.source.tree.expr import Comprehension, Const, Expr, Items, Lambda, Lit, Name, Var
from dlbridge.source.tree.statements import Assign, For, Statement, words

#: How many steps there are at least, how many statements a loop saves at least, how many a step has at most.
MIN_STEPS, MIN_SAVED, MAX_SIZE = 3, 4, 60
_VARIABLE, _NUMBER = Name("<variable>"), Name("<number>")

#: What a variable holds: (place of the statement that made it, which of its targets); (-1, its name) from outside.
Version = tuple[int, "int | str"]
#: A value that each step makes: (place of the statement in the step, which of its targets).
Made = tuple[int, int]


@dataclass(frozen=True)
class Form:
    """A statement with holes for the variables and numbers that it reads.

    Attributes:
        kind: The same number for statements that differ in what is in the holes alone; None where a statement stands
            in no loop.
        variables: The variables that it reads, in order.
        numbers: Its ints, in order.
        made: The variables that it is sure to give values to, in order.
        assigned: All variables that it may give values to.
        words: All names in it, of variables and others.
    """

    kind: int | None
    variables: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    made: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()


class Forms:
    """The forms of statements, each found once."""

    def __init__(self) -> None:
        self._kinds: dict[object, int] = {}
        self._found: dict[int, tuple[Statement, Form]] = {}  # the statement is kept, so that its id stays its own

    def of(self, statement: Statement) -> Form:
        if id(statement) not in self._found:
            self._found[id(statement)] = statement, self._form(statement)
        return self._found[id(statement)][1]

    def _form(self, statement: Statement) -> Form:
        read, given = variables_of(statement), tuple(assigned(statement))
        names = frozenset((*words([statement]), *read, *given))
        made = _targets(statement.target) if isinstance(statement, Assign) else None
        if not isinstance(statement, Assign) or made is None:
            return Form(None, tuple(read), assigned=given, words=names)
        nodes = list(statement.value.walk())
        variables = tuple(node.id for node in nodes if isinstance(node, Var))
        numbers = tuple(number for node in nodes if (number := int_of(node)) is not None)
        if any(isinstance(node, (Lambda, Comprehension)) for node in nodes):  # they have variables of their own
            return Form(None, variables, numbers, made, given, names)
        key = isinstance(statement.target, Var), len(made), statement.value.map(_hole).key()
        return Form(self._kinds.setdefault(key, len(self._kinds)), variables, numbers, made, given, names)


@dataclass(frozen=True)
class Line:
    """A statement among others: its form, and the versions of the variables that it reads, in order."""

    form: Form
    reads: tuple[Version, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.form.numbers

    @property
    def made(self) -> tuple[str, ...]:
        return self.form.made


def lines_of(statements: Sequence[Statement], forms: Forms) -> list[Line]:
    """The statements as lines."""
    current: dict[str, Version] = {}
    lines = []
    for index, statement in enumerate(statements):
        form = forms.of(statement)
        lines.append(Line(form, tuple(_version(name, current) for name in form.variables)))
        current.update((name, (index, name)) for name in form.assigned)
        current.update((name, (index, target)) for target, name in enumerate(form.made))
    return lines


def _version(name: str, current: Mapping[str, Version]) -> Version:
    return current.get(name, (-1, name))


def variables_of(statement: Statement) -> list[str]:
    """The variables in a statement and in what stands in it, in order, as often as they do."""
    own = [node.id for e in statement.expressions() for node in e.walk() if isinstance(node, Var)]
    return own + [name for inner in statement.body() for name in variables_of(inner)]


def assigned(statement: Statement) -> Iterator[str]:
    """The variables that a statement, or what stands in it, may give another value."""
    if isinstance(statement, Assign):
        yield from statement.target.variables()
    if isinstance(statement, For):
        yield statement.variable
    for inner in statement.body():
        yield from assigned(inner)


def _targets(target: Expr) -> tuple[str, ...] | None:
    """The variables of a target, where it is one or several in a row."""
    items = target.items if isinstance(target, Items) else (target,)
    names = tuple(item.id for item in items if isinstance(item, Var))
    return names if len(names) == len(items) == len(set(names)) else None


def _hole(node: Expr) -> Expr | None:
    if isinstance(node, Var):
        return _VARIABLE
    return None if int_of(node) is None else _NUMBER


def int_of(node: Expr) -> int | None:
    value = node.value if isinstance(node, Const) else node.literal.value if isinstance(node, Lit) else None
    return value if type(value) is int else None


# --- finding a loop ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """Where what all steps make is read: the statement, the items of a list there, whether the last step's is first."""

    statement: int
    items: tuple[Expr, ...]
    is_reversed: bool


@dataclass
class Loop:
    """Steps that were found: ``count`` times ``size`` statements from ``start`` on.

    Attributes:
        states: What a step reads of the step before -> what the first step reads in its place.
        numbers: (place in the step, which of its ints) -> what it is in the first step, where it counts.
        by: How much more they are in each further step; 0 where none counts.
        last: What is read behind the loop, of the last step alone.
        joined: What is read behind it of all steps -> the list that they stand in.
    """

    start: int
    size: int
    count: int
    states: dict[Made, Version] = field(default_factory=dict)
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    by: int = 0
    last: set[Made] = field(default_factory=set)
    joined: dict[Made, Joined] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + self.size * self.count

    def step_of(self, version: Version) -> tuple[int, Made] | None:
        """(step, what it is there) of a version; None for one that is not made in the loop."""
        index, target = version
        if not self.start <= index < self.end or not isinstance(target, int):
            return None
        step, place = divmod(index - self.start, self.size)
        return step, (place, target)


class Search:
    """Looks for loops in statements.

    Args:
        statements: The statements of a body.
        lines: The same as lines.
    """

    def __init__(self, statements: Sequence[Statement], lines: Sequence[Line]) -> None:
        self._statements = statements
        self._lines = lines
        self._readers: dict[Version, list[tuple[int, int]]] = {}
        self._last_read = np.zeros(len(lines), int)  # of each line: the last line that reads what it makes
        for index, line in enumerate(lines):
            for slot, version in enumerate(line.reads):
                self._readers.setdefault(version, []).append((index, slot))
                if version[0] >= 0:
                    self._last_read[version[0]] = index

    def loops(self, start: int) -> Iterator[Loop]:
        """The loops at a line and behind it, in order; at the same line those with fewer lines in a step first."""
        sizes = np.arange(1, MAX_SIZE + 1)
        counts = _alike([line.form.kind for line in self._lines[start:]]) // sizes + 1
        saved = (counts - 1) * sizes
        for line, column in np.argwhere((counts >= MIN_STEPS) & (saved >= MIN_SAVED)).tolist():
            possible = Loop(start + line, column + 1, int(counts[line, column]))
            if not self._may_be_read(possible):
                continue
            loop = _longest(self._lines, possible)
            if loop is not None and self._is_read_as_a_loop(loop):
                yield loop

    def _may_be_read(self, loop: Loop) -> bool:
        """A quick check of whether the first step's values, where they are read after the loop, are items of a list.

        There the second step's value has to be the item before or after. Most candidates fail this, and need no
        comparison of all their lines.
        """
        read_behind = self._last_read[loop.start : loop.start + loop.size] >= loop.end
        for place in np.flatnonzero(read_behind).tolist():
            for target in range(len(self._lines[loop.start + place].made)):
                after = (loop.start + loop.size + place, target)
                for index, slot in self._readers.get((loop.start + place, target), ()):
                    reads = self._lines[index].reads
                    if index >= loop.end and after not in reads[max(slot - 1, 0) : slot + 2]:
                        return False
        return True

    def _is_read_as_a_loop(self, loop: Loop) -> bool:
        """Whether what is read behind the loop is the last step's, or all steps' in one list; fills in which."""
        for place in range(loop.size):
            for target in range(len(self._lines[loop.start + place].made)):
                made = place, target
                places = self._read_behind(loop, made)
                if not places:
                    continue
                if {step for step, _, _ in places} == {loop.count - 1}:
                    loop.last.add(made)
                    continue
                joined = _joined(self._statements[places[0][1]], places, loop.count)
                if joined is None:
                    return False
                loop.joined[made] = joined
        return True

    def _read_behind(self, loop: Loop, made: Made) -> list[tuple[int, int, int]]:
        """Where what the steps made is read behind the loop: (step, statement, which of its variables), in order."""
        place, target = made
        found = [
            (index, slot, step)
            for step in range(loop.count)
            for index, slot in self._readers.get((loop.start + step * loop.size + place, target), ())
            if index >= loop.end
        ]
        return [(step, index, slot) for index, slot, step in sorted(found)]


def _alike(kinds: Sequence[int | None]) -> np.ndarray:
    """How many lines in a row, from each on, are of the kind of those ``size`` lines before them.

    Returns:
        int array [lines, MAX_SIZE]: entry [i, size - 1] is of the lines from i + size on.
    """
    found = np.array([-1 if kind is None else kind for kind in kinds], int)
    alike = np.zeros((len(found), MAX_SIZE), int)
    for size in range(1, min(MAX_SIZE, len(found) - 1) + 1):
        same = (found[size:] == found[:-size]) & (found[size:] >= 0)
        ends = np.where(same, len(same), np.arange(len(same)))  # where a row of lines that are alike ends
        alike[: len(same), size - 1] = np.minimum.accumulate(ends[::-1])[::-1] - np.arange(len(same))
    return alike


def _longest(lines: Sequence[Line], loop: Loop) -> Loop | None:
    """The loop with as many of its steps as read what they should."""
    while loop.count >= MIN_STEPS and (loop.count - 1) * loop.size >= MIN_SAVED:
        fitting = _fitting_steps(lines, loop)
        if fitting == loop.count:
            return loop
        loop = Loop(loop.start, loop.size, fitting)
    return None


def _fitting_steps(lines: Sequence[Line], loop: Loop) -> int:
    """How many of the loop's steps read what they should; fills in its states and numbers."""
    for step in range(loop.count):
        for place in range(loop.size):
            line = lines[loop.start + step * loop.size + place]
            first, second = lines[loop.start + place], lines[loop.start + loop.size + place]
            for versions in zip(line.reads, first.reads, second.reads, strict=True):
                if not _follows(loop, step, *versions):
                    return step
            for slot, numbers in enumerate(zip(line.numbers, first.numbers, second.numbers, strict=True)):
                if not _counts(loop, step, (place, slot), *numbers):
                    return step
    return loop.count


def _follows(loop: Loop, step: int, version: Version, first: Version, second: Version) -> bool:
    """Whether a step reads a version as the first two steps do in its place."""
    now, then, after = loop.step_of(version), loop.step_of(first), loop.step_of(second)
    if after is None:
        return version == first == second
    made_in, made = after
    if made_in == 1:  # by the same step
        return then == (0, made) and now == (step, made)
    if then is not None or loop.states.setdefault(made, first) != first:
        return False
    return now == (step - 1, made) if step else version == first


def _counts(loop: Loop, step: int, place: tuple[int, int], number: int, first: int, second: int) -> bool:
    """Whether a number of a step goes on as in the first two; all that change do so by the same."""
    by = second - first
    if by:
        loop.numbers[place] = first
        loop.by = loop.by or by
    return number == first + step * by and by in (0, loop.by)


def _joined(statement: Statement, places: Sequence[tuple[int, int, int]], count: int) -> Joined | None:
    """The list in a statement that holds what each step made, in order or the other way round."""
    steps = [step for step, _, _ in places]
    _, index, slot = places[0]
    in_order = list(range(count))
    if not isinstance(statement, Assign) or steps not in (in_order, in_order[::-1]):
        return None
    if [place[1:] for place in places] != [(index, slot + i) for i in in_order]:
        return None
    nodes = list(statement.value.walk())
    items = tuple([node for node in nodes if isinstance(node, Var)][slot : slot + count])
    if not any(isinstance(node, Items) and position(node, items) is not None for node in nodes):
        return None
    return Joined(index, items, steps[0] > 0)


def position(node: Items, items: Sequence[Expr]) -> int | None:
    """Where some items follow each other in a list."""
    places = range(len(node.items) - len(items) + 1)
    return next((i for i in places if all(a is b for a, b in zip(node.items[i:], items, strict=False))), None)
