"""Decides whether rounding explains numbers beyond a test's tolerance, which may be finer than the type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from dlbridge.conformance.cases import Case


def explains(case: Case, given: list[list[np.ndarray]]) -> str | None:
    """Why numbers beyond the tolerance are not wrong: their rounding is about that of the test's own numbers.

    The rounding of the test's numbers is their distance from the exact ones, which the reference evaluator computes in
    float64. None if ours are more than twice as far, or if dtypes or shapes differ.
    """
    from dlbridge.conformance.cases import array

    evaluator = ReferenceEvaluator(_in_float64(case.proto))
    held = {i.name for i in case.proto.graph.initializer}
    names = [name for name in evaluator.input_names if name not in held]
    ours = theirs = 0.0
    for outputs, (inputs, expected) in zip(given, case.data, strict=True):
        feeds = dict(zip(names, (_widened(array(x)) for x in inputs), strict=True))
        for got, right, exact in zip(outputs, map(array, expected), evaluator.run(None, feeds), strict=True):
            if got.dtype != right.dtype or got.shape != right.shape:
                return None
            ours = max(ours, float(np.abs(_widened(got) - exact).max(initial=0)))
            theirs = max(theirs, float(np.abs(_widened(right) - exact).max(initial=0)))
    if not ours <= 2 * theirs:
        return None
    return (
        f"Rounding: {ours:.2g} from the numbers in float64, the test's own {theirs:.2g}, more apart than its tolerance"
    )


def _in_float64(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with constants and casts in float64."""
    model = ir.from_proto(proto)
    for node in model.graph.all_nodes():
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype.is_floating_point():
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(_widened(attribute.as_tensor().numpy())))
            elif name == "to" and ir.DataType(attribute.as_int()).is_floating_point():
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.DOUBLE))
    return ir.to_proto(model)


def _widened(numbers: np.ndarray) -> np.ndarray:
    """Floats as float64."""
    return numbers.astype(np.float64) if ir.DataType.from_numpy(numbers.dtype).is_floating_point() else numbers
