"""The rules over arrays that PyTorch shares with other frameworks, in its dialect."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.helpers import SPELLING
from dlbridge.frameworks.pytorch.rules import ints, rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.activation import ACTIVATIONS
from dlbridge.source.arrays import ArrayDialect
from dlbridge.source.arrays.activation import activation
from dlbridge.source.arrays.attention import attention
from dlbridge.source.arrays.control import control
from dlbridge.source.arrays.convolution import convolution
from dlbridge.source.arrays.elementwise import elementwise, operators
from dlbridge.source.arrays.image import image
from dlbridge.source.arrays.indexing import indexing
from dlbridge.source.arrays.linear import linear
from dlbridge.source.arrays.normalization import normalization
from dlbridge.source.arrays.quantization import quantization
from dlbridge.source.arrays.shape import shape
from dlbridge.source.arrays.signal import signal
from dlbridge.source.code import code
from dlbridge.source.op import Op


def number(op: Op, index: int) -> Any:
    """A scalar input as a Python number, or the code that reads it."""
    found = op.ints(index)
    if found is not None:
        return found[0]
    value = op.scalar(index)
    return code("{}.item()", op[index]) if value is None else value


TORCH = ArrayDialect(
    SPELLING, torch_dtype, lambda x, dtype: code("{}.to({})", x, dtype), ints, number, activations=ACTIVATIONS
)

activation.adopt(rules, TORCH)
linear.adopt(rules, TORCH)
operators.adopt(rules, TORCH)
elementwise.adopt(rules, TORCH)
attention.adopt(rules, TORCH, only={"RotaryEmbedding", "CausalMask", "RotateHalves"})
control.adopt(rules, TORCH, only={"Scan"})
image.adopt(rules, TORCH, only={"MaxRoiPool"})
shape.adopt(rules, TORCH, only={"Identity", "CenterCropPad"})
convolution.adopt(rules, TORCH, only={"DeformConv", "CausalConvWithState"})
normalization.adopt(rules, TORCH, only={"MeanVarianceNormalization"})
signal.adopt(rules, TORCH, only={"DFT", "MelWeightMatrix"})
quantization.adopt(rules, TORCH, only={"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"})
indexing.adopt(
    rules,
    TORCH,
    only={"GatherND", "ScatterND", "TensorScatter", "Compress", "Unique", "ReverseSequence"}
    | {"NonMaxSuppression", "OneHot", "TfIdfVectorizer"},
)
