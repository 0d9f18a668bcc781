"""Code as a tree: what is printed says what was built, on lines that fit where they can be broken."""

import ast

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlbridge.source.bodies import bind, merge_return
from dlbridge.source.tree import document, template
from dlbridge.source.tree.code import Default, Literal, Raw, call, code, cut, expression, join
from dlbridge.source.tree.expr import (
    Attr,
    BinOp,
    Call,
    Comprehension,
    Const,
    Dict,
    FString,
    IfElse,
    Index,
    Items,
    Keyword,
    Lambda,
    Name,
    Slice,
    Star,
    Unary,
    Var,
    is_size,
)
from dlbridge.source.tree.expr_printer import document as printed
from dlbridge.source.tree.expr_printer import text_of
from dlbridge.source.tree.statements import Assign, Return, fit, target

SYMBOLS = ["+", "-", "*", "/", "//", "%", "@", "**", "&", "|", "^", "<<", ">>", "==", "<", "is not", "and", "or"]
NAMES = st.sampled_from(["x", "torch", "F", "length_of_the_sequence"])
LEAVES = st.one_of(
    NAMES.map(Name),
    st.integers(0, 10**12).map(Const),
    st.floats(0, allow_nan=False, allow_infinity=False).map(Const),
    st.text(max_size=8).map(Const),
    st.sampled_from([None, True, ...]).map(Const),
)


def _larger(part):
    several = st.lists(part, max_size=4).map(tuple)
    named = st.builds(
        Call, part, st.lists(st.builds(Keyword, NAMES, part), max_size=2, unique_by=lambda k: k.name).map(tuple)
    )
    return st.one_of(
        st.builds(Attr, part, NAMES),
        st.builds(Call, part, several),
        named,
        st.builds(BinOp, part, st.sampled_from(SYMBOLS), part),
        st.builds(Unary, st.sampled_from(["-", "~", "not "]), part),
        st.builds(IfElse, part, part, part),
        st.builds(Lambda, st.just("x"), part),
        st.builds(Index, part, part),
        st.builds(Index, part, st.builds(Slice, st.none() | part, st.none() | part, st.none() | part)),
        st.builds(Items, st.sampled_from("(["), several),
        st.builds(Comprehension, st.just("["), part, st.just("i"), part),
        st.builds(FString, st.tuples(NAMES.map(Name), st.text(min_size=1, max_size=5).map(Const))),
    )


TREES = st.recursive(LEAVES, _larger, max_leaves=25)


@given(TREES)
def test_what_is_printed_is_read_as_the_same_tree(tree):
    assert template.parse(text_of(tree)).key() == tree.key()


@given(TREES, st.sampled_from(["", "        "]), st.integers(20, 100))
def test_broken_lines_say_the_same_and_fit_where_they_can(tree, indent, width):
    lines = document.lines(printed(tree), indent, width)
    flat = f"({text_of(tree)})"
    assert ast.dump(ast.parse("(" + "\n".join(lines).strip() + ")")) == ast.dump(ast.parse(flat))
    holding = [line for line in lines if len(line) > width and _brackets(line.strip())]
    assert not holding


A, B = Name("a"), Name("b")
#: Every place where an expression may stand in another, and one expression of each kind.
AROUND = [
    *(lambda e, s=s: BinOp(e, s, B) for s in SYMBOLS),
    *(lambda e, s=s: BinOp(A, s, e) for s in SYMBOLS),
    *(lambda e, s=s: Unary(s, e) for s in ("-", "~", "not ")),
    lambda e: Attr(e, "x"),
    lambda e: Call(e, (A,)),
    lambda e: Call(A, (e, B)),
    lambda e: Call(A, (Keyword("k", e), Keyword("**", e))),
    lambda e: Call(A, (Star(e),)),
    lambda e: IfElse(e, A, B),
    lambda e: IfElse(A, e, B),
    lambda e: IfElse(A, B, e),
    lambda e: Lambda("x", e),
    lambda e: Index(e, A),
    lambda e: Index(A, e),
    lambda e: Index(A, Slice(e, e, e)),
    lambda e: Items("(", (e,)),
    lambda e: Items("[", (A, e)),
    lambda e: Dict((A, Name("**")), (e, B)),
    lambda e: Comprehension("[", e, "i", A),
    lambda e: Comprehension("[", A, "i", e),
    lambda e: FString((Const("n"), e)),
]
INSIDE = [make(Name("c")) for make in AROUND[:-1]] + [Const(3), Const(2.5), Const("s"), Const(None)]


@pytest.mark.parametrize("around", AROUND)
def test_brackets_keep_every_expression_together_in_every_place(around):
    for inside in INSIDE:
        tree = around(inside)
        if not isinstance(tree, FString) or not _has_quotes(inside):
            assert template.parse(text_of(tree)).key() == tree.key(), text_of(tree)


def _has_quotes(tree):
    return any(isinstance(n, Const) and isinstance(n.value, str) for n in tree.walk())


