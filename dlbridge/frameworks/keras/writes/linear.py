"""Layers that multiply by a matrix: Linear, Embedding, MatMul, Gemm, Einsum."""

from __future__ import annotations

import string
from typing import Any

from dlbridge.frameworks.keras.rules import FORM, keras_dtype, rules
from dlbridge.source.arrays.indexing import padded
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Code, Literal, call, code


@rules("Linear", domain=FORM)
@rules("Linear", domain="dlbridge")
def linear(op: Op) -> Emit | Code:
    weights = op.kernel_and_bias(("transpose", (1, 0)))
    if op.rank() == 1:  # a Dense layer takes batches alone
        product = call("ops.matmul", call("ops.expand_dims", op[0], 0), call("ops.transpose", op[1]))
        product = code("{}[0]", product)
        return code("{} + {}", op[2], product) if op.has(2) else product
    if weights is None:
        product = code("ops.matmul({}, ops.transpose({}))", op[0], op[1])
        return code("{} + {}", op[2], product) if op.has(2) else product
    units = op.shape(1)[0]  # type: ignore[index]
    keywords = {"activation": op.attr("activation"), "use_bias": None if "bias" in weights else False}
    return Emit(call(LAYER, op.x), Layer(call("layers.Dense", Literal(units, "units"), **keywords), weights))


@rules("Embedding", domain=FORM)
@rules("Embedding", domain="dlbridge")
def embedding(op: Op) -> Emit | Code:
    weight = op.weight(1)
    if weight is None:
        return padded(op, call("ops.take", op[1], op[0], axis=0))
    count, size = op.shape(1)  # type: ignore[misc]
    new = code("layers.Embedding({input_dim}, {output_dim})", input_dim=count, output_dim=size)
    return Emit(padded(op, call(LAYER, op.x)), Layer(new, {"embeddings": weight}))


@rules("MatMul")
def matmul(op: Op) -> Code:
    return product(op, op[0], op[1])


def product(op: Op, left: Any, right: Any) -> Code:
    """Keras multiplies matrices of integers in floats, which are not exact."""
    return call("ops.matmul" if op.dtype().is_floating_point() else "integer_matmul", left, right)


@rules("Gemm")
def gemm(op: Op) -> Code:
    left = call("ops.transpose", op[0]) if op.attr("transA") else op[0]
    right = call("ops.transpose", op[1]) if op.attr("transB") else op[1]
    result = product(op, left, right)
    if op.attr("alpha") != 1.0:
        result = code("{} * {}", op.attr("alpha"), result)
    if not op.has(2):
        return result
    added = op[2] if op.attr("beta") == 1.0 else code("{} * {}", op.attr("beta"), op[2])
    return code("{} + {}", added, result)


@rules("Einsum")
def einsum(op: Op) -> Code:
    equation = _without_dots(op, op.attr("equation").replace(" ", ""))
    letters = sorted(set(filter(str.isalpha, equation)))
    if not equation.islower():  # Keras infers shapes for small letters alone
        if "->" not in equation:
            dots = "..." if "..." in equation else ""
            equation += f"->{dots}{''.join(a for a in letters if equation.count(a) == 1)}"
        equation = equation.translate({ord(a): b for a, b in zip(letters, string.ascii_lowercase, strict=False)})
    if op.dtype().is_floating_point():
        return call("ops.einsum", equation, *op.tensors)
    factors = [call("ops.cast", x, "float64") for x in op.tensors]  # Keras would take the default float type
    return call("ops.cast", call("ops.einsum", equation, *factors), keras_dtype(op, op.out_dtype()))


def _without_dots(op: Op, equation: str) -> str:
    """The equation with letters for an ellipsis, where one operand alone has axes there.

    Keras infers a right shape only of an ellipsis at the front.
    """
    inputs, arrow, output = equation.partition("->")
    ranks = [op.rank(i) for i in range(len(op.node.inputs))]
    free = [rank - len(spec.replace("...", "")) for rank, spec in zip(ranks, inputs.split(","), strict=True)]
    if output.startswith("...") or "..." not in inputs or not arrow or sum(n > 0 for n in free) > 1:
        return equation
    fresh = [c for c in string.ascii_letters if c not in equation][: max(free)]
    specs = [spec.replace("...", "".join(fresh) if n else "") for spec, n in zip(inputs.split(","), free, strict=True)]
    return f"{','.join(specs)}->{output.replace('...', ''.join(fresh))}"
