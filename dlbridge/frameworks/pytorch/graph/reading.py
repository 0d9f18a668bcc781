"""The registry of the reading rules, and ``Op``: what a rule sees of a call, and how it makes nodes.

A rule is a function with the parameters of the ATen op, after ``op``::

    @reads("aten.celu")
    def celu(op, x, alpha=1.0):
        return op("Celu", x, alpha=alpha)

Tensors come as ``ir.Value``; sizes as an int, or as a sympy expression where they are symbolic; dtypes as
``torch.dtype``. Arguments about a tensor's place in memory (``device``, ``layout``, ...) are left out. A rule returns
one value, or a list if the op has several results. An in-place op has the rule of the op without ``_``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import sympy

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.fx.schema import plain_name
from dlbridge.frameworks.pytorch.fx.tensors import (
    DTYPES,
    Size,
    common_sizes,
    known_sizes,
    numel,
    onnx_dtype,
    rank,
    sizes,
    sizes_of,
    with_sizes,
)
from dlbridge.ops import element_types, extension
from dlbridge.ops.elementwise import BROADCASTING_OPS, UNARY_OPS
from dlbridge.ops.keys import is_op, op_key

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.export.training_mode import TrainingMode
    from dlbridge.frameworks.pytorch.graph.program import Program

Rule = Callable[..., Any]


#: Key of ``node.meta``: the path that a rule gives to a node, if one module becomes several layers.
LAYER_NAME = "pytorch.layer_name"
#: Key of ``node.meta``: the node is the whole of its module, as it is with PyTorch's own layers.
WHOLE_MODULE = "pytorch.whole_module"

#: Name of an ATen op (``aten.add`` or, for one overload, ``aten.add.Tensor``) -> its rule.
RULES: dict[str, Rule] = {}
#: The same for calls with complex tensors among their arguments or results.
COMPLEX_RULES: dict[str, Rule] = {}


def reads(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: this function reads these ATen ops."""

    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return register


def reads_unary(ops: Mapping[str, str], domain: str = "") -> None:
    """Let ATen ops of one tensor be ops of the same meaning, computed in the dtype of the result.

    Args:
        ops: Name of an ATen op -> the op that it is.
        domain: That of these ops: the standard's, or ours.
    """

    @reads(*(f"aten.{name}" for name in ops))
    def unary(op: Op, x: ir.Value) -> ir.Value:
        return op(ops[op.name], op.cast(x), domain=domain)


