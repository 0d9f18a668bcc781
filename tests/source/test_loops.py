"""source.loops: statements that are the same but for what counts become a loop, as each framework counts."""

import pytest

pytest.importorskip("keras")

from dlbridge.frameworks.keras.printing.layer_loops import layer_loops
from dlbridge.source.condense.module_loops import module_loops
from dlbridge.source.tree.code import expression
from dlbridge.source.tree.statements import Assign, variables


def rolled(loops, lines, *given):
    """The lines of assignments, with loops, as printed."""
    assigned = [line.partition(" = ") for line in lines]
    statements = [Assign(variables([target]), expression(value)) for target, _, value in assigned]
    return [line for statement in loops(statements, *given) for line in statement.lines()]


def test_all_modules_of_a_list():
    lines = [f"x = self.encoder.layers[{i}](x, mask)" for i in range(2)] + ["x = self.norm(x)"]
    members = ["norm", "encoder.layers.0", "encoder.layers.1"]
    looped = ["for layer in self.encoder.layers:", "    x = layer(x, mask)", "x = self.norm(x)"]
    assert rolled(module_loops, lines, members, "self.children()") == looped
    assert rolled(module_loops, lines, [*members, "encoder.layers.2"], "self.children()") == lines


def test_a_list_whose_first_module_does_nothing_and_is_not_called():
    lines = [f"x = self.embedding[{i}](x)" for i in (1, 2)]
    looped = ["for layer in self.embedding[1:]:", "    x = layer(x)"]
    assert rolled(module_loops, lines, ["embedding.1", "embedding.2"], "self.children()") == looped
    assert rolled(module_loops, lines, ["embedding.0.0", "embedding.1", "embedding.2"], "self.children()") == looped
    assert rolled(module_loops, lines, ["embedding.1", "embedding.2", "embedding.4"], "self.children()") == lines


def test_lists_one_after_the_other():
    lines = [f"x = self.{name}[{i}](x)" for name in ("downs", "ups") for i in range(2)]
    looped = ["for down in self.downs:", "    x = down(x)", "for up in self.ups:", "    x = up(x)"]
    assert rolled(module_loops, lines, ["downs.0", "downs.1", "ups.0", "ups.1"], "self.children()") == looped


def test_more_than_one_statement_and_a_name_that_is_taken():
    lines = [line for i in range(2) for line in (f"layer = self.layers[{i}](x)", "x = x + layer")]
    looped = ["for layer_1 in self.layers:", "    layer = layer_1(x)", "    x = x + layer"]
    assert rolled(module_loops, lines, ["layers.0", "layers.1"], "self.children()") == looped


def test_all_modules_that_there_are():
    lines = [f"x = self.cell{i}(x)" for i in range(4)]
    members = [f"cell{i}" for i in range(4)]
    assert rolled(module_loops, lines, members, "self.children()") == [
        "for cell in self.children():",
        "    x = cell(x)",
    ]
    assert rolled(module_loops, lines[:3], members[:3], "self.children()") == lines[:3]  # so few are called by name
    assert (
        rolled(module_loops, lines, members[::-1], "self.children()") == lines
    )  # children come in the order in which they are made
    for other in ("scale", "cell4", "cell0.weight"):
        assert rolled(module_loops, lines, [*members, other], "self.children()") == lines
    assert rolled(module_loops, [*lines[:2], "x = x + 1", *lines[2:]], members, "self.children()") == [
        *lines[:2],
        "x = x + 1",
        *lines[2:],
    ]


@pytest.mark.parametrize("prefix", ['f"{name}-cell', '"cell'])
def test_layers_of_numbered_names(prefix):
    lines = [f'x = cell(x, 8, name={prefix}{i}")' for i in range(9, 12)]
    text = prefix if prefix.startswith("f") else f"f{prefix}"
    assert rolled(layer_loops, lines) == ["for i in range(9, 12):", f'    x = cell(x, 8, name={text}{{i}}")']
    other = f'x = cell(x, 9, name={prefix}12")'
    assert rolled(layer_loops, [*lines, other])[2:] == [other]
    assert rolled(layer_loops, lines[::-1]) == lines[::-1]
    assert rolled(layer_loops, [lines[0], *lines[:2]]) == [lines[0], *lines[:2]]


def test_numbers_with_zeros_before_them_and_a_number_that_is_taken():
    padded = [f'x = cell(x, name="cell{i:02}")' for i in range(3)]
    assert rolled(layer_loops, padded) == padded
    lines = [f'x = cell(x, {i}, name="{i}")' for i in range(3)]
    assert rolled(layer_loops, lines) == lines  # the numbers are arguments too
    lines = [f'x = cell(x, i, name="{k}")' for k in range(3)]
    assert rolled(layer_loops, lines) == ["for i_1 in range(3):", '    x = cell(x, i, name=f"{i_1}")']
