"""Pooling."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.keras.graph.call_site import CallSite, layer


@layer("GlobalAveragePooling1D", masks=True)
def global_average_1d(site: CallSite) -> Any:
    return global_pool(site) if site.mask is None else site.reader.inline(site)


@layer("GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D")
@layer("GlobalMaxPooling3D")
def global_pool(site: CallSite) -> Any:
    kind = site.layer
    op_type = "GlobalMaxPool" if "Max" in site.kind else "GlobalAveragePool"
    y = site.layer_op(op_type, site.first(site.x, kind.data_format))
    if kind.keepdims:
        return site.last(y, kind.data_format)
    return site.squeeze(y, *range(2, site.rank(y)))


def adaptive_pool(site: CallSite, x: Any, wanted: list[int], data_format: str, largest: bool) -> Any:
    """Pool to a size: window i of n is from floor(i * size / n) to ceil((i + 1) * size / n)."""
    x = site.first(x, data_format)
    sizes = site.shape(x)[2:]
    if all(w == 1 for w in wanted):
        return site.last(site.layer_op("GlobalMaxPool" if largest else "GlobalAveragePool", x), data_format)
    site.require(sizes, "adaptive pooling of an input whose size is not known")
    if all(s % w == 0 for s, w in zip(sizes, wanted, strict=True)):
        kernel = [s // w for s, w in zip(sizes, wanted, strict=True)]
        y = site.layer_op("MaxPool" if largest else "AveragePool", x, kernel_shape=kernel, strides=kernel)
        return site.last(y, data_format)
    op_type = "ReduceMax" if largest else "ReduceMean"
    for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True), start=2):
        windows = [site.slice(x, axis, i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        x = site.op("Concat", *(site.op(op_type, window, [axis]) for window in windows), axis=axis)
    return site.last(x, data_format)
