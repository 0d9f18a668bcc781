"""Steps in a row: statements that are the same again and again, but for numbers that count and what is handed on.

Variables are followed as versions: each assignment makes one. A step is the same as another when it reads the same
versions from before the steps, and otherwise those that stand at the same place, as counted from the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dlbridge.source.expr import Comprehension, Const, Expr, Items, Lambda, Lit, Name, Var
from dlbridge.source.statements import Assign, For, Statement

#: How many steps there are at least, how many statements a loop saves at least, how many a step has at most.
MIN_STEPS, MIN_SAVED, MAX_SIZE = 3, 4, 60
_HOLE = Name("<hole>")

#: What a variable holds: (place of the statement that made it, which of its targets); (-1, its name) from outside.
Version = tuple[int, "int | str"]
#: A value that each step makes: (place of the statement in the step, which of its targets).
Made = tuple[int, int]


@dataclass(frozen=True)
class Line:
    """A statement with holes for the variables and numbers that it reads.

    Attributes:
        key: What is the same in every step; None for a statement that stands in no loop.
        reads: The versions that it reads, in order.
        numbers: Its ints, in order.
        made: The names that it gives values to.
    """

    key: object
    reads: tuple[Version, ...]
    numbers: tuple[int, ...] = ()
    made: tuple[str, ...] = ()


def lines_of(statements: Sequence[Statement]) -> list[Line]:
    current: dict[str, Version] = {}
    return [_line(index, statement, current) for index, statement in enumerate(statements)]


def _line(index: int, statement: Statement, current: dict[str, Version]) -> Line:
    """A statement as a line; ``current`` has the version of each variable, and gets those that it makes."""
    made = _targets(statement.target) if isinstance(statement, Assign) else None
    if not isinstance(statement, Assign) or made is None:
        reads = tuple(_version(name, current) for name in variables_of(statement))
        current.update((name, (index, name)) for name in assigned(statement))
        return Line(None, reads)
    nodes = list(statement.value.walk())
    reads = tuple(_version(node.id, current) for node in nodes if isinstance(node, Var))
    numbers = tuple(number for node in nodes if (number := int_of(node)) is not None)
    current.update((name, (index, target)) for target, name in enumerate(made))
    if any(isinstance(node, (Lambda, Comprehension)) for node in nodes):  # they have variables of their own
        return Line(None, reads, numbers, made)
    return Line((isinstance(statement.target, Var), len(made), statement.value.map(_hole).key()), reads, numbers, made)


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
    return _HOLE if isinstance(node, Var) or int_of(node) is not None else None


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


def loop_at(statements: Sequence[Statement], lines: Sequence[Line], start: int) -> Loop | None:
    """The loop that begins with a line, with as few lines in a step as can be; None where there is none."""
    if lines[start].key is None:
        return None
    for size in range(1, min(MAX_SIZE, len(lines) - start - 1) + 1):
        if lines[start + size].key != lines[start].key:
            continue
        loop = _longest(lines, Loop(start, size, _count(lines, start, size)))
        if loop is not None and _is_read_as_a_loop(statements, lines, loop):
            return loop
    return None


def _count(lines: Sequence[Line], start: int, size: int) -> int:
    """How many steps of ``size`` lines have the same keys."""
    end = start + size
    while end < len(lines) and lines[end].key is not None and lines[end].key == lines[end - size].key:
        end += 1
    return (end - start) // size


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


def _is_read_as_a_loop(statements: Sequence[Statement], lines: Sequence[Line], loop: Loop) -> bool:
    """Whether what is read behind the loop is the last step's, or all steps' in one list; fills in which."""
    read: dict[Made, list[tuple[int, int, int]]] = {}  # -> (step, statement, which of its variables)
    for index in range(loop.end, len(lines)):
        for slot, version in enumerate(lines[index].reads):
            found = loop.step_of(version)
            if found is not None:
                read.setdefault(found[1], []).append((found[0], index, slot))
    for made, places in read.items():
        if {step for step, _, _ in places} == {loop.count - 1}:
            loop.last.add(made)
            continue
        joined = _joined(statements[places[0][1]], places, loop.count)
        if joined is None:
            return False
        loop.joined[made] = joined
    return True


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
