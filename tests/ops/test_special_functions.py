"""Special functions: PyTorch's own, and their formulas in Keras and ONNX, in float64 as PyTorch computes them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.ops import special

_ANY = np.concatenate([np.linspace(-20.3, 40.7, 80), [0.0, -0.0, 1.0, -1.5, 1e-3, -1e-5, 300.5, np.nan]])
_POSITIVE = np.concatenate([np.geomspace(1e-11, 300, 80), [0.0, 1.0, -2.0, np.nan]])
_UNIT = np.concatenate([np.linspace(0.001, 0.999, 40), np.geomspace(1e-12, 1e-2, 20), [0.0, 1.0, -0.5, 1.5, np.nan]])

#: Op -> (torch's function, numbers).
FUNCTIONS = {
    "BesselI0": (torch.i0, _ANY),
    "BesselI0e": (torch.special.i0e, _ANY),
    "BesselI1": (torch.special.i1, _ANY),
    "BesselI1e": (torch.special.i1e, _ANY),
    "BesselJ0": (torch.special.bessel_j0, np.abs(_ANY)),
    "BesselJ1": (torch.special.bessel_j1, _POSITIVE),
    "BesselK0": (torch.special.modified_bessel_k0, _POSITIVE),
    "BesselK0e": (torch.special.scaled_modified_bessel_k0, _POSITIVE),
    "BesselK1": (torch.special.modified_bessel_k1, _POSITIVE),
    "BesselK1e": (torch.special.scaled_modified_bessel_k1, _POSITIVE),
    "BesselY0": (torch.special.bessel_y0, _POSITIVE),
    "BesselY1": (torch.special.bessel_y1, _POSITIVE),
    "Digamma": (torch.digamma, _ANY),
    "Erfc": (torch.erfc, _ANY),
    "Erfcx": (torch.special.erfcx, _ANY),
    "Erfinv": (torch.erfinv, np.concatenate([_UNIT, -_UNIT])),
    "Lgamma": (torch.lgamma, _ANY),
    "Ndtri": (torch.special.ndtri, _UNIT),
    "Polygamma": (lambda x: torch.polygamma(3, x), _ANY[_ANY != 0]),
    "Zeta": (lambda x: torch.special.zeta(x, torch.flip(x, [0]) - 4.5), _POSITIVE),
}


#: torch 2.13 has these right to 1e-6 alone around 5.
_IMPRECISE = {
    "BesselJ0": mpmath.j0,
    "BesselJ1": mpmath.j1,
    "BesselY0": lambda x: mpmath.bessely(0, x),
    "BesselY1": lambda x: mpmath.bessely(1, x),
}


def test_each_function_is_tested():
    assert set(FUNCTIONS) == set(special.FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_in_float64(name):
    function, numbers = FUNCTIONS[name]

    class Net(torch.nn.Module):
        def forward(self, x):
            return function(x)

    right = Net()(torch.tensor(numbers)).numpy()
    if name in _IMPRECISE:
        exact = np.array([float(_IMPRECISE[name](mpmath.mpf(float(x)))) if x > 0 else math.nan for x in numbers])
        np.testing.assert_allclose(exact[numbers > 0], right[numbers > 0], 2e-5, 2e-6)
        right = np.where(numbers > 0, exact, right)
    model = dlbridge.load(Net(), inputs={"x": f"float64[{len(numbers)}]"})
    for target in ("pytorch", "keras", "onnx"):
        tolerance = 2e-5 if name in _IMPRECISE and target == "pytorch" else 2e-12
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        (answer,) = framework.run(live, {"x": numbers}).values()
        np.testing.assert_allclose(answer, right, tolerance, tolerance / 10, err_msg=target)


@pytest.mark.parametrize("kind", ["chebyshev_polynomial_t", "hermite_polynomial_he", "laguerre_polynomial_l"])
def test_polynomial_of_one_degree_for_all(kind):
    class Net(torch.nn.Module):
        def forward(self, x):
            polynomial = getattr(torch.special, kind)
            return polynomial(x, 5), polynomial(x, 1), polynomial(x, 0)

    x = torch.linspace(-2, 2, 12).reshape(3, 4)
    model = dlbridge.load(Net(), inputs={"x": "float32[batch,4]"})
    for target in ("pytorch", "keras", "onnx"):
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        for answer, right in zip(framework.run(live, {"x": x.numpy()}).values(), Net()(x), strict=True):
            np.testing.assert_allclose(answer, right, 1e-5, 1e-5)


@pytest.mark.parametrize("size", [8, 10, 13, 32])
def test_no_axis_is_taken_for_another(size):
    """Keras' sum takes a vector for a bias along another axis where the sizes are equal."""

    class Net(torch.nn.Module):
        def forward(self, x):
            return (
                torch.lgamma(x),
                torch.digamma(x),
                torch.polygamma(2, x),
                torch.special.erfcx(x),
                torch.special.i0e(x),
            )

    x = torch.rand(3, size, generator=torch.Generator().manual_seed(0)) * 3
    live = dlbridge.load(Net(), inputs={"x": f"float32[batch,{size}]"}).to_keras()
    for answer, right in zip(live(x.numpy()), Net()(x), strict=True):
        np.testing.assert_allclose(np.asarray(answer), right, 1e-5, 1e-6)
