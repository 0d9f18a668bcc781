"""What comes before and after a model, put into its graph: a client sends an image and gets the names of classes.

processing = dlbridge.processing.load("processing.yaml")
dlbridge.convert(model, "onnx", "digits.onnx", processing=processing)
"""

from __future__ import annotations

from dlbridge.processing.graph import add
from dlbridge.processing.spec import Classes, Image, Processing, Standardized, load, save

__all__ = ["Classes", "Image", "Processing", "Standardized", "add", "load", "save"]
