"""Sets of inputs, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlbridge.verification.inputs.strategies import PLAIN, Strategy
from dlbridge.verification.measure import Arrays


@dataclass
class Case:
    """A set of inputs.

    Attributes:
        sizes: The sizes of the symbolic dimensions.
        arrays: Arrays by input name.
        strategies: The names of the strategies that fill the rows, in order.
        is_probe: Whether it may be left out.
    """

    sizes: dict[str, int]
    arrays: Arrays
    strategies: tuple[str, ...] = (PLAIN.name,)
    is_probe: bool = False

    @property
    def name(self) -> str:
        return ", ".join(self.strategies)


@dataclass(frozen=True)
class Plan:
    """How a set of inputs is made.

    Attributes:
        sizes: The sizes that are fixed.
        preferred: The sizes that are wanted, if the model accepts them.
        strategies: The strategies that fill the rows.
        seed: The seed of its random numbers.
        is_probe: Whether it may be left out.
    """

    sizes: Mapping[str, int]
    preferred: Mapping[str, int]
    strategies: tuple[Strategy, ...]
    seed: int
    is_probe: bool = True