def reads_complex(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: this function reads these ATen ops when an argument or a result is complex."""

    def register(rule: Rule) -> Rule:
        COMPLEX_RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def rule_of(target: Any) -> Rule | None:
    """The rule of an ATen op: of its overload, else of all its overloads.

    ``add_`` has the rule of ``add``, ``view_copy`` that of ``view``.
    """
    name = plain_name(target)
    found = RULES.get(f"{name}.{compat.overload_name(target)}") or RULES.get(name)
    return found or RULES.get(name.removesuffix("_copy"))


_BOOLEAN = frozenset(
    {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf"}
)
_INT64 = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero"})


class Op:
    """A call of an ATen op, as a rule sees it.

    Attributes:
        program: What the nodes are added to.
        name: The op's name, without ``aten`` and overload; that of the op itself for an in-place one (``add``).
        val: What the call gives, as fake tensors: dtype and sizes are known.
        tensors: The tensors that it is given.
        dropped: The probability with which a call of attention drops its weights in training.
        stops: Whether the call keeps gradients from weights that train.
    """

    def __init__(self, program: Program, val: Any, tensors: Sequence[ir.Value], site: str, name: str = "") -> None:
        self.program = program
        self.val = val
        self.tensors = list(tensors)
        self.site, self.name = site, name
        self.dropped, self.stops = 0.0, False

    @property
    def path(self) -> str:
        """Path of the module whose code makes this call."""
        return self.program.frame.code

    # --- nodes -----------------------------------------------------------------------------------------------------

    def __call__(self, op_type: str, *inputs: Any, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Add a node, and return its output, or a list of several.

        Args:
            op_type: A standard op.
            inputs: Values; None for an optional input that is not given; a number, which becomes a constant of the
                type that the op asks for; a list of sizes, which becomes a vector of int64.
            outputs: How many outputs.
            domain: ``"dlbridge"`` for the ops of our own.
            attributes: Those that are None are left out.
        """
        values = [self._input(op_type, i, inputs) for i in range(len(inputs))]
        place, first = next(((i, v) for i, v in enumerate(inputs) if isinstance(v, ir.Value)), (0, None))
        narrow = first.dtype if first is not None and not domain else None
        wide = None if narrow is None else _wider(op_type, place, narrow)
        if narrow is not None and wide is not None:
            return element_types.in_wider(self, op_type, values, narrow, wide, outputs=outputs, **attributes)
        while values and values[-1] is None:
            values.pop()
        given = [_attribute(name, v) for name, v in attributes.items() if v is not None]
        node = ir.Node(domain, op_type, values, given, num_outputs=outputs)
        dtype = _result_dtype(node)
        if dtype is not None:
            for value in node.outputs:
                value.dtype = dtype
        of = _result_sizes(node, inputs)
        if of is not None:
            with_sizes(node.outputs[0], of)
        self.program.add(node, self)
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def extension(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """Add a node of the domain ``dlbridge``."""
        return self(op_type, *inputs, domain=extension.DOMAIN, **attributes)

    def _input(self, op_type: str, index: int, inputs: Sequence[Any]) -> ir.Value | None:
        value = inputs[index]
        if value is None or isinstance(value, ir.Value):
            return value
        if isinstance(value, (list, tuple)):
            return self.ints(value)
        return self.number(value, element_types.of_number(op_type, index, inputs) or ir.DataType.FLOAT)

    # --- constants and sizes ---------------------------------------------------------------------------------------

    def constant(self, array: Any, dtype: Any = None) -> ir.Value:
        """A constant of these numbers."""
        array = np.asarray(array)
        if dtype is not None:
            array = array.astype(onnx_dtype(dtype).numpy())
        return self.program.constant(array)

    def number(self, number: Any, dtype: Any) -> ir.Value:
        """A number, or a symbolic size, as a tensor of rank 0."""
        if isinstance(number, sympy.Expr):
            return self.cast(self.program.symbols.value(number, self, vector=False), dtype)
        return self.constant(number, dtype)

    def ints(self, sizes: Sequence[Size]) -> ir.Value:
        """Sizes as a vector of int64."""
        if all(isinstance(s, int) for s in sizes):
            return self.constant(np.asarray(sizes, np.int64))
        parts = [
            self.ints([s]) if isinstance(s, int) else self.program.symbols.value(s, self, vector=True) for s in sizes
        ]
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=0)

    def arange(self, size: Size) -> ir.Value:
        """0, 1, 2, ... up to a size, as int64."""
        if isinstance(size, int):
            return self.constant(np.arange(size))
        made = self("Range", *(self.number(n, ir.DataType.INT64) for n in (0, size, 1)))
        return with_sizes(made, [size])

    def filled(self, number: Any, dtype: Any, of: Sequence[Size]) -> ir.Value:
        """A tensor of these sizes, all of whose elements are one number."""
        return self("Expand", self.number(number, dtype), of)

    def sized(self, x: ir.Value, of: Sequence[Size]) -> ir.Value:
        """Set the sizes of a value; from now on the symbols among them can be computed from it."""
        self.program.symbols.note_sizes(x, list(of))
        return with_sizes(x, of)

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> ir.DataType:
        """dtype of the (first) result."""
        return DTYPES[self._first.dtype]

    @property
    def sizes(self) -> list[Size]:
        """Sizes of the (first) result."""
        return sizes_of(self._first)

    @property
    def _first(self) -> Any:
        return self.val[0] if isinstance(self.val, (list, tuple)) else self.val

    @property
    def layer_path(self) -> str:
        """Path of the innermost module around this call."""
        return self.program.frame.path

    @property
    def training(self) -> TrainingMode:
        """What is known of the model in training mode."""
        return self.program.training

    def refuse(self, why: str) -> Any:
        """Raise the error that this call cannot be read, and why."""
        raise UnsupportedOpError(why, where=self.site)

    # --- what rules share ------------------------------------------------------------------------------------------

    def cast(self, x: Any, dtype: Any = None) -> ir.Value:
        """A value, or a number, in a dtype, by default that of the result."""
        dtype = self.dtype if dtype is None else onnx_dtype(dtype)
        if not isinstance(x, ir.Value):
            return self.number(x, dtype)
        return x if x.dtype == dtype else self("Cast", x, to=int(dtype))

    def reshape(self, x: ir.Value, target: Sequence[Size]) -> ir.Value:
        """Reshape. Sizes that do not change, and one that follows from the others, are not computed."""
        have = known_sizes(x)
        if have is not None and list(have) == list(target):
            return x
        numbers = _in_numbers(target, have or [])
        if numbers is not None:
            made = self("Reshape", x, numbers)
        else:
            made = self("Reshape", x, target, allowzero=1 if 0 in target else None)
        return with_sizes(made, target)

    def flat(self, x: ir.Value) -> ir.Value:
        """All elements in a row."""
        return with_sizes(self("Reshape", x, [-1]), [numel(sizes(x))])

    def expand(self, x: ir.Value, target: Sequence[Size]) -> ir.Value:
        """Broadcast to these sizes."""
        return x if known_sizes(x) == list(target) else self("Expand", x, target)

    def transpose(self, x: ir.Value, perm: Sequence[int]) -> ir.Value:
        if list(perm) == sorted(perm):
            return x
        have = known_sizes(x)
        made = self("Transpose", x, perm=list(perm))
        return made if have is None else with_sizes(made, [have[p] for p in perm])

    def swap(self, x: ir.Value, first: int, second: int) -> ir.Value:
        """Exchange two axes."""
        perm = list(range(rank(x)))
        perm[first], perm[second] = perm[second], perm[first]
        return self.transpose(x, perm)

    def unsqueeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        made = self("Unsqueeze", x, list(axes))
        have = known_sizes(x)
        if have is None:
            return made
        out = list(have)
        total = len(have) + len(axes)
        for axis in sorted(a % total for a in axes):
            out.insert(axis, 1)
        return with_sizes(made, out)

    def squeeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        made = self("Squeeze", x, list(axes))
        have = known_sizes(x)
        gone = {a % len(have) for a in axes} if have is not None else set()
        return made if have is None else with_sizes(made, [s for i, s in enumerate(have) if i not in gone])

    def slice(self, x: ir.Value, axis: int, start: Size, end: Size, step: int = 1) -> ir.Value:
        made = self("Slice", x, [start], [end], [axis], None if step == 1 else [step])
        have = known_sizes(x)
        if have is not None and all(isinstance(s, int) for s in (start, end, have[axis])):
            length = len(range(*slice(start, end, step).indices(have[axis])))
            with_sizes(made, [*have[:axis], length, *have[axis + 1 :]])
        return made

    def binary(self, op_type: str, a: Any, b: Any, dtype: Any = None) -> ir.Value:
        """An elementwise op on operands cast to one dtype, by default that of the result."""
        return self(op_type, self.cast(a, dtype), self.cast(b, dtype))


def _in_numbers(target: Sequence[Size], have: Sequence[Size]) -> list[int] | None:
    """The sizes of a Reshape as the standard has them in numbers: 0 for one that an axis has already, -1 for one that
    follows from the others. None where they cannot be said so."""
    if 0 in target or -1 in target:  # those that torch was told have been replaced
        return None
    found = []
    for place, size in enumerate(target):
        if isinstance(size, int):
            found.append(size)
        else:
            found.append(0 if place < len(have) and have[place] == size else -1)
    return found if found.count(-1) <= 1 else None


#: ONNX ops of floats that PyTorch also has for integers. In float64 they are exact up to 2**53.
_OF_FLOATS = frozenset({"Conv", "ConvTranspose", "AveragePool", "MaxPool"})


def _wider(op_type: str, index: int, dtype: ir.DataType) -> ir.DataType | None:
    """The wider type to compute an op in, if the ONNX op does not accept this type; else None."""
    is_of_floats = op_type in _OF_FLOATS and dtype.is_integer()
    return ir.DataType.DOUBLE if is_of_floats else element_types.wider(op_type, index, dtype)


def _attribute(name: str, value: Any) -> ir.Attr:
    """An attribute, its type chosen by its value. (For lists of ints this is quicker than onnx_ir's conversion.)"""
    if any(isinstance(v, sympy.Expr) for v in (value if isinstance(value, (list, tuple)) else [value])):
        raise UnsupportedOpError(
            f"its '{name}' depends on a size that is not known before the model runs; give that size a number "
            "(float32[2,...]; for example tensors dynamic={})"
        )
    if isinstance(value, (list, tuple)) and all(type(v) is int for v in value):
        return ir.AttrInt64s(name, value)
    return ir.convenience.convert_attribute(name, value)


def _result_dtype(node: ir.Node) -> ir.DataType | None:
    """The dtype of a node's output, as far as rules need it before shape inference."""
    if op_key(node) in _BOOLEAN:
        return ir.DataType.BOOL
    if op_key(node) in _INT64:
        return ir.DataType.INT64
    if is_op(node, "Cast"):
        return ir.DataType(node.attributes["to"].as_int())
    if is_op(node, "ConstantOfShape"):
        return node.attributes["value"].as_tensor().dtype if "value" in node.attributes else ir.DataType.FLOAT
    if is_op(node, "Where", "Embedding"):
        position = 1
    elif is_op(node, "OneHot"):
        position = 2
    else:
        position = 0
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else value.dtype


#: Ops whose first output has the sizes of the first input.
_KEEP_SIZES = UNARY_OPS | {"CumProd", "CumSum", "LogSoftmax", "ScatterElements", "ScatterND", "Softmax", "Trilu"}


def _result_sizes(node: ir.Node, given: Sequence[Any]) -> list[Size] | None:
    """The sizes of what an op gives that keeps or broadcasts those of its inputs; None where they are not known."""
    key, shapes = op_key(node), [known_sizes(v) for v in node.inputs if v is not None]
    if key in _KEEP_SIZES:
        return shapes[0]
    if key == "Expand":
        shapes[1] = list(given[1]) if isinstance(given[1], (list, tuple)) else None
    known = [shape for shape in shapes if shape is not None]
    is_broadcast = key == "Expand" or key in BROADCASTING_OPS
    return common_sizes(known) if is_broadcast and len(known) == len(shapes) else None
