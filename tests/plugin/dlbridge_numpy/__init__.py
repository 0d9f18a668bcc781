"""A framework plugged in from outside: models of dense layers as one function of numpy. Shows what a plug-in has to do.

This module says what the framework can do and what options it takes; it is imported whenever dlbridge looks at its
frameworks, so it imports nothing heavy. The rest is in the modules beside it.
"""

from dataclasses import dataclass
from typing import Literal

from dlbridge.frameworks import ModularFramework, Trains, option


@dataclass(frozen=True)
class WriteOptions:
    """How a model is written."""

    function: str = option("model", "Name of the function.")
    style: Literal["lines", "nested"] = option("lines", "One operation a line, or all in one expression.")


class Numpy(ModularFramework):
    name = "numpy"
    title = "NumPy"
    packages = ("numpy",)
    weights_file = "weights.npz"
    trains = Trains(losses=("SparseCategoricalCrossentropy", "MeanSquaredError"), optimizers=("sgd",))
    WriteOptions = WriteOptions
