"""Unrolled loops: steps in a row (``source.steps``) become a ``for``.

A module that goes through time step by step is read as the statements of all its steps. A step may read what the step
before has made (a state), and what the steps make may be joined behind them::

    outputs = []
    for i in range(7):
        h = torch.tanh(x[:, i] + h)
        outputs.append(h)
    y = torch.stack(outputs, dim=1)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlbridge.source.condense.steps import (
    MIN_SAVED,
    Forms,
    Joined,
    Line,
    Loop,
    Made,
    Search,
    Version,
    assigned,
    int_of,
    lines_of,
    position,
)
from dlbridge.source.names import Names
from dlbridge.source.tree.code import call
from dlbridge.source.tree.expr import Attr, BinOp, Const, Expr, Index, Items, Slice, Star, Var
from dlbridge.source.tree.statements import Assign, Do, For, Statement

#: Names that any value may have.
_FLOWING = ("x", "out")


def roll_steps(statements: list[Statement]) -> list[Statement]:
    """The statements of a body, with a loop for each row of steps that are the same."""
    forms = Forms()
    done = 0
    while len(statements) - done > MIN_SAVED:
        lines = lines_of(statements, forms)
        found = ((loop, _written(statements, lines, loop)) for loop in Search(statements, lines).loops(done))
        loop, written = next(((loop, written) for loop, written in found if written is not None), (None, None))
        if loop is None or written is None:
            break
        rolled, after = written
        done = loop.start + len(rolled)
        statements = [*statements[: loop.start], *rolled, *after]
    return statements


# --- variables --------------------------------------------------------------------------------------------------------


def _name(lines: Sequence[Line], version: Version) -> str:
    """The variable that holds a version, in the statements as they are."""
    index, target = version
    return target if isinstance(target, str) else lines[index].made[target]


@dataclass(frozen=True)
class _Names:
    """The variables of a loop.

    Attributes:
        made: Variable of each value that a step makes, at the end of the step.
        new: Variable that holds a state from where the step makes it, if the step goes on reading the one before.
    """

    made: Mapping[Made, str]
    new: Mapping[Made, str]

    def of(self, made: Made, *, is_own: bool) -> str:
        """The variable of what the step itself has made, or else the step before."""
        return self.new.get(made, self.made[made]) if is_own else self.made[made]


def _names(lines: Sequence[Line], loop: Loop, taken: Names) -> _Names:
    """A variable for each value that a step makes: where that can be, the one that the first step or the last has.

    A state is called as the parameter that it starts with.
    """
    outside = [v for line in lines[loop.start + loop.size :] for v in line.reads if v[0] < loop.start]
    kept = {_name(lines, version) for version in outside}
    starts = {made: _name(lines, version) for made, version in loop.states.items()}
    late = _read_late(lines, loop)
    live = _live(lines, loop)
    live.update((made, set(range(loop.size + 1))) for made in late)
    names: dict[Made, str] = {}
    for made in sorted(live, key=lambda made: made not in starts):
        place, target = made
        own = lines[loop.start + place].made[target]
        wanted = [starts[made]] if made in starts and loop.states[made][0] < 0 else []
        wanted += [lines[loop.end - loop.size + place].made[target]] if made in loop.last else []
        wanted += [own, starts.get(made, own), *_FLOWING]
        others = {names[other] for other in names if _meet(live, made, other)}
        if made in starts:
            others |= {name for other, name in starts.items() if other != made}
        names[made] = next((n for n in wanted if n not in kept | others), None) or taken.fresh(own)
    return _Names(names, {made: taken.fresh(lines[loop.start + made[0]].made[made[1]]) for made in sorted(late)})


def _read_late(lines: Sequence[Line], loop: Loop) -> set[Made]:
    """The states of which a step reads the one before when it has made its own."""
    found = set()
    for place in range(loop.size):
        for of in map(loop.step_of, lines[loop.start + loop.size + place].reads):
            if of is not None and of[0] == 0 and of[1][0] < place:
                found.add(of[1])
    return found


def _live(lines: Sequence[Line], loop: Loop) -> dict[Made, set[int]]:
    """The places of a step at which each value of a step must still be there; ``loop.size`` is the end of the step."""
    steps = [lines[loop.start + i * loop.size : loop.start + (i + 1) * loop.size] for i in range(2)]
    live: dict[Made, set[int]] = {(p, t): set() for p, line in enumerate(steps[0]) for t in range(len(line.made))}
    to_the_end = {made: set(range(made[0] + 1, loop.size + 1)) for made in live}
    for place, line in enumerate(steps[1]):
        for step, made in filter(None, map(loop.step_of, line.reads)):
            if step == 1:
                live[made].update(range(made[0] + 1, place + 1))
            else:
                live[made].update(to_the_end[made], range(place + 1))
    for made in (*loop.last, *loop.joined):
        live[made].update(to_the_end[made])
    return live


def _meet(live: Mapping[Made, set[int]], a: Made, b: Made) -> bool:
    """Whether one of two values is made while the other must still be there."""
    return a[0] == b[0] or b[0] + 1 in live[a] or a[0] + 1 in live[b]


# --- writing it -------------------------------------------------------------------------------------------------------


def _written(
    statements: Sequence[Statement], lines: Sequence[Line], loop: Loop
) -> tuple[list[Statement], list[Statement]] | None:
    """(The loop and what goes with it, the statements behind it); None where variables are in each other's way."""
    taken = Names(*(name for line in lines for name in line.form.words))
    names = _names(lines, loop, taken)
    if not all(_stays(statements, lines, loop, made, names.made[made]) for made in loop.last):
        return None
    lists = {made: taken.fresh("outputs") for made in sorted(loop.joined)}
    counter = taken.fresh("i") if loop.by else "_"
    first = min(loop.numbers.values(), default=0)
    step = _Step(lines, loop, names, counter, first)
    inside = [step.statement(place, statements[loop.start + place]) for place in range(loop.size)]
    inside += [Assign(Var(names.made[made]), Var(name)) for made, name in names.new.items()]
    inside += [Do(call(Attr(Var(name), "append"), Var(names.made[made]))) for made, name in lists.items()]
    starts = [(names.made[made], _name(lines, version)) for made, version in loop.states.items()]
    rolled = [
        *(Assign(Var(name), Var(given)) for name, given in starts if name != given),
        *(Assign(Var(name), Items("[", ())) for name in lists.values()),
        For(counter, _range(first, loop), tuple(inside)),
    ]
    after = [_renamed(statements[i], lines[i], loop, names.made) for i in range(loop.end, len(statements))]
    for made, joined in loop.joined.items():
        index = joined.statement - loop.end
        after[index] = _with_list(after[index], joined, lists[made])
    return rolled, after


