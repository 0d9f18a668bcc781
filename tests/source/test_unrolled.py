"""Steps that were unrolled become a loop again, which computes the same; tensors on a new axis are stacked."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlbridge.source.condense.nesting import nest
from dlbridge.source.condense.unrolled import roll_steps
from dlbridge.source.tree.expr import Arguments, Items, Name, Var
from dlbridge.source.tree.statements import Assign, For, Return, Statement, target
from dlbridge.source.tree.template import expression_of


def statements(lines: Sequence[str]) -> list[Statement]:
    found: list[Statement] = []
    for line in lines:
        (node,) = ast.parse(line).body
        assert isinstance(node, (ast.Assign, ast.Return)) and node.value is not None
        value = expression_of(node.value)
        value = value.map(lambda n: Var(n.id) if isinstance(n, Name) and n.id not in ("f", "g", "self") else None)
        if isinstance(node, ast.Return):
            several = isinstance(value, Items) and value.bracket == "("
            found.append(Return(Arguments(value.items) if several else value))
        else:
            found.append(Assign(target(ast.unparse(node.targets[0]), []), value))
    return found


def rolled(lines: Sequence[str]) -> list[str]:
    return [line for statement in roll_steps(statements(lines)) for line in statement.lines()]


CASES = {
    "a state, and a list of what the steps make": (
        [
            *("h = f(x[:, 0], h0)", "a = g(h)"),
            *("h = f(x[:, 1], h)", "b = g(h)"),
            *("h = f(x[:, 2], h)", "c = g(h)"),
            *("h = f(x[:, 3], h)", "d = g(h)"),
            "y = f([a, b, c, d], h)",
            "return y",
        ],
        [
            *("outputs = []", "for i in range(4):", "    h0 = f(x[:, i], h0)", "    a = g(h0)"),
            *("    outputs.append(a)", "y = f(outputs, h0)", "return y"),
        ],
    ),
    "backwards in time, with the list turned round": (
        [
            *("h = f(x[:, 6:7], h)", "a = g(h)", "h = f(x[:, 5:6], h)", "b = g(h)"),
            *(
                "h = f(x[:, 4:5], h)",
                "c = g(h)",
                "h = f(x[:, 3:4], h)",
                "d = g(h)",
                "y = f([x, d, c, b, a])",
                "return y",
            ),
        ],
        [
            *("outputs = []", "for i in range(6, 2, -1):", "    h = f(x[:, i:i + 1], h)", "    a = g(h)"),
            *("    outputs.append(a)", "y = f([x, *outputs[::-1]])", "return y"),
        ],
    ),
    "nothing counts": (
        [*["x = f(x, 1)", "x = g(x)"] * 4, "return x"],
        ["for _ in range(4):", "    x = f(x, 1)", "    x = g(x)", "return x"],
    ),
    "several results": (
        [*[f"c, h = self.cell(x[:, {i}], h, c)" for i in range(7)], "return h, c"],
        ["for i in range(7):", "    c, h = self.cell(x[:, i], h, c)", "return h, c"],
    ),
    "two steps before": (
        [*(f"h{i + 2} = f(h{i}, h{i + 1})" for i in range(8)), "return h9"],
        ["for _ in range(4):", "    h0 = f(h0, h1)", "    h1 = f(h1, h0)", "return h1"],
    ),
    "variables that change places": (
        ["b = f(a)", "a = f(b)", "b = f(a)", "a = f(b)", "b = f(a)", "a = f(b)", "b = f(a)", "a = f(b)", "return a"],
        ["for _ in range(8):", "    a = f(a)", "return a"],
    ),
    "the state before is read behind the new one": (
        [
            *("a = f(m0)", "m1 = g(m0, a)", "s = f(m0, m1, s)"),
            *(
                line
                for i in range(1, 4)
                for line in (f"a = f(m{i})", f"m{i + 1} = g(m{i}, a)", f"s = f(m{i}, m{i + 1}, s)")
            ),
            "return m4, s",
        ],
        [
            *("for _ in range(4):", "    a = f(m0)", "    m1_1 = g(m0, a)", "    s = f(m0, m1_1, s)", "    m0 = m1_1"),
            "return m0, s",
        ],
    ),
}

APART = {
    "too few steps": ["h = f(x[:, 0], h)", "h = g(h)", "h = f(x[:, 1], h)", "h = g(h)", "return h"],
    "numbers that do not count": [f"h = f(x[:, {i}], h)" for i in (0, 1, 3, 7, 2, 9, 4, 0, 1)] + ["return h"],
    "what some of the steps make is read": [
        *(f"h{i + 1} = f(x[:, {i}], h{i})" for i in range(8)),
        "return h3, h5, h8",
    ],
    "two steps before, an odd number of times": [*(f"h{i + 2} = f(h{i}, h{i + 1})" for i in range(5)), "return h6"],
    "a number where another step has a variable": [
        *(f"h = f(h, {'x' if i % 2 else i})" for i in (1, 2, 4, 3, 5)),
        "return h",
    ],
    "numbers of two kinds": [*(f"h = f(h, {i}, {2 * i})" for i in range(8)), "return h"],
}


@pytest.mark.parametrize(("lines", "wanted"), CASES.values(), ids=CASES)
def test_steps_become_a_loop(lines: list[str], wanted: list[str]) -> None:
    assert rolled(lines) == wanted


@pytest.mark.parametrize("lines", APART.values(), ids=APART)
def test_what_is_no_loop_stays(lines: list[str]) -> None:
    assert rolled(lines) == lines


# --- the law: what is computed stays --------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "x", "h")
VARIABLE = st.sampled_from(NAMES)


@st.composite
def programs(draw: st.DrawFn) -> list[str]:
    """Bodies with rows of steps that are nearly the same: variables change their names, steps are disturbed."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 2))):
        size, count = draw(st.integers(1, 4)), draw(st.integers(2, 7))
        made = draw(st.lists(VARIABLE, min_size=size, max_size=size))
        read = st.tuples(VARIABLE, st.booleans())  # a variable, and whether it is read as the step before has left it
        reads = draw(st.lists(st.lists(read, min_size=1, max_size=3), min_size=size, max_size=size))
        numbers = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1)), min_size=size, max_size=size))
        own = draw(st.sets(st.integers(0, size - 1), max_size=2))  # what these make has a name in each step
        apart = dict.fromkeys(own, "")
        current = {name: name for name in NAMES}
        listed: list[str] = []
        for step in range(count):
            before = dict(current)
            for place in range(size):
                first, by = numbers[place]
                name = f"{made[place]}{len(lines)}" if place in apart else made[place]
                given = ", ".join((before if is_late else current)[r] for r, is_late in reads[place])
                lines.append(f"{name} = f({given}, {first + step * by})")
                current[made[place]] = name
                listed += [name] if place == min(apart, default=-1) else []
        if draw(st.booleans()) and listed:
            order = listed[::-1] if draw(st.booleans()) else listed
            lines.append(f"{draw(VARIABLE)} = f([{', '.join(order)}])")
        for name in NAMES:
            if current[name] != name and draw(st.booleans()):
                lines.append(f"{name} = g({current[name]})")
    if draw(st.booleans()) and lines:
        lines.insert(draw(st.integers(0, len(lines))), f"{draw(VARIABLE)} = g({draw(VARIABLE)})")
    return [*lines, f"return {', '.join(draw(st.lists(VARIABLE, min_size=1, max_size=4)))}"]


def computed(found: Sequence[Statement]) -> object:
    body = "\n".join(line for statement in found for line in statement.lines("    "))
    space: dict[str, object] = {"f": lambda *given: hash(str(given)), "g": lambda x: hash(str(("g", x)))}
    exec(f"def run({', '.join(NAMES)}):\n{body}", space)
    return space["run"](*range(5))  # type: ignore[operator]


@settings(max_examples=400, deadline=None)
@given(programs())
def test_what_is_computed_stays(lines: list[str]) -> None:
    before = statements(lines)
    after = roll_steps(before)
    assert computed(after) == computed(before)
    assert computed(nest(after)) == computed(before)


def test_the_law_is_tried_on_loops() -> None:
    """Most of the programs above have one."""
    seen: list[bool] = []

    @settings(max_examples=100, deadline=None, database=None)
    @given(programs())
    def note(lines: list[str]) -> None:
        seen.append(any(isinstance(s, For) for s in roll_steps(statements(lines))))

    note()
    assert sum(seen) > len(seen) / 5
