"""Layers and short functions for what Keras has no single call for; the writer copies those that a model uses.

A module here imports only what a written file does: math, keras, layers and ops.
"""

from dlbridge.ops import special
from dlbridge.source.arrays import helpers as arrays
from dlbridge.source.arrays.spelling import Spelling

#: Modules elsewhere that are copied from too: helpers over arrays, and formulas of special functions.
ALSO = (arrays, special)
_OWN = ("split_heads", "merge_heads", "broadcast_add", "precise")
#: How they are spelled here.
SPELLING = Spelling(
    "ops.",
    {"standardize_dtype": "keras.backend.standardize_dtype"} | {name: name for name in _OWN},
    {
        "as_index(x)": 'ops.cast({x}, "int32")',
        "is_float(dtype)": '{dtype}.startswith("float")',
        "is_boolean(x)": 'keras.backend.standardize_dtype({x}.dtype) == "bool"',
        "number(n, x.dtype)": "ops.cast({n}, {x}.dtype)",
        "places(count, x)": 'ops.arange({count}, dtype="int32")',
    },
)
