"""Random numbers: Keras' own, of the node's seed where it has one."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dlbridge.frameworks.keras.rules import in_dtype, keras_dtype, rules
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call, code


def _options(op: Op) -> dict[str, Any]:
    seed, dtype = op.attr("seed"), op.out_dtype()
    return {"dtype": None if dtype == ir.DataType.FLOAT else keras_dtype(op, dtype)} | (
        {} if seed is None else {"seed": int(seed)}
    )


@rules("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
def random(op: Op) -> Code:
    like = op.key.endswith("Like")
    shape = tuple(op.sizes()) if like else tuple(op.attr("shape"))
    if "Normal" in op.key:
        given = {"mean": (op.attr("mean"), 0.0), "stddev": (op.attr("scale"), 1.0)}
        function = "keras.random.normal"
    else:
        given = {"minval": (op.attr("low"), 0.0), "maxval": (op.attr("high"), 1.0)}
        function = "keras.random.uniform"
    return call(function, shape, **{k: v for k, (v, usual) in given.items() if v != usual}, **_options(op))


@rules("Bernoulli")
def bernoulli(op: Op) -> Code:
    seed = {} if op.attr("seed") is None else {"seed": int(op.attr("seed"))}
    drawn = call("keras.random.uniform", tuple(op.sizes()), **seed)
    return in_dtype(op, code("{} < {}", drawn, op.x if op.dtype() == ir.DataType.FLOAT else _single(op)))


def _single(op: Op) -> Code:
    return call("ops.cast", op.x, "float32")


@rules("Multinomial")
def multinomial(op: Op) -> Code:
    seed = {} if op.attr("seed") is None else {"seed": int(op.attr("seed"))}
    return call("keras.random.categorical", op.x, op.attr("sample_size"), dtype=keras_dtype(op, op.out_dtype()), **seed)
