"""What each element of an integer or boolean tensor is, as a formula in the indices of its axes.

A mask of attention is often computed: positions by ``Range``, put along axes by ``Unsqueeze`` and ``Expand``, compared,
joined by ``And``, with elements of a padding mask that are gathered at them. ``Predicates`` follows such a graph node
by node and knows of each value a *term*: element ``[b, h, q, k]`` of a causal mask is ``q - k >= 0``. What it does not
follow is a term too, ``Read``: the element of that very tensor. So a term is never a guess, and two values of the same
term are equal for all inputs.

Axes are numbered from the last, which is 0, so that broadcasting changes no number. An axis of size 1 is not in a term.
"""

from dlbridge.passes.predicates import elementwise, placing
from dlbridge.passes.predicates.following import Predicates
from dlbridge.passes.predicates.terms import Affine, All, AtLeastZero, IsTrue, Predicate, Read, index

__all__ = [
    "Affine",
    "All",
    "AtLeastZero",
    "IsTrue",
    "Predicate",
    "Predicates",
    "Read",
    "elementwise",
    "index",
    "placing",
]
