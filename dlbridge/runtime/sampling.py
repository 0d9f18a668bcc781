"""Chooses the next token from the scores of all: the most probable one, or one that is drawn."""

from __future__ import annotations

import numpy as np

from dlbridge.errors import SignatureError


class Sampling:
    """How tokens are chosen.

    Args:
        temperature: 0 takes the most probable token; the scores are divided by what is above.
        top_k: Draw among so many of the most probable tokens; among all when None.
        top_p: Draw among the most probable tokens that have this share of the probability together.
        seed: Of the random numbers; None draws other ones each time.

    Raises:
        SignatureError: When one of them is out of its range, or says how to draw where nothing is drawn.
    """

    def __init__(
        self, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int | None = None
    ) -> None:
        if not 0 <= temperature < np.inf:
            raise SignatureError(f"{temperature} is no temperature", hint="0 takes the most probable token")
        if top_k is not None and top_k < 1:
            raise SignatureError(f"top_k is {top_k}, it is 1 at least")
        if top_p is not None and not 0 < top_p <= 1:
            raise SignatureError(f"top_p is {top_p}, it is above 0 and 1 at most")
        if temperature == 0 and (top_k is not None or top_p is not None):
            raise SignatureError("top_k and top_p say how tokens are drawn, and none are", hint="give a temperature")
        if seed is not None and seed < 0:
            raise SignatureError(f"{seed} is no seed: it is a whole number from 0 on")
        self._temperature, self._top_k, self._top_p = temperature, top_k, top_p
        self._generator = np.random.default_rng(seed)

    def choose(self, scores: np.ndarray) -> int:
        """A token, by the scores of all tokens.

        Raises:
            SignatureError: When scores are not numbers.
        """
        if np.isnan(scores).any() or not np.isfinite(scores.max()):
            raise SignatureError("the scores of the next token are not finite numbers")
        if self._temperature == 0:
            return int(scores.argmax())
        order = np.argsort(-scores, kind="stable")[: self._top_k]
        shifted = (scores[order] - scores[order[0]]) / self._temperature
        weights = np.exp(shifted)
        weights /= weights.sum()
        if self._top_p is not None:  # the first token that reaches the share is among them
            count = int(np.searchsorted(weights.cumsum(), self._top_p)) + 1
            weights = weights[:count] / weights[:count].sum()
        return int(order[self._generator.choice(len(weights), p=weights)])
