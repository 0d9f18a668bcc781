"""Element types by the names that a repository and the Open Inference Protocol give them."""

from __future__ import annotations

import numpy as np

#: Name in the protocol -> (numpy's dtype, None for what numpy has not; name in ``config.pbtxt``; bytes an element).
KINDS: dict[str, tuple[np.dtype | None, str, int]] = {
    "BOOL": (np.dtype("bool"), "TYPE_BOOL", 1),
    **{f"{sign}INT{bits}": (np.dtype(f"{sign}int{bits}".lower()), f"TYPE_{sign}INT{bits}", bits // 8)
       for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": (np.dtype("float16"), "TYPE_FP16", 2),
    "FP32": (np.dtype("float32"), "TYPE_FP32", 4),
    "FP64": (np.dtype("float64"), "TYPE_FP64", 8),
    "BF16": (None, "TYPE_BF16", 2),
    "BYTES": (np.dtype("object"), "TYPE_STRING", 0),
}  # fmt: skip
#: Name in ``config.pbtxt`` -> name in the protocol, and the reverse.
DATATYPES = {config: name for name, (_, config, _) in KINDS.items()}
CONFIG_TYPES = {name: config for name, (_, config, _) in KINDS.items()}
#: Name of a numpy dtype -> name in the protocol.
OF_NUMPY = {dtype.name: name for name, (dtype, _, _) in KINDS.items() if dtype is not None} | {"bfloat16": "BF16"}
