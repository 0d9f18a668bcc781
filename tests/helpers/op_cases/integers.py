"""Cases of integers of every width."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import C, Case, X, case


def cases() -> list[Case]:
    """What types of integers do at their ends: they round to zero, wrap, and keep their width."""
    big = X((2, 3), "uint64", make=lambda x: (np.abs(x) * 2**62).astype("u8"))
    small = X((2, 3), "int8", make=lambda x: np.clip(100 * x, -128, 127))
    some = C([3, 7, 2**63 + 5], "uint64")
    found = [case(op, big, some) for op in ("Add", "Mul", "Div", "Mod", "Max", "Min", "Less", "Equal", "BitwiseXor")]
    return [
        *found,
        *(case(op, small, C([3, -7, -1], "int8")) for op in ("Add", "Mul", "Max", "GreaterOrEqual")),
        case("Div", X((2, 3), "int8", make=lambda x: 40 * x), C([3, -7, 11], "int8")),
        case("Mod", small, C([3, -7, 11], "int8"), fmod=1),
        case("Mod", small, C([3, -7, 11], "int8")),
        *(case(f"Reduce{op}", small, C([1])) for op in ("Max", "Min")),
        *(case(f"Reduce{op}", X((2, 3), "uint32", make=np.abs), C([1])) for op in ("Sum", "Prod", "L1")),
        *(case(f"Reduce{op}", big, C([1])) for op in ("Max", "Sum")),
        case("ReduceMean", X((2, 3), "int32"), C([1])),
        case("ArgMax", X((2, 5), "uint8", make=lambda x: 200 * np.abs(x) % 256), axis=1),
        case("BitShift", X((2, 3), "uint8", make=lambda x: np.abs(x) * 50), C([1, 9, 3], "uint8"), direction="LEFT"),
        case("BitShift", big, C([1, 0, 63], "uint64"), direction="RIGHT"),
        case("Pow", X((2, 3), "int64"), C([2, 3, 0], "int64")),
        case("Where", X((2, 3), "bool", make=lambda x: x > 0), big, some),
        case("Cast", big, to=1),
        case("Sign", small),
        case("Abs", X((2, 3), "int16")),
        case("CumSum", X((2, 5), "uint32", make=np.abs), C(1)),
    ]
