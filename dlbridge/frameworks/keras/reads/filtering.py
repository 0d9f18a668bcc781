"""``keras.ops.image`` that slide a fixed kernel over each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.frameworks.keras.graph.call_site import CallSite, operation
from dlbridge.frameworks.keras.reads.convolution import window
from dlbridge.frameworks.keras.reads.image import of_batch
from dlbridge.frameworks.keras.reads.reshaping import pad

#: Kernel of the vertical gradient; its transpose is that of the horizontal one.
_SOBEL = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])


def _slide(site: CallSite, x: ir.Value, kernel: np.ndarray, padding: str = "valid") -> ir.Value:
    """Convolve each channel of a channels-first batch with the same kernel."""
    channels = site.shape(x)[1]
    site.require([channels], "an image whose number of channels is not known")
    weight = np.tile(kernel.astype(x.dtype.numpy()), (channels, 1, 1, 1))
    where = window(list(kernel.shape), [1, 1], [1, 1], padding)
    return site.op("Conv", x, weight, group=channels if channels > 1 else None, **where)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return bell / bell.sum()


@operation("GaussianBlur")
def gaussian_blur(site: CallSite, images: Any) -> ir.Value:
    kind, x = site.source, site.tensor(images)
    size = [int(n) for n in kind.kernel_size]
    rows, columns = (_gaussian(n, float(s)) for n, s in zip(size, kind.sigma, strict=True))
    # Keras makes the kernel (width, height), and gives it its shape by a reshape
    kernel = np.outer(columns, rows).reshape(size)
    return of_batch(site, x, kind.data_format, lambda x: _slide(site, x, kernel, "same"))


@operation("SobelEdges")
def sobel_edges(site: CallSite, images: Any) -> ir.Value:
    data_format = site.source.data_format
    x = pad(site, site.first(site.tensor(images), data_format), [2, 3], [(1, 1), (1, 1)], mode="reflect")
    edges = [site.last(_slide(site, x, kernel), data_format) for kernel in (_SOBEL, _SOBEL.T)]
    return site.op("Concat", *(site.unsqueeze(e, 4) for e in edges), axis=4)


@operation("SSIM")
def ssim(site: CallSite, image1: Any, image2: Any) -> ir.Value:
    """Means, variances and the covariance under a Gaussian window, as Wang et al. (2004) put them together."""
    kind, given = site.source, site.tensor(image1)
    a = site.as_float(given)
    b = site.cast(site.tensor(image2), a.dtype)
    single = site.rank(a) == 3
    a, b = (site.first(site.unsqueeze(x, 0) if single else x, kind.data_format) for x in (a, b))
    bell = _gaussian(int(kind.filter_size), float(kind.filter_sigma))
    kernel = np.outer(bell, bell)
    c1, c2 = (float(k * kind.max_val) ** 2 for k in (kind.k1, kind.k2))
    mean_a, mean_b = _slide(site, a, kernel), _slide(site, b, kernel)
    aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    var_a, var_b, between = (_slide(site, x, kernel) - m for x, m in ((a * a, aa), (b * b, bb), (a * b, ab)))
    y = (ab * 2.0 + c1) * (between * 2.0 + c2) / ((aa + bb + c1) * (var_a + var_b + c2))
    y = site.op("ReduceMean", y, [1, 2, 3], keepdims=0)
    return site.cast(site.squeeze(y, 0) if single else y, given.dtype)
