"""What all optimizers have: how one weight is trained, parameter groups, weight decay, one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dlbridge.training.parts import Ops, Part, Tensor

Slots = dict[str, Tensor]
Numbers = Mapping[str, Any]
Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Group(Part):
    """Weights that are trained in another way than the rest: the first group whose pattern matches a name counts."""

    match: str = Field(description="Names of weights: '*' is any text, as in 'encoder.*' or '*.bias'.")
    learning_rate: float = Field(1.0, ge=0, description="Factor on the learning rate of each step.")
    weight_decay: float | None = Field(None, ge=0, description="Instead of the optimizer's.")


@dataclass(frozen=True)
class Weight:
    """How one weight is trained.

    Attributes:
        rate: Factor on the learning rate.
        decay: The weight decay.
        is_coupled: Whether the decay is added to the gradient; else it is taken from the weight before the step.
        axes: The two axes of a matrix in the framework's layout: rows and columns of the model's own matrix. None where
            not exactly two of its axes are longer than 1.
        count: How many weights of the model take a step here: a weight that stands for the sum of two moves by two
            steps.
        is_vector: Whether it is a vector to the model, whatever shape a framework holds it in; one of several axes is
            else what it looks like.
        by_matrix: Whether an optimizer of matrices takes it (``Muon``).
    """

    rate: float = 1.0
    decay: float = 0.0
    is_coupled: bool = False
    axes: tuple[int, int] | None = None
    count: int = 1
    is_vector: bool = False
    by_matrix: bool = True


class OptimizerPart(Part):
    """What all optimizers have.

    Weight decay is *coupled* where ``weight_decay * w`` is added to the gradient (L2), and *decoupled* where
    ``rate * weight_decay * w`` is taken from the weight before the step (Loshchilov & Hutter, 2019).
    """

    learning_rate: Rate = 0.001
    weight_decay: Decay = 0.0
    decay: Literal["coupled", "decoupled"] = "coupled"
    no_decay: tuple[str, ...] = Field((), description="Names of weights that do not decay: '*.bias'.")
    groups: tuple[Group, ...] = ()

    #: Whether a step depends on all elements of a weight at once, so that it must be held as the model has it.
    of_whole_weights: ClassVar[bool] = False
    #: Whether that holds of vectors too.
    of_whole_vectors: ClassVar[bool] = False

    #: The state that the optimizer keeps for each weight, where that is the same with every setting.
    kept_slots: ClassVar[tuple[str, ...]] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state that the optimizer keeps for each weight, as checkpoints have them."""
        return self.kept_slots

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        """The names of the state that is kept for one weight."""
        return self.slots

    def slot_shape(self, slot: str, shape: tuple[int, ...], weight: Weight) -> tuple[int, ...]:
        """The shape of a slot; an axis of one stands for numbers that are the same along it."""
        return shape

    @property
    def start(self) -> float:
        """The initial value of a slot."""
        return 0.0

    def numbers(self, t: int) -> dict[str, float]:
        """What depends on the number of the step alone."""
        return {}

    def delta(
        self, g: Tensor, w: Tensor, slots: Slots, n: Numbers, rate: Tensor, weight: Weight, ops: Ops
    ) -> tuple[Tensor, Slots]:
        """What a step subtracts from a weight, and the new slots."""
        raise NotImplementedError

    def of(self, names: tuple[str, ...], axes: tuple[int, int] | None = None) -> Weight:
        """How the weight is trained that has these names in the model."""
        group = next((g for g in self.groups if any(fnmatchcase(n, g.match) for n in names)), None)
        decay = self.weight_decay if group is None or group.weight_decay is None else group.weight_decay
        if any(fnmatchcase(n, pattern) for n in names for pattern in self.no_decay):
            decay = 0.0
        rate = group.learning_rate if group is not None else 1.0
        return Weight(rate, decay, self.decay == "coupled", axes)

    def step(self, g: Tensor, w: Tensor, slots: Slots, n: Numbers, weight: Weight, ops: Ops) -> tuple[Tensor, Slots]:
        """One step: the new weight and slots. ``n`` is the result of :meth:`numbers` with the step's ``rate``."""
        rate = n["rate"] * weight.rate
        if weight.decay and weight.is_coupled:
            g = g + weight.decay * w
        delta, slots = self.delta(g, w, slots, n, rate, weight, ops)
        if weight.decay and not weight.is_coupled:
            w = w - rate * weight.decay * w
        return w - (delta if weight.count == 1 else weight.count * delta), slots


class Moments(OptimizerPart):
    """Optimizers that keep means of the gradient and of its square."""

    beta_1: Beta = 0.9
    beta_2: Beta = 0.999
    epsilon: Positive = 1e-7

    kept_slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def numbers(self, t: int) -> dict[str, float]:
        return {"c1": 1 - self.beta_1**t, "c2": 1 - self.beta_2**t}

    def _moments(self, g: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        m = self.beta_1 * slots["m"] + (1 - self.beta_1) * g
        return m, self.beta_2 * slots["v"] + (1 - self.beta_2) * g * g