def _stays(statements: Sequence[Statement], lines: Sequence[Line], loop: Loop, made: Made, name: str) -> bool:
    """Whether a variable still holds what the last step has put into it wherever that is read behind the loop."""
    version = (loop.end - loop.size + made[0], made[1])
    readers = [index for index in range(loop.end, len(lines)) if version in lines[index].reads]
    between = statements[loop.end : readers[-1]]
    return not any(name in assigned(s) for s in between) and not any(statements[i].body() for i in readers)


def _renamed(statement: Statement, line: Line, loop: Loop, names: Mapping[Made, str]) -> Statement:
    """A statement behind the loop, which reads what the last step has made by its name in the loop."""
    found = [loop.step_of(version) for version in line.reads]
    renamed = [None if of is None or of[1] not in loop.last else Var(names[of[1]]) for of in found]
    if not any(renamed):
        return statement
    slots = iter(renamed)

    def change(node: Expr) -> Expr | None:
        return next(slots) if isinstance(node, Var) else None

    if isinstance(statement, Assign) and line.made:
        return Assign(statement.target, statement.value.map(change))
    return type(statement)(statement.value.map(change)) if isinstance(statement, Do) else statement


def _range(first: int, loop: Loop) -> Expr:
    by = loop.by or 1
    bounds = [first, first + by * loop.count, by]
    if by == 1:
        bounds = bounds[:2] if first else bounds[1:2]
    return call("range", *map(Const, bounds))


def _with_list(statement: Statement, joined: Joined, name: str) -> Statement:
    """A statement that reads a list of what the steps made, where it had an item for each."""
    assert isinstance(statement, Assign)
    made: Expr = Var(name)
    if joined.is_reversed:
        made = Index(made, Slice(step=Const(-1)))

    def change(node: Expr) -> Expr | None:
        at = position(node, joined.items) if isinstance(node, Items) else None
        if not isinstance(node, Items) or at is None:
            return None
        if node.bracket == "[" and len(node.items) == len(joined.items):
            return made
        return Items(node.bracket, (*node.items[:at], Star(made), *node.items[at + len(joined.items) :]))

    return Assign(statement.target, statement.value.map(change))


@dataclass(frozen=True)
class _Step:
    """What a step reads and makes, for the body of the loop."""

    lines: Sequence[Line]
    loop: Loop
    names: _Names
    counter: str
    first: int

    def statement(self, place: int, statement: Statement) -> Statement:
        """A statement of the first step, as the body of the loop has it."""
        assert isinstance(statement, Assign)
        reads, numbers = itertools.count(), itertools.count()

        def change(node: Expr) -> Expr | None:
            if isinstance(node, Var):
                return self._variable(node, place, next(reads))
            return None if int_of(node) is None else self._number(place, next(numbers))

        value = statement.value.map(change)
        count = len(self.lines[self.loop.start + place].made)
        made = [Var(self.names.of((place, target), is_own=True)) for target in range(count)]
        return Assign(made[0] if isinstance(statement.target, Var) else Items("(", tuple(made)), value)

    def _variable(self, node: Var, place: int, slot: int) -> Var:
        found = self.loop.step_of(self.lines[self.loop.start + self.loop.size + place].reads[slot])
        return node if found is None else Var(self.names.of(found[1], is_own=found[0] == 1))

    def _number(self, place: int, slot: int) -> Expr | None:
        number = self.loop.numbers.get((place, slot))
        if number is None:
            return None
        more = number - self.first
        return BinOp(Var(self.counter), "+", Const(more)) if more else Var(self.counter)
