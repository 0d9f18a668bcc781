"""The rules over arrays that NNX shares with other frameworks, in its dialect."""

from __future__ import annotations

from dataclasses import replace

from dlbridge.frameworks.nnx.rules import NNX, quoted_dtype, rules
from dlbridge.frameworks.nnx.writes.activation import ACTIVATIONS
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
from dlbridge.source.condense.repeats import DOMAIN, further_call

FAMILIES = (attention, control, elementwise, image, indexing, linear, normalization, pooling, reduction, shape, special)
for family in (operators, losses, *FAMILIES):
    family.adopt(rules, NNX)
for family in (convolution, quantization, signal):  # whose helpers read the name of the dtype
    family.adopt(rules, replace(NNX, dtype=quoted_dtype))

activation.adopt(rules, replace(NNX, activations=ACTIVATIONS))

rules("Call", domain=DOMAIN)(further_call)
