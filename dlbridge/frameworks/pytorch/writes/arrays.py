"""The rules over arrays that PyTorch shares with other frameworks, in its dialect."""

from __future__ import annotations

import functools

from dlbridge.frameworks.pytorch.helpers import SPELLING
from dlbridge.frameworks.pytorch.rules import ints, rules, torch_dtype
from dlbridge.frameworks.pytorch.writes.activation import ACTIVATIONS
from dlbridge.frameworks.pytorch.writes.special import FUNCTIONS
from dlbridge.source.arrays import ArrayDialect, number
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
from dlbridge.source.arrays.special import special
from dlbridge.source.code import code

TORCH = ArrayDialect(
    spelling=SPELLING,
    dtype=torch_dtype,
    cast=lambda x, dtype: code("{}.to({})", x, dtype),
    ints=ints,
    number=functools.partial(number, read="{}.item()"),
    activations=ACTIVATIONS,
    special=FUNCTIONS,
)

activation.adopt(rules, TORCH)
linear.adopt(rules, TORCH)
special.adopt(rules, TORCH)
operators.adopt(rules, TORCH)
elementwise.adopt(rules, TORCH)
attention.adopt(rules, TORCH, only={"RotaryEmbedding", "CausalMask", "RelativeBuckets", "RotateHalves"})
control.adopt(rules, TORCH, only={"Scan"})
image.adopt(rules, TORCH, only={"MaxRoiPool", "RoiAlign"})
shape.adopt(rules, TORCH, only={"Identity", "CenterCropPad"})
convolution.adopt(rules, TORCH, only={"DeformConv", "CausalConvWithState", "ConvInteger", "QLinearConv"})
normalization.adopt(rules, TORCH, only={"MeanVarianceNormalization"})
signal.adopt(rules, TORCH, only={"DFT", "MelWeightMatrix"})
quantization.adopt(rules, TORCH)
indexing.adopt(
    rules,
    TORCH,
    only={"GatherND", "ScatterND", "TensorScatter", "Compress", "Unique", "ReverseSequence"}
    | {"NonMaxSuppression", "OneHot", "TfIdfVectorizer"},
)
