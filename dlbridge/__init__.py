"""Converts deep-learning models between frameworks and ONNX, trains them, and shows that they stay the same."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dlbridge import lazy

# From 1.29 on, onnxruntime tells its makers which models are loaded, on all systems, unless this is set before it is
# imported (decision 0370).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from dlbridge import errors as errors
    from dlbridge import frameworks as frameworks
    from dlbridge import limits as limits
    from dlbridge import passes as passes
    from dlbridge import processing as processing
    from dlbridge import runtime as runtime
    from dlbridge import tasks as tasks
    from dlbridge import training as training
    from dlbridge import verification as verification
    from dlbridge.api import convert, evaluate, load, predict, pull, train, verify
    from dlbridge.errors import DlbridgeError
    from dlbridge.model import Model

__version__ = "0.1.0"
__all__ = [
    "DlbridgeError",
    "Model",
    "__version__",
    "convert",
    "evaluate",
    "load",
    "predict",
    "pull",
    "train",
    "verify",
]

#: Where each public name lives; importing dlbridge alone costs nothing.
__getattr__, __dir__ = lazy.names(
    __name__,
    {
        **dict.fromkeys(("convert", "evaluate", "load", "predict", "pull", "train", "verify"), "api"),
        "Model": "model",
        "DlbridgeError": "errors",
    },
    ("errors", "frameworks", "limits", "passes", "processing", "runtime", "tasks", "training", "verification"),
)
