"""``associative_scan``: what a function of two makes of all elements up to each, in steps that halve them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops, tree

from dlbridge.frameworks.keras.graph.call_site import CallSite, operation


@operation("AssociativeScan")
def associative_scan(site: CallSite, f: Callable[..., Any], elems: Any) -> Any:
    """In Keras' own order of steps, as the function may depend on which pairs it gets."""
    kind = site.source
    values = [site.tensor(v) for v in tree.flatten(elems)]
    axis = site.axis(int(kind.axis), site.rank(values[0]))
    count = site.shape(values[0])[axis]
    site.require([count], "a scan along an axis whose size is not known")
    site.reader.evaluate_captured(f)

    def joined(left: list[Any], right: list[Any]) -> list[Any]:
        return tree.flatten(f(tree.pack_sequence_as(elems, left), tree.pack_sequence_as(elems, right)))

    def part(tensors: list[Any], *ends: int | None) -> list[Any]:
        return [t[(slice(None),) * axis + (slice(*ends),)] for t in tensors]

    def scan(tensors: list[Any], size: int) -> list[Any]:
        if size < 2:
            return tensors
        odd = scan(joined(part(tensors, 0, size - 1, 2), part(tensors, 1, size, 2)), size // 2)
        if size == 2:
            even = part(tensors, 0, 1)
        else:
            before = part(odd, 0, size // 2 - 1) if size % 2 == 0 else odd
            later = joined(before, part(tensors, 2, size, 2))
            pairs = zip(part(tensors, 0, 1), later, strict=True)
            even = [ops.concatenate(pair, axis=axis) for pair in pairs]
        places = np.argsort(np.r_[0:size:2, 1:size:2]).astype("int32")
        return [ops.take(ops.concatenate(p, axis=axis), places, axis=axis) for p in zip(even, odd, strict=True)]

    def whole(*tensors: Any) -> list[Any]:
        given = [ops.flip(t, axis=axis) for t in tensors] if kind.reverse else list(tensors)
        found = scan(given, count)
        return [ops.flip(t, axis=axis) for t in found] if kind.reverse else found

    return tree.pack_sequence_as(elems, site.reader.run_inner(whole, *values))
