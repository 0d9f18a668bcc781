"""The rules over arrays that Keras shares with other frameworks, in its dialect."""

from __future__ import annotations

import onnx_ir as ir

from dlbridge.frameworks.keras.helpers import SPELLING
from dlbridge.frameworks.keras.rules import ints, keras_dtype, number, rules
from dlbridge.frameworks.keras.writes.activation import ACTIVATIONS
from dlbridge.source.arrays import ArrayDialect
from dlbridge.source.arrays.activation import activation
from dlbridge.source.arrays.attention import attention
from dlbridge.source.arrays.control import control
from dlbridge.source.arrays.convolution import convolution
from dlbridge.source.arrays.elementwise import elementwise
from dlbridge.source.arrays.image import image
from dlbridge.source.arrays.indexing import indexing
from dlbridge.source.arrays.loss import losses
from dlbridge.source.arrays.normalization import normalization
from dlbridge.source.arrays.pooling import pooling
from dlbridge.source.arrays.quantization import quantization
from dlbridge.source.arrays.reduction import reduction
from dlbridge.source.arrays.shape import shape
from dlbridge.source.arrays.signal import signal
from dlbridge.source.arrays.special import special
from dlbridge.source.tree.code import Literal, call

KERAS = ArrayDialect(
    spelling=SPELLING,
    dtype=keras_dtype,
    cast=lambda x, dtype: call("ops.cast", x, dtype),
    ints=ints,
    number=number,
    widened=frozenset({"INT8", "INT16", "UINT8", "UINT16", "BOOL"}),
    usual=ir.DataType.FLOAT,
    in_python="ops.convert_to_numpy({})",
    activations=ACTIVATIONS,
    special={"Erfc": "ops.erfc", "Erfinv": "ops.erfinv"},
    dropout=lambda ratio: call("layers.Dropout", Literal(ratio, "rate")),
)

FAMILIES = (attention, control, convolution, elementwise, image, indexing, normalization, pooling, quantization)
for family in (activation, losses, *FAMILIES, reduction, shape, signal, special):
    family.adopt(rules, KERAS)
