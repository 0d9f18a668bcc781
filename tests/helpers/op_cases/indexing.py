"""Cases of reading and writing by index."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import C, Case, X, case


def cases() -> list[Case]:
    x, places = X((2, 3, 4)), X((2, 2, 4), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 6 - 3)
    rows = X((2, 2, 2), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 3)
    pairs = X((2, 3, 1), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 4 - 2)
    indices = X((2, 3), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 7 - 3)
    values, lengths = C([-1.0, 2.0], "float32"), C([2, 0, 3])
    distinct = C([[[3], [0]], [[2], [1]]])
    found = [
        case("GatherElements", x, places, axis=1),
        case(
            "GatherElements", x, X((2, 3, 2), "int64", make=lambda n: np.zeros(n.shape)), axis=-1, judge="onnxruntime"
        ),
        case("GatherElements", x, C([[[0, 1]]]), axis=0, judge="onnxruntime"),
        case("GatherElements", X((2, 3)), C([[1, -1]]), axis=1, judge="onnxruntime"),  # of the first row alone
        case("GatherND", x, C([[0, 1], [-1, 2]])),
        case("GatherND", x, rows, batch_dims=1),
        case("GatherND", x, pairs, batch_dims=2),
        case("ScatterElements", X((3, 3)), C([[1, 0, 2]]), X((1, 3), free=())),
        case("ScatterND", X((4, 3)), distinct, X((2, 2, 3), free=())),
        case("TensorScatter", X((2, 5, 4)), X((2, 2, 4)), axis=1),
        case("TensorScatter", X((2, 2, 5, 3), free=()), X((2, 2, 2, 3), free=()), C([4, 1]), mode="circular"),
        case("OneHot", indices, C(4), values),
        case("OneHot", indices, C(3), values, axis=0),
        case("OneHot", indices, X((), "int64", free=(), make=lambda _: 4), values, axis=1),
        case("ReverseSequence", X((4, 3)), lengths),
        case("ReverseSequence", X((3, 4, 2), free=(2,)), lengths, batch_axis=0, time_axis=1),
        case("NonZero", X((2, 3), make=np.round)),
        case("Compress", X((3, 2)), X((3,), "bool", make=lambda n: n > 0), axis=0),
        case("Compress", X((3, 2)), C([True, False, True, True], "bool")),
        case("Unique", X((8,), make=np.round), outputs=4),
        case("Unique", X((8,), make=np.round), sorted=0, outputs=4, judge="onnxruntime"),
        case("Unique", X((6, 2), make=lambda n: np.sign(n) + 1), axis=0, outputs=4),
    ]
    for how in ("add", "mul", "max", "min"):
        again = C([[1, -3, 1], [1, 0, 1]])
        found += [
            case("ScatterElements", X((3, 3)), again, X((2, 3), free=()), axis=1, reduction=how),
            case("ScatterND", X((4, 3)), C([[1], [-1], [1]]), X((3, 3), free=()), reduction=how),
        ]
    boxes, scores = X((2, 6, 4), make=np.abs), X((2, 3, 6), make=np.tanh)
    limits = (C([2]), C([0.3], "float32"), C([0.1], "float32"))
    return [
        *found,
        case("NonMaxSuppression", boxes, scores, *limits),
        case("NonMaxSuppression", boxes, scores, *limits[:2], center_point_box=1, judge="onnxruntime"),
        case(
            "TfIdfVectorizer",
            X((2, 9), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 5),
            mode="TFIDF", min_gram_length=1, max_gram_length=2, max_skip_count=1, ngram_counts=[0, 2],
            ngram_indexes=[0, 1, 2, 3], pool_int64s=[1, 3, 0, 1, 2, 4], weights=[1.0, 2.0, 3.0, 0.5],
        ),
    ]  # fmt: skip
