"""A form of a model: something that can be run on the model's inputs, and is compared with the judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dlbridge.verification.measure import Arrays


class Form(Protocol):
    """A form of the model that is compared with the judge: a route, or another model.

    Attributes:
        name: What reports call it.
        note: What a reader of the report should know about how it was run; empty if there is nothing special.
        eps: The eps of its coarsest float type, if that is coarser than the judge's; else 0.
    """

    name: str
    note: str
    eps: float

    def run(self, arrays: Arrays) -> Arrays:
        """Arrays by input name -> arrays by output name."""
        ...

    def exact(self, cases: Sequence[Arrays], seen: list[np.ndarray] | None = None) -> list[Arrays] | None:
        """Run it in float64 on each set of inputs; None if it has no float64 run."""
        ...
