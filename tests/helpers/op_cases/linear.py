"""Cases of products of matrices and embeddings."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import Case, W, X, case


def cases() -> list[Case]:
    vectors, weight, bias = X((2, 5)), W((4, 5)), W((4,))
    return [
        case("dlbridge:Linear", vectors, weight, bias, layer="nn.Linear(5, 4)"),
        case("dlbridge:Linear", vectors, weight, layer="bias=False"),
        case("dlbridge:Linear", X((2, 3, 5), free=(0, 1)), weight, bias, layer="nn.Linear(5, 4)"),
        case("dlbridge:Linear", vectors, X((4, 5), free=()), X((4,), free=())),
        case(
            "dlbridge:Embedding", X((2, 3), "int64", make=lambda x: np.abs(x * 3) % 6), W((6, 4)), layer="nn.Embedding"
        ),
        *(
            case("dlbridge:CausalMask", X((2, 4, 3), free=free), *padding, axis=axis, window=window)
            for free, axis, window, padding in (
                ((0,), 1, 0, ()),
                ((1,), 1, 2, ()),
                ((0,), 2, 0, (X((2, 4), "bool", make=lambda x: x > -1),)),
                ((0, 1), 1, 3, (X((2, 4), "bool", free=(0, 1), make=lambda x: x > -1),)),
                ((0,), 1, 2, (X((2, 7), "bool", make=lambda x: x > -1),)),
            )
        ),
        *(
            case(
                "dlbridge:RelativeBuckets",
                X((5, 9), "int64", make=lambda x: x * 37),
                num_buckets=count,
                max_distance=limit,
                bidirectional=both,
            )
            for count, limit, both in ((32, 128, 1), (32, 128, 0), (8, 20, 1))
        ),
        case("dlbridge:RotateHalves", X((2, 4, 3, 6)), X((3, 6), free=()), X((3, 6), free=())),
        case("dlbridge:RotateHalves", X((2, 3, 6), free=(0, 1)), X((3, 6)), X((3, 6))),
        case("MatMul", vectors, W((5, 3))),
        case("MatMul", X((2, 3, 5)), X((2, 5, 3))),
        case("MatMul", X((5,), free=()), X((2, 5, 3))),
        case("MatMul", X((2, 5), "int64"), X((5, 2), "int64", free=())),
        case("Gemm", vectors, W((4, 5)), W((4,)), transB=1),
        case("Gemm", X((5, 2), free=(1,)), W((5, 3)), transA=1),
        case("Gemm", vectors, W((5, 3)), W((3,)), alpha=0.5, beta=2.0),
        case("Gemm", vectors, W((5, 3)), W((1, 3)), beta=0.0),
        case("Gemm", X((5, 2), free=(1,)), X((4, 5), free=()), X((2, 1)), transA=1, transB=1, alpha=0.5),
        case("Gemm", vectors, W((5, 3))),
        case("Einsum", X((2, 3, 4)), X((2, 4, 5)), equation="bij,bjk->bik"),
        case("Einsum", X((2, 3, 3)), equation="...ii->...i"),
        case("Einsum", X((2, 3)), X((3, 4), free=()), equation="ij,jk"),
        case("Einsum", X((2, 3, 4)), X((2, 4, 5)), equation="bIJ,bJk->bIk"),
        case("Einsum", X((2, 3)), X((3, 4), free=()), equation="bA,AB"),
        case("Einsum", X((2, 3)), X((3, 4), free=()), X((4, 5), free=()), equation="ij,jk,kl->il"),
    ]
