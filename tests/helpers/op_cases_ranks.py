"""Cases, as those of op_cases, of tensors of many axes: TensorFlow's kernels take five or six of them at most."""

from __future__ import annotations

from tests.helpers.op_cases import C, Case, W, X, _case

#: Shapes that broadcast along six parts and eight.
SIX = X((2, 1, 3, 1, 2, 1)), X((1, 3, 1, 2, 1, 4), free=())
EIGHT = X((2, 1, 3, 1, 2, 1, 2, 1)), X((3, 1, 2, 1, 4, 1, 2), free=())
#: Six axes, but two parts.
FLAT = X((2, 3, 2, 1, 1, 1)), X((2, 2, 3), free=())


def _integer(x: X) -> X:
    return X(x.shape, "int64", x.free, make=lambda n: (abs(n) * 3).round() + 1)


def _truth(x: X) -> X:
    return X(x.shape, "bool", x.free, make=lambda n: n > 0)


def _positive(x: X) -> X:
    return X(x.shape, "float32", x.free, make=lambda n: abs(n) + 0.5)


CASES: list[Case] = [
    *(_case(op, *pair) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum") for pair in (SIX, EIGHT, FLAT)),
    *(_case("Mean", *pair, judge="onnxruntime") for pair in (SIX, EIGHT, FLAT)),
    *(_case(op, *SIX) for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")),
    *(_case(op, *map(_truth, SIX)) for op in ("And", "Or", "Xor", "Equal")),
    *(_case(op, *map(_integer, SIX)) for op in ("Add", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    _case("Mod", *SIX, fmod=1),
    _case("Pow", *map(_positive, SIX)),
    _case("Pow", _positive(SIX[0]), _integer(SIX[1])),
    _case("Add", SIX[0], W((1, 3, 1, 2, 1, 4))),
    _case("Add", W((1, 3, 1, 2, 1, 4)), SIX[0]),
    _case("Where", _truth(SIX[0]), SIX[0], SIX[1]),
    _case("PRelu", X((2, 3, 2, 3, 2, 4)), W((3, 1, 3, 1, 4))),
    _case("Expand", X((2, 1, 3, 1, 2, 1, 2, 1)), C([1, 2, 1, 3, 1, 2, 1, 2])),
    _case("Expand", X((2, 1, 1, 1, 1, 1, 2, 1)), C([1, 2, 2, 3, 1, 2, 1, 2])),
    _case("Pad", X((2, 1, 2, 3, 1, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 2, 0])),
    _case("Pad", X((2, 3, 2, 3, 2, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 1, 0]), mode="reflect"),
    _case("Pad", X((2, 3, 2, 3, 2, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 1, 0]), mode="edge"),
    _case("Softmax", X((2, 2, 1, 3, 2, 4)), axis=-1),
    _case("Softmax", X((2, 2, 1, 3, 2, 4, 2)), axis=2),
    _case("LogSoftmax", X((2, 2, 1, 3, 2, 4)), axis=-1),
    _case("Relu", X((2, 2, 1, 3, 2, 4, 2))),
    _case("Gelu", X((2, 2, 1, 3, 2, 4, 2))),
    _case("Transpose", X((2, 2, 1, 3, 2, 4, 2)), perm=[0, 2, 4, 6, 1, 3, 5]),
    _case("dlbridge:Linear", X((3,), free=()), W((2, 3)), W((2,))),
    _case("dlbridge:Linear", X((3,), free=()), W((2, 3))),
    _case("dlbridge:Linear", X((2, 2, 1, 3, 2, 4, 2)), W((3, 2)), W((3,))),
]
