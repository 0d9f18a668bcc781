"""Values that one place reads stand there, and layers of a list hand on one variable; what is computed stays."""

from __future__ import annotations

import ast

import pytest

from dlbridge.source.condense.layer_variables import one_variable
from dlbridge.source.condense.module_loops import _list_called
from dlbridge.source.condense.nesting import nest
from dlbridge.source.tree.expr import Arguments, Items, Name, Var
from dlbridge.source.tree.statements import Assign, Return, Statement, target
from dlbridge.source.tree.template import expression_of

MODULES = ("self", "F", "torch", "ops", "split_heads")


def statements(text: str) -> list[Statement]:
    found: list[Statement] = []
    for line in text.strip().splitlines():
        (node,) = ast.parse(line.strip()).body
        value = expression_of(node.value)
        value = value.map(lambda n: Var(n.id) if isinstance(n, Name) and n.id not in MODULES else None)
        if isinstance(node, ast.Return):
            several = isinstance(value, Items)
            found.append(Return(Arguments(value.items) if several else value))
        else:
            found.append(Assign(target(ast.unparse(node.targets[0]), []), value))
    return found


def text(found: list[Statement]) -> list[str]:
    return [line for each in found for line in each.lines()]


NESTED = {
    "views of a layer's result": (
        """
        out = self.q(x)
        q = out.unflatten(2, (4, 16))
        q = q.transpose(1, 2)
        k = self.k(x)
        k = split_heads(k, 4)
        return F.attention(q, k)
        """,
        ["q = self.q(x).unflatten(2, (4, 16)).transpose(1, 2)", "return F.attention(q, split_heads(self.k(x), 4))"],
    ),
    "operands of a sum, and what they are made of": (
        """
        y = self.norm(x)
        attention = self.attention(y, mask)
        hidden = x + attention
        out = self.norm2(hidden)
        out = self.mlp(out)
        return hidden + out
        """,
        [
            "hidden = x + self.attention(self.norm(x), mask)",
            "return hidden + self.mlp(self.norm2(hidden))",
        ],
    ),
    "a product of what two layers make, in their order": (
        """
        gate = self.gate(x)
        gate = F.silu(gate)
        x = self.up(x)
        down = gate * x
        return self.down(down)
        """,
        ["return self.down(F.silu(self.gate(x)) * self.up(x))"],
    ),
}
STAYS = {
    "what goes from layer to layer": "x = self.conv(x)\nx = self.norm(x)\nx = F.relu(x)\nreturn self.fc(x)",
    "what is read twice": "y = self.a(x)\nz = self.b(y, y)\nreturn z + z",
    "what is read again later": "y = self.a(x)\nz = self.b(y)\nz = z * z\nreturn F.add(z, y)",
    "what is evaluated after another call": "z = self.a(x)\ny = F.add(self.b(x), z)\nreturn y, z",
    "what several rounds would evaluate": "y = self.a(x)\nz = torch.cat([y for _ in range(3)])\nreturn z, x",
    "each of several results": "y = self.a(x)\nz = self.b(x)\nreturn y, z",
    "what would not fit into a line": "scores = self.attention(query_states, key_states, value_states, mask)\n"
    "return scores.transpose(1, 2).reshape(batch_size, number_of_tokens)",
}


@pytest.mark.parametrize("name", NESTED)
def test_what_one_place_reads_stands_there(name):
    given, wanted = NESTED[name]
    assert text(nest(statements(given))) == wanted


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_a_line(name):
    assert text(nest(statements(STAYS[name]))) == STAYS[name].splitlines()


CHAINS = {
    "the first has another name": (
        "e = self.e(x)\nmask = F.mask(e)\nh = self.layers[0](e, mask)\nh = self.layers[1](h, mask)\nreturn h",
        "h = self.e(x)\nmask = F.mask(h)\nh = self.layers[0](h, mask)\nh = self.layers[1](h, mask)\nreturn h",
    ),
    "the last takes over the name of what ends": (
        "h = self.e(x)\nh = self.layers[0](h, y)\ny = self.layers[1](h, y)\nreturn self.norm(y)",
        "h = self.e(x)\nh = self.layers[0](h, y)\nh = self.layers[1](h, y)\nreturn self.norm(h)",
    ),
    "what is read later keeps its name": (
        "e = self.e(x)\nh = self.l[0](e)\nh = self.l[1](h)\nh = self.l[2](h)\nreturn h + e",
        "e = self.e(x)\nh = e\nh = self.l[0](h)\nh = self.l[1](h)\nh = self.l[2](h)\nreturn h + e",
    ),
    "the others differ": (
        "e = self.e(x)\nh = self.l[0](e, a)\nh = self.l[1](h, b)\nreturn h",
        "e = self.e(x)\nh = self.l[0](e, a)\nh = self.l[1](h, b)\nreturn h",
    ),
    "a name that is read meanwhile": (
        "h = self.h(x)\ne = self.e(x)\nm = F.mask(h, e)\nh = self.l[0](e, m)\nh = self.l[1](h, m)\nreturn h",
        "h = self.h(x)\ne = self.e(x)\nm = F.mask(h, e)\nh = self.l[0](e, m)\nh = self.l[1](h, m)\nreturn h",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_layers_hand_on_one_variable(name):
    given, wanted = CHAINS[name]
    assert text(one_variable(statements(given), _list_called)) == wanted.splitlines()
