"""Mixed precision: the half type that a training computes in, and the factor on its loss against underflow.

Weights, what the optimizer remembers and the loss are float32 (Micikevicius et al., Mixed Precision Training, 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, WrapSerializer

from dlbridge.training.formulas.numpy_ops import NUMPY
from dlbridge.training.parts import Ops, Part, Tensor, by_name, of_name

#: The name of the loss scale beside the optimizer's slots in a checkpoint, and the names of its two numbers.
SLOT, SCALE, SINCE = "loss_scale", "scale", "steps_since"
#: The loss scale does not grow beyond this.
LARGEST_SCALE = 2.0**32
#: Gradients that are not finite at a smaller loss scale are so for another reason.
SMALLEST_SCALE = 2.0**-24


class Float16(Part):
    """Products of matrices and convolutions in float16. The gradient is that of ``scale`` times the loss, divided by
    ``scale`` before anything else is done with it. A step whose gradient is infinite or NaN is left out: it counts for
    neither the optimizer nor the schedule; ``scale`` becomes ``backoff scale``. After ``interval`` steps without one it
    becomes ``growth scale``. Source: as ``torch.amp.GradScaler``."""

    kind: Literal["float16"] = "float16"
    scale: float = Field(65536.0, gt=0, description="The loss scale at the start; a power of two divides exactly.")
    growth: float = Field(2.0, gt=1)
    backoff: float = Field(0.5, gt=0, lt=1)
    interval: int = Field(2000, ge=1)

    def after(self, scale: Tensor, since: Tensor, is_finite: Tensor, ops: Ops) -> tuple[Tensor, Tensor]:
        """The loss scale behind a step, and the number of steps since it was changed.

        Args:
            scale: The loss scale.
            since: The number of steps since it was changed.
            is_finite: Whether the gradients of the step are all finite.
            ops: The framework's functions.
        """
        is_due = since + 1 >= self.interval
        grown = ops.where(is_due, ops.minimum(scale * self.growth, LARGEST_SCALE), scale)
        later = ops.where(is_due, ops.zeros_like(since), since + 1)
        return ops.where(is_finite, grown, scale * self.backoff), ops.where(is_finite, later, ops.zeros_like(since))


class BFloat16(Part):
    """Products of matrices and convolutions in bfloat16, which has the range of float32: the loss is not scaled."""

    kind: Literal["bfloat16"] = "bfloat16"


AnyPrecision = Float16 | BFloat16
PRECISIONS: tuple[type[Part], ...] = AnyPrecision.__args__
_Tagged = Annotated[AnyPrecision, Field(discriminator="kind")]
#: A precision: its settings, or its name alone.
Precision = Annotated[
    AnyPrecision,
    Field(discriminator="kind"),
    BeforeValidator(of_name, json_schema_input_type=Literal["float16", "bfloat16"] | _Tagged),
    WrapSerializer(by_name),
]


class LossScale:
    """The loss scale of a training, for a framework that counts it in Python.

    Args:
        spec: Its start, and how it changes.
        slots: The slots of a checkpoint to continue from.

    Attributes:
        scale: The factor on the loss.
        since: The number of steps since it was changed.
        skipped: The steps that were left out since the epoch began.
    """

    def __init__(self, spec: Float16, slots: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        self.spec = spec
        held = slots.get(SLOT)
        self.scale, self.since = (spec.scale, 0) if held is None else (float(held[SCALE]), int(held[SINCE]))
        self.skipped = 0

    def is_step(self, is_finite: bool) -> bool:
        """Update the loss scale after the gradients of a step; return whether the step is made."""
        scale, since = self.spec.after(np.float64(self.scale), np.int64(self.since), np.bool_(is_finite), NUMPY)
        self.scale, self.since = float(scale), int(since)
        self.skipped += not is_finite
        return is_finite

    def slots(self) -> dict[str, dict[str, np.ndarray]]:
        """The loss scale as slots of a checkpoint."""
        return {SLOT: {SCALE: np.asarray(self.scale, np.float64), SINCE: np.asarray(self.since, np.int64)}}
