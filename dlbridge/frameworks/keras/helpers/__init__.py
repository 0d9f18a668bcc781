"""Layers and short functions for what Keras has no single call for; the writer copies those that a model uses.

A module here imports only what a written file does: math, keras, layers and ops.
"""

from dlbridge.ops import special

#: Modules elsewhere that are copied from too: formulas of arrays, which Keras' ``ops`` are.
ALSO = (special,)
