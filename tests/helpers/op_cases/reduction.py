"""Cases of reductions."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import IMAGE, C, Case, X, case, positive


def cases() -> list[Case]:
    found = []
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        image = X((2, 3, 4, 4), make=positive)
        found += [
            case(f"Reduce{op}", image),
            case(f"Reduce{op}", image, C([1]), keepdims=0),
            case(f"Reduce{op}", image, C([-1, 1])),
            case(f"Reduce{op}", image, keepdims=0),
            case(f"Reduce{op}", image, noop_with_empty_axes=1),
        ]
    noop = {"noop_with_empty_axes": 1}
    return [
        *found,
        case("ReduceSum", IMAGE, **noop),
        case("ReduceSum", IMAGE, C([], "int64"), **noop),
        case("ReduceSum", IMAGE, X((2,), "int64", free=(), make=lambda _: [1, 2])),
        case("ReduceMax", X((2, 0, 3)), C([1])),
        case("ReduceSum", X((2, 0, 3)), C([1])),
        case("ReduceMax", X((2, 3), "bool", make=lambda x: x > 0), C([1])),
        case("ReduceSum", X((2, 3), "int32"), C([1])),
        case("ArgMax", X((2, 3, 4), make=np.round), axis=1),
        case("ArgMax", X((2, 3, 4), make=np.round), axis=-1, keepdims=0, select_last_index=1),
        case("ArgMin", X((2, 3, 4), make=np.round), axis=2, keepdims=0),
        case("ArgMin", X((2, 3, 4), make=np.round), select_last_index=1),
        case("TopK", X((2, 6)), C([3]), outputs=2),
        case("TopK", X((2, 6), make=np.round), C([4]), largest=0, outputs=2),
        case("TopK", X((2, 6, 2)), C([2]), axis=1, outputs=2),
        case("TopK", X((2, 6)), C([1]), sorted=0, outputs=2),
        case("CumSum", IMAGE, C(1)),
        case("CumSum", IMAGE, C(-1), exclusive=1),
        case("CumSum", IMAGE, C(2), reverse=1),
        case("CumSum", X((2, 5), "int32"), C(1), exclusive=1, reverse=1),
    ]