def test_what_stands_behind_a_broken_bracket_is_broken_too():
    words = ", ".join(f"word_{i}" for i in range(30))
    lines = fit(f"x = f({words}).g({words})")
    assert max(map(len, lines)) <= document.WIDTH
    assert lines[-1] == ")"


@pytest.mark.parametrize("text", ["({},)", "f({})", "({}, b)", "({}) * 2"])
def test_a_broken_bracket_has_a_comma_at_its_end_where_that_changes_nothing(text):
    made = Assign(Var("x"), expression(text.format("a" * 60 + " + " + "b" * 60)))
    assert len(made.lines()) > 1
    assert ast.dump(ast.parse("\n".join(made.lines()))) == ast.dump(ast.parse("x = " + text_of(made.value)))


def _brackets(line):
    """Whether a line that can stand alone has brackets that hold something and could be broken."""
    try:
        nodes = list(ast.walk(ast.parse(line.removesuffix(","), mode="eval")))
    except SyntaxError:
        return False
    return any(isinstance(n, ast.Call) and (n.args or n.keywords) for n in nodes) or any(
        isinstance(n, (ast.List, ast.Tuple)) and n.elts for n in nodes
    )


def test_lines_break_at_brackets_of_code_not_of_strings():
    items = ", ".join(f'g(a{i}, "s, ({i}")' for i in range(30))
    line = f"    x = f({items})[0]"
    lines = fit(line)
    assert max(map(len, lines)) <= document.WIDTH
    assert ast.dump(ast.parse("if 1:\n" + "\n".join(lines))) == ast.dump(ast.parse(f"if 1:\n{line}"))


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=40, max_size=90))
def test_long_lists_of_numbers_fill_their_lines(numbers):
    made = Assign(Var("x"), call("f", numbers, dtype="float32"))
    lines = made.lines()
    assert max(map(len, lines)) <= document.WIDTH
    assert len(lines) < len(numbers)
    assert ast.literal_eval(ast.parse("\n".join(lines)).body[0].value.args[0]) == numbers


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (code("{} * {}", code("{} + 1", Raw("a")), Raw("b")), "(a + 1) * b"),
        (code("{}.to({})", code("{} + {}", Raw("a"), Raw("b")), Raw("torch.int8")), "(a + b).to(torch.int8)"),
        (code("{} - {}", 3, code("{} - {}", 2, 1)), "3 - (2 - 1)"),
        (code("{} ** {}", -2, 3), "(-2) ** 3"),
        (code("-{}", code("{} ** 2", Raw("x"))), "-x ** 2"),
        (code("{}.bit_length()", 3), "(3).bit_length()"),
        (code("{}[{}]", Raw("x"), join(", ", [cut(), cut(1, None, 2), 0])), "x[:, 1::2, 0]"),
        (call("f", join(", ", [1, Raw("y")]), z=None), "f(1, y)"),
        (code("f({}, {})", (1,), [Raw("a"), (2, Raw("b"))]), "f((1,), [a, (2, b)])"),
        (code("{} if {} else 0", Raw("a"), code("{} > 1", Raw("b"))), "a if b > 1 else 0"),
    ],
)
def test_brackets_stand_where_they_are_needed(made, text):
    assert text_of(made) == text


def test_a_keyword_that_has_its_default_is_left_out_unless_it_is_a_parameter():
    made = call("Conv", 3, stride=Default(1, 1), pad=Default(2, 0))
    assert text_of(bind(made, [None, None, None])) == "Conv(3, pad=2)"
    assert text_of(bind(made, [None, Var("stride"), None])) == "Conv(3, stride=stride, pad=2)"


@pytest.mark.parametrize("name", ["__import__('os')", "x\ny", "f(", '"); f("'])
def test_a_name_cannot_leave_its_string(name):
    made = call("f", name, Literal({name: (name,)}))
    assert ast.literal_eval(ast.parse(text_of(made), mode="eval").body.args[0]) == name
    assert {n.id for n in ast.walk(ast.parse(text_of(made))) if isinstance(n, ast.Name)} == {"f"}


def test_what_code_reads_and_calls_is_asked_of_the_tree():
    x = ir.val("x")
    made = code('ops.reshape({}, ({}, -1), name="keras.random.normal(")', x, code("ops.shape({})[0]", x))
    assert made.called() == {"ops.reshape", "ops.shape"}
    assert made.names() == {"ops"}
    assert list(made.values()) == [x, x]


def test_sizes_are_told_from_tensors():
    x = ir.val("x")
    size = code("{}.shape[0] * 2 + max({}.shape[1], 3)", x, x)
    assert is_size(size) and is_size(code("ops.shape({})[0]", x))
    assert not is_size(code("{} * 2", x)) and not is_size(code("torch.tensor({})", size))


def test_the_last_assignment_is_what_is_returned():
    made = Assign(Var("x"), expression("f(x)"))
    (merged,) = merge_return([made, Return(Var("x"))])
    assert merged.lines() == ["return f(x)"]
    both = [Assign(target("{0}, ({1}, _)", ["a", "b"]), expression("f(x)")), Return(Var("a"))]
    assert merge_return(both) == both
    assert both[0].lines() == ["a, (b, _) = f(x)"]
