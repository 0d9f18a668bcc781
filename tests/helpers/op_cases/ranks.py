"""Cases of tensors of many axes: TensorFlow's kernels take five or six of them at most."""

from __future__ import annotations

from tests.helpers.op_cases.case import C, Case, W, X, case

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


def cases() -> list[Case]:
    return [
        *(case(op, *pair) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum") for pair in (SIX, EIGHT, FLAT)),
        *(case("Mean", *pair, judge="onnxruntime") for pair in (SIX, EIGHT, FLAT)),
        *(case(op, *SIX) for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")),
        *(case(op, *map(_truth, SIX)) for op in ("And", "Or", "Xor", "Equal")),
        *(case(op, *map(_integer, SIX)) for op in ("Add", "Div", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor")),
        case("Mod", *SIX, fmod=1),
        case("Pow", *map(_positive, SIX)),
        case("Pow", _positive(SIX[0]), _integer(SIX[1])),
        case("Add", SIX[0], W((1, 3, 1, 2, 1, 4))),
        case("Add", W((1, 3, 1, 2, 1, 4)), SIX[0]),
        case("Where", _truth(SIX[0]), SIX[0], SIX[1]),
        case("PRelu", X((2, 3, 2, 3, 2, 4)), W((3, 1, 3, 1, 4))),
        case("Expand", X((2, 1, 3, 1, 2, 1, 2, 1)), C([1, 2, 1, 3, 1, 2, 1, 2])),
        case("Expand", X((2, 1, 1, 1, 1, 1, 2, 1)), C([1, 2, 2, 3, 1, 2, 1, 2])),
        case("Pad", X((2, 1, 2, 3, 1, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 2, 0])),
        case("Pad", X((2, 3, 2, 3, 2, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 1, 0]), mode="reflect"),
        case("Pad", X((2, 3, 2, 3, 2, 2)), C([0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 1, 0]), mode="edge"),
        case("Softmax", X((2, 2, 1, 3, 2, 4)), axis=-1),
        case("Softmax", X((2, 2, 1, 3, 2, 4, 2)), axis=2),
        case("LogSoftmax", X((2, 2, 1, 3, 2, 4)), axis=-1),
        case("Relu", X((2, 2, 1, 3, 2, 4, 2))),
        case("Gelu", X((2, 2, 1, 3, 2, 4, 2))),
        case("Transpose", X((2, 2, 1, 3, 2, 4, 2)), perm=[0, 2, 4, 6, 1, 3, 5]),
        case("dlbridge:Linear", X((3,), free=()), W((2, 3)), W((2,))),
        case("dlbridge:Linear", X((3,), free=()), W((2, 3))),
        case("dlbridge:Linear", X((2, 2, 1, 3, 2, 4, 2)), W((3, 2)), W((3,))),
    ]
