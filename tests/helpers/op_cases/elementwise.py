"""Cases of elementwise ops and activations."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import IMAGE, SQUARE, C, Case, W, X, case, positive

_UNARY = {
    "Abs": None, "Ceil": None, "Cos": None, "Cosh": None, "Erf": None, "Exp": None, "Floor": None, "Identity": None,
    "Neg": None, "Reciprocal": positive, "Round": None, "Sign": None, "Sin": None, "Sinh": None, "Sqrt": positive,
    "Tan": None, "Tanh": None, "Atan": None, "Asinh": None, "Log": positive, "Acosh": lambda x: np.abs(x) + 1,
    "Acos": np.tanh, "Asin": np.tanh, "Atanh": np.tanh, "IsNaN": np.log, "IsInf": lambda x: 1 / np.round(x),
    "Relu": None, "Sigmoid": None, "Softplus": None, "Softsign": None, "HardSwish": None, "Mish": None,
}  # fmt: skip
_BINARY = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "Equal",
    "Max",
    "Min",
    "Mean",
    "Sum",
)


def cases() -> list[Case]:
    found = [case(op, X((2, 3, 3), make=make)) for op, make in _UNARY.items()]
    for op in _BINARY:
        found += [case(op, SQUARE, X((1, 4, 1, 1), free=())), case(op, X((2, 3)), C(0.5, "float32"))]
    for op in ("And", "Or", "Xor"):
        found.append(case(op, X((2, 3), "bool", make=lambda x: x > 0), X((3,), "bool", (), lambda x: x > 0)))
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        found.append(case(op, X((2, 3), "int32"), X((3,), "int32", free=())))
    nonzero = X((3,), "int32", (), lambda x: np.where(x > 0, 3, -2))
    base = X((2, 3), make=positive)
    return [
        *found,
        case("Sum", IMAGE, IMAGE, X((6,), free=())),
        case("Add", X((3, 3)), X((3, 1))),
        case("Add", X((3, 1)), X((1, 3), free=(1,))),
        case("Add", X((1, 4, 1), free=()), X((1, 1, 4), free=())),
        case("Add", X((2, 3, 1)), X((3,), free=())),
        case("Add", X((3, 3), free=()), X((1, 1, 3), free=())),
        case("Sum", X((4, 1, 1), free=()), X((1, 4, 1, 1), free=()), SQUARE),
        case("Mean", SQUARE, X((4, 1, 1), free=()), X((1, 1, 4), free=())),
        case("Max", IMAGE, IMAGE, X((6,), free=())),
        case("Not", X((2, 3), "bool", make=lambda x: x > 0)),
        case("BitwiseNot", X((2, 3), "int32")),
        case("BitShift", X((2, 3), "uint8", make=positive), C(2, "uint8"), direction="LEFT"),
        case("BitShift", X((2, 3), "uint8", make=lambda x: np.abs(x) * 50), C(2, "uint8"), direction="RIGHT"),
        case("Div", X((2, 3), "int32"), nonzero),
        case("Div", X((2, 3), "int32"), C([7, -3, 2], "int32")),
        case("Mod", X((2, 3), "int32"), nonzero),
        case("Mod", X((2, 3), "int32"), nonzero, fmod=1),
        case("Mod", X((2, 3)), C(-0.7, "float32"), fmod=1),
        case("Pow", base, C(2.0, "float32")),
        case("Pow", base, C(-0.5, "float32")),
        case("Pow", base, X((3,), "int64", free=())),
        case("Pow", X((2, 3), "int32", make=lambda x: np.abs(x * 3)), C(2.0, "float32")),
        case("Add", X((2, 3), "uint16", make=positive), X((3,), "uint16", (), positive)),
        case("Less", X((2, 3), "uint64", make=lambda x: np.abs(x).astype("u8") << 62), C(5, "uint64")),
        case("Where", X((2, 3), "bool", make=lambda x: x > 0), X((2, 3)), X((3,), free=())),
        case("Where", X((2, 3), "bool", make=lambda x: x > 0), X((2, 3)), C(-1.0, "float32")),
        case("Cast", X((2, 3)), to=7),
        case("Cast", X((2, 3), "int64"), to=1),
        case("Cast", X((2, 3)), to=9),
        case("Cast", X((2, 3)), to=10),
        case("Cast", X((2, 3), make=lambda x: 1000 * x), to=17),
        case("Cast", X((2, 3), make=lambda x: 1000 * x), to=17, saturate=0),
        case("Cast", X((2, 3), make=lambda x: 1000 * x), to=19, saturate=0),
        case("Clip", IMAGE, C(-0.5, "float32"), C(0.5, "float32")),
        case("Clip", IMAGE, None, C(0.5, "float32")),
        case("Clip", IMAGE, C(0.0, "float32")),
        case("Clip", IMAGE, X((), free=()), C(0.5, "float32")),
        case("Clip", X((2, 3), "int32"), C(1, "int32"), C(-1, "int32")),
        case("IsInf", X((2, 9), make=lambda x: 1 / np.round(x)), detect_negative=0),
        case("IsInf", X((2, 9), make=lambda x: 1 / np.round(x)), detect_positive=0),
        case("Elu", IMAGE, alpha=0.5),
        case("Celu", IMAGE, alpha=0.5),
        case("Selu", IMAGE),
        case("Selu", IMAGE, alpha=1.5, gamma=0.9),
        case("Gelu", IMAGE, layer="F.gelu(in0)"),
        case("Gelu", IMAGE, approximate="tanh"),
        case("LeakyRelu", IMAGE),
        case("LeakyRelu", IMAGE, alpha=0.3),
        case("LeakyRelu", IMAGE, alpha=-0.5),
        case("PRelu", IMAGE, W((3, 1, 1))),
        case("PRelu", IMAGE, W((1,))),
        case("PRelu", IMAGE, W((3, 7, 6))),
        case("PRelu", X((2, 4, 4, 4)), W((4,))),
        case("HardSigmoid", IMAGE),
        case("HardSigmoid", IMAGE, alpha=0.3, beta=-0.1),
        case("HardSigmoid", IMAGE, alpha=1 / 6, beta=0.5, layer="F.hardsigmoid"),
        case("ThresholdedRelu", IMAGE, alpha=0.3),
        case("Shrink", IMAGE, lambd=0.5),
        case("Shrink", IMAGE, lambd=0.5, bias=0.5),
        case("Shrink", IMAGE, lambd=0.5, bias=0.1),
        case("Shrink", IMAGE, lambd=0.8, bias=-0.3),
        case("SwiGLU", IMAGE, IMAGE, judge="reference"),
        case("SwiGLU", IMAGE, IMAGE, alpha=0.7),
        case("Swish", IMAGE),
        case("Swish", IMAGE, alpha=1.7),
        case("Softmax", IMAGE),
        case("Softmax", IMAGE, axis=1),
        case("LogSoftmax", IMAGE, axis=-2),
        case("Softmax", IMAGE, axis=0),
        case("Hardmax", X((2, 3, 3), make=np.round), axis=1),
        case("Softplus", X((2, 3), "float64", make=lambda x: 20 * x), tolerance=1e-12),
    ]
