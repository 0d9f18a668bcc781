"""The rules over arrays that PyTorch shares with other frameworks, in its dialect."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

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
from dlbridge.source.arrays.loss import losses
from dlbridge.source.arrays.normalization import normalization
from dlbridge.source.arrays.pooling import pooling
from dlbridge.source.arrays.quantization import quantization
from dlbridge.source.arrays.reduction import reduction
from dlbridge.source.arrays.shape import shape
from dlbridge.source.arrays.signal import signal
from dlbridge.source.arrays.special import special
from dlbridge.source.tree.code import Code, Literal, call, code, method

#: Function, as ``keras.ops`` calls it -> the method of tensors.
_METHODS = {"max": "amax", "min": "amin", "squeeze": "squeeze", "stop_gradient": "detach"}
_METHODS |= {
    n: n for n in ("argmax", "argmin", "cumprod", "cumsum", "flip", "logsumexp", "mean", "prod", "squeeze", "sum")
}


@dataclass(frozen=True)
class _Tensors(ArrayDialect):
    """Reductions are methods: the axis stands in front, where there is one, and kept axes are called another thing."""

    def call(self, function: str, *args: Any, **keywords: Any) -> Code:
        if function not in _METHODS:
            return super().call(function, *args, **keywords)
        (x,), axis, keep = args, keywords.pop("axis", None), keywords.pop("keepdims", None)
        if "initial" in keywords or (function in ("max", "min") and isinstance(axis, Code)):
            return call("extreme", x, axis, keepdim=keep, largest=function == "max")
        if function == "prod" and isinstance(axis, (tuple, Code)):
            return call("product", x, axis, keepdim=keep)
        if function == "logsumexp" and (axis is None or isinstance(axis, Code)):
            everything = code("list(range({}.dim()))", x)
            axis = everything if axis is None else code("({} or {})", axis, everything)
        return method(_METHODS[function], x, *([] if axis is None else [axis]), keepdim=keep, **keywords)


TORCH = _Tensors(
    spelling=SPELLING,
    dtype=torch_dtype,
    cast=lambda x, dtype: code("{}.to({})", x, dtype),
    ints=ints,
    number=functools.partial(number, read="{}.item()"),
    widened=frozenset({"INT8", "INT16", "INT32", "UINT8"}),
    activations=ACTIVATIONS,
    special=FUNCTIONS,
    dropout=lambda ratio: call("nn.Dropout", Literal(ratio, "p")),
)

FAMILIES = (activation, attention, control, convolution, image, indexing, linear, losses, normalization, pooling)
for family in (operators, elementwise, *FAMILIES, quantization, reduction, shape, signal, special):
    family.adopt(rules, TORCH)
