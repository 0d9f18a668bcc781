"""Ops that are functions of arrays, written once for the frameworks that have them.

A rule here takes an ``Op`` and an ``ArrayDialect``, which says how a framework spells what ``keras.ops``, ``torch`` and
``jax.numpy`` all have: names of functions, dtypes, casts. A framework adopts the rules of a family into its own
(``Family.adopt``), and keeps rules of its own for layers and for what it really says another way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import onnx_ir as ir

from dlbridge.source.arrays.spelling import Spelling
from dlbridge.source.op import Emit, Op, Rules
from dlbridge.source.tree.code import Code, Raw, call, code


@dataclass(frozen=True)
class Activation:
    """How a framework says an activation.

    Attributes:
        function: The function of one array.
        layer: The class of the layer that does the same, or the code that makes the layer; None where there is none.
        keywords: Attribute of the op -> what the function and the class call it.
        usual: The number that is not printed, as both take it where they are told none.
    """

    function: str
    layer: str | Code | None = None
    keywords: Mapping[str, str] = field(default_factory=dict)
    usual: float | None = None


@dataclass(frozen=True)
class ArrayDialect:
    """How a framework spells functions of arrays.

    Attributes:
        spelling: What functions are called.
        dtype: A dtype as the code names it; refuses one that the framework does not have.
        cast: ``x`` in a dtype.
        ints: The elements of an integer input: a list of numbers and Python expressions, or code that makes the list.
        number: The one element of an input: a number, a Python expression, or code that reads it.
        widened: The types whose sums and products the framework gives in a wider one.
        usual: The type of new arrays whose dtype is not said.
        in_python: What makes of an array one that has ``tolist()`` and ``item()``.
        activations: The activations that it has: op -> how it says it.
        special: The special functions that it has: op -> what it calls it.
        dropout: Code that makes a layer which drops elements with a probability, in training alone.
    """

    spelling: Spelling
    dtype: Callable[[Op, ir.DataType], Raw]
    cast: Callable[[Any, Raw], Code]
    ints: Callable[[Op, int], Any]
    number: Callable[[Op, int], Any]
    dropout: Callable[[float], Code]
    widened: frozenset[str] = frozenset()
    usual: ir.DataType | None = None
    in_python: str = "{}"
    activations: Mapping[str, Activation] = field(default_factory=dict)
    special: Mapping[str, str] = field(default_factory=dict)

    def name(self, function: str) -> str:
        """What the framework calls a function, which is named as in ``keras.ops``."""
        return self.spelling.name(function)

    def call(self, function: str, *args: Any, **keywords: Any) -> Code:
        """A call of a function, which is named as in ``keras.ops``; keywords that are None are left out."""
        return call(self.name(function), *args, **keywords)

    def new_dtype(self, op: Op) -> Raw | None:
        """The dtype to give to a function that makes the output; None where it is the usual one."""
        return None if op.out_dtype() == self.usual else self.dtype(op, op.out_dtype())

    def listed(self, x: Any) -> Code:
        """Code that reads the numbers in an array as a list."""
        return code(f"{self.in_python}.tolist()", x)

    def in_dtype(self, op: Op, result: Any, dtype: ir.DataType | None = None) -> Code:
        """A result in a dtype, by default the output's, that the framework would not give it."""
        return self.cast(result, self.dtype(op, dtype or op.out_dtype()))


def number(op: Op, index: int, read: str) -> Any:
    """The one element of an input: a number, a Python expression, or code (``read``, of the array) that reads it."""
    found = op.ints(index)
    if found:
        return found[0]
    value = op.scalar(index)
    return code(read, op[index]) if value is None else value


ArrayRule = Callable[[Op, ArrayDialect], Emit | Code]
#: A rule, with what it takes besides.
_Rule = TypeVar("_Rule", bound=Callable[..., Emit | Code])


class Family:
    """Rules over an array dialect; ``@family("Tile")`` makes a function the rule of an op."""

    def __init__(self) -> None:
        #: (domain, op type) -> rule.
        self.table: dict[tuple[str, str], ArrayRule] = {}

    def __call__(self, *op_types: str, domain: str = "") -> Callable[[_Rule], _Rule]:
        def register(rule: _Rule) -> _Rule:
            for op_type in op_types:
                self.table[domain, op_type] = rule
            return rule

        return register

    def adopt(self, rules: Rules, dialect: ArrayDialect) -> None:
        """Make these rules a framework's, in its dialect, except where it has one of its own, before or after."""
        for (domain, op_type), rule in self.table.items():
            if (domain, op_type) not in rules.table:
                rules(op_type, domain=domain)(_in_dialect(rule, dialect))


def _in_dialect(rule: ArrayRule, dialect: ArrayDialect) -> Callable[[Op], Emit | Code]:
    @functools.wraps(rule)
    def written(op: Op) -> Emit | Code:
        return rule(op, dialect)

    return written


def as_many_as_read(op: Op, whole: Code, count: int) -> Emit:
    """The results of a helper that gives ``count`` values, of which the node has the first ones as outputs."""
    outputs = len(op.node.outputs)
    if outputs == 1:
        return Emit(code("{}[0]", whole))
    return Emit(whole if outputs == count else code(f"{{}}[:{outputs}]", whole))
