"""Initial weights: named initialisers, computed in numpy, so that every framework starts from the same numbers.

Each weight has a random stream of its own, made of the model's seed and the weight's name: the numbers depend neither
on the order of the layers nor on which of them are looked at. All are computed in float64 and rounded to the weight's
dtype at the end, so a float64 and a float32 model start alike.

*Fans.* For a weight of shape ``(out, in, *kernel)``, ONNX's and PyTorch's order, ``fan_in = in * prod(kernel)`` and
``fan_out = out * prod(kernel)`` (PyTorch, ``torch.nn.init._calculate_fan_in_and_fan_out``); Keras computes the same
from its own order (``keras.initializers``, ``compute_fans``). A description can set ``fan_in`` and ``fan_out``.

*Stacks.* ``stacked: n`` says that the first n axes only number independent matrices (the directions of an LSTM).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlbridge.errors import DescriptionError, suggest

Rng = np.random.Generator
Shape = tuple[int, ...]

#: Standard deviation of a standard normal that is cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978

#: Name -> function (rng, shape, **settings) -> float64 array.
REGISTRY: dict[str, Callable[..., np.ndarray]] = {}
#: Other names that the frameworks use.
ALIASES = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
    "random_uniform": "uniform",
    "random_normal": "normal",
    "eye": "identity",
}
_COMMON = ("kind", "stacked")
#: Lowest and highest rank that an initialiser makes, where not all.
_RANKS = {"identity": (2, 2), "dirac": (3, 5), "orthogonal": (2, 8)}


def make(spec: Mapping[str, Any], name: str, shape: Shape, seed: int) -> np.ndarray:
    """The initial numbers of a weight.

    Args:
        spec: ``{"kind": "glorot_uniform", ...}`` with the settings of that initialiser (see :func:`check`).
        name: The weight's name; a part of its random stream.
        shape: Its shape.
        seed: The model's seed.

    Returns:
        A float64 array of that shape.
    """
    spec = check(spec)
    check_shape(spec, shape)
    settings = {k: v for k, v in spec.items() if k not in _COMMON}
    stacked = spec.get("stacked", 0)
    rng = stream(seed, name)
    draw = REGISTRY[spec["kind"]]
    if not stacked:
        return draw(rng, shape, **settings)
    count = math.prod(shape[:stacked])
    return np.stack([draw(rng, shape[stacked:], **settings) for _ in range(count)]).reshape(shape)


def stream(seed: int, name: str) -> Rng:
    """The random stream of one weight: PCG64, seeded with the model's seed and the SHA-256 of the name."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, *np.frombuffer(digest, dtype="<u4").tolist()]))


def check(spec: Mapping[str, Any] | str) -> dict[str, Any]:
    """The full form of an initialiser: a name alone stands for its defaults; aliases are resolved.

    Raises:
        DescriptionError: When there is no such initialiser, or it has no such setting.
    """
    full = {"kind": spec} if isinstance(spec, str) else dict(spec)
    kind = full.get("kind")
    if not isinstance(kind, str):
        raise DescriptionError("an initializer needs a kind", hint=f"known: {', '.join(REGISTRY)}")
    full["kind"] = kind = ALIASES.get(kind, kind)
    if kind not in REGISTRY:
        known = [*REGISTRY, *ALIASES]
        raise DescriptionError(
            f"unknown initializer '{kind}'", hint=suggest(kind, known) or f"known: {', '.join(REGISTRY)}"
        )
    known = settings_of(kind)
    for setting, value in full.items():
        if setting not in (*known, *_COMMON):
            raise DescriptionError(
                f"the initializer '{kind}' has no setting '{setting}'",
                hint=suggest(setting, known) or f"it has: {', '.join(known) or 'none'}",
            )
        if setting != "kind" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DescriptionError(f"the setting '{setting}' of the initializer '{kind}' is a number, not {value!r}")
    return full


def check_shape(spec: Mapping[str, Any], shape: Shape) -> None:
    """Check that an initialiser can make a weight of this shape.

    Raises:
        DescriptionError: When it cannot (``orthogonal`` makes no vectors).
    """
    rank = len(shape) - int(spec.get("stacked", 0))
    needed = _RANKS.get(spec["kind"])
    if needed is not None and not needed[0] <= rank <= needed[1]:
        raise DescriptionError(f"the initializer '{spec['kind']}' makes no weights of shape {list(shape)}")


@functools.cache
def settings_of(kind: str) -> list[str]:
    """The names of the settings of an initialiser."""
    return [p for p in inspect.signature(REGISTRY[kind]).parameters if p not in ("rng", "shape")]


def fans(shape: Shape, fan_in: float | None = None, fan_out: float | None = None) -> tuple[float, float]:
    """Fan in and fan out of a weight of shape ``(out, in, *kernel)``; a vector counts as ``(n, n)``."""
    if len(shape) < 2:
        size = math.prod(shape)
        return fan_in or size, fan_out or size
    kernel = math.prod(shape[2:])
    return fan_in or shape[1] * kernel, fan_out or shape[0] * kernel


def _register(draw: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    REGISTRY[draw.__name__] = draw
    return draw


# --- constants --------------------------------------------------------------------------------------------------------


@_register
def zeros(rng: Rng, shape: Shape) -> np.ndarray:
    """All 0."""
    return np.zeros(shape)


@_register
def ones(rng: Rng, shape: Shape) -> np.ndarray:
    """All 1."""
    return np.ones(shape)


@_register
def constant(rng: Rng, shape: Shape, value: float = 0.0) -> np.ndarray:
    """All ``value``."""
    return np.full(shape, float(value))


@_register
def identity(rng: Rng, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """``gain`` on the diagonal of a matrix, 0 elsewhere (``keras.initializers.Identity``, ``torch.nn.init.eye_``)."""
    return gain * np.eye(shape[0], shape[1])


@_register
def dirac(rng: Rng, shape: Shape) -> np.ndarray:
    """The convolution that returns its input, as far as channels last (``torch.nn.init.dirac_``)."""
    array = np.zeros(shape)
    centre = tuple(size // 2 for size in shape[2:])
    for channel in range(min(shape[:2])):
        array[(channel, channel, *centre)] = 1.0
    return array


@_register
def lstm_bias(rng: Rng, shape: Shape, forget: float = 1.0) -> np.ndarray:
    """Zeros, but ``forget`` for the forget gate of an ONNX LSTM bias of shape ``(8 * hidden,)``, gates i o f c.

    Jozefowicz, Zaremba, Sutskever, "An Empirical Exploration of Recurrent Network Architectures" (2015), as in Keras'
    ``unit_forget_bias``.
    """
    array = np.zeros(shape)
    hidden = shape[-1] // 8
    array[..., 2 * hidden : 3 * hidden] = forget
    return array


# --- distributions ----------------------------------------------------------------------------------------------------


@_register
def uniform(rng: Rng, shape: Shape, minimum: float = -0.05, maximum: float = 0.05) -> np.ndarray:
    """Uniform on [minimum, maximum) (``keras.initializers.RandomUniform`` and its defaults)."""
    return rng.uniform(minimum, maximum, shape)


@_register
def normal(rng: Rng, shape: Shape, mean: float = 0.0, stddev: float = 0.05) -> np.ndarray:
    """Normal (``keras.initializers.RandomNormal`` and its defaults)."""
    return mean + stddev * rng.standard_normal(shape)


@_register
def truncated_normal(rng: Rng, shape: Shape, mean: float = 0.0, stddev: float = 0.05) -> np.ndarray:
    """Normal; draws beyond two standard deviations are drawn again (``keras.initializers.TruncatedNormal``).

    ``stddev`` is that of the normal before the cut, as in Keras.
    """
    return mean + stddev * _truncated(rng, shape)


def _truncated(rng: Rng, shape: Shape) -> np.ndarray:
    array = rng.standard_normal(shape)
    while (beyond := np.abs(array) > 2).any():
        array[beyond] = rng.standard_normal(int(beyond.sum()))
    return array


# --- variance by fans -------------------------------------------------------------------------------------------------


@_register
def glorot_uniform(
    rng: Rng, shape: Shape, gain: float = 1.0, fan_in: float | None = None, fan_out: float | None = None
) -> np.ndarray:
    """Uniform on +-``gain * sqrt(6 / (fan_in + fan_out))``.

    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), eq. 16;
    ``keras.initializers.GlorotUniform``, ``torch.nn.init.xavier_uniform_``.
    """
    return rng.uniform(-1, 1, shape) * gain * math.sqrt(6 / max(1, sum(fans(shape, fan_in, fan_out))))


@_register
def glorot_normal(
    rng: Rng, shape: Shape, gain: float = 1.0, fan_in: float | None = None, fan_out: float | None = None
) -> np.ndarray:
    """Normal with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    Glorot, Bengio (2010), eq. 12; ``torch.nn.init.xavier_normal_``. (Keras cuts it at two standard deviations.)
    """
    return rng.standard_normal(shape) * gain * math.sqrt(2 / max(1, sum(fans(shape, fan_in, fan_out))))


@_register
def he_uniform(rng: Rng, shape: Shape, slope: float = 0.0, fan_in: float | None = None) -> np.ndarray:
    """Uniform on +-``sqrt(6 / ((1 + slope^2) * fan_in))``; ``slope`` is that of the leaky ReLU after it.

    He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (2015), eqs. 10 and 15; ``keras.initializers.HeUniform``
    (slope 0), ``torch.nn.init.kaiming_uniform_`` (``nn.Linear`` and ``nn.Conv2d`` use slope sqrt(5)).
    """
    return rng.uniform(-1, 1, shape) * math.sqrt(6 / ((1 + slope**2) * max(1, fans(shape, fan_in)[0])))


@_register
def he_normal(rng: Rng, shape: Shape, slope: float = 0.0, fan_in: float | None = None) -> np.ndarray:
    """Normal with standard deviation ``sqrt(2 / ((1 + slope^2) * fan_in))``.

    He, Zhang, Ren, Sun (2015), eqs. 10 and 15; ``torch.nn.init.kaiming_normal_``.
    """
    return rng.standard_normal(shape) * math.sqrt(2 / ((1 + slope**2) * max(1, fans(shape, fan_in)[0])))


@_register
def lecun_uniform(rng: Rng, shape: Shape, fan_in: float | None = None) -> np.ndarray:
    """Uniform on +-``sqrt(3 / fan_in)``.

    LeCun, Bottou, Orr, Müller, "Efficient BackProp" (1998), section 4.6; ``keras.initializers.LecunUniform``.
    """
    return rng.uniform(-1, 1, shape) * math.sqrt(3 / max(1, fans(shape, fan_in)[0]))


@_register
def lecun_normal(rng: Rng, shape: Shape, fan_in: float | None = None) -> np.ndarray:
    """Normal cut at two standard deviations, with standard deviation ``sqrt(1 / fan_in)`` after the cut.

    LeCun, Bottou, Orr, Müller (1998), eq. 16; Klambauer et al., "Self-Normalizing Neural Networks" (2017);
    ``keras.initializers.LecunNormal``.
    """
    return _truncated(rng, shape) * math.sqrt(1 / max(1, fans(shape, fan_in)[0])) / _TRUNCATED_STDDEV


@_register
def variance_scaling(rng: Rng, shape: Shape, scale: float = 1.0, fan_in: float | None = None) -> np.ndarray:
    """Normal cut at two standard deviations, with variance ``scale / fan_in`` (``keras.initializers.VarianceScaling``).

    The cut makes the variance smaller by 0.8796^2, which is made good.
    """
    return _truncated(rng, shape) * math.sqrt(scale / max(1, fans(shape, fan_in)[0])) / _TRUNCATED_STDDEV


@_register
def orthogonal(rng: Rng, shape: Shape, gain: float = 1.0) -> np.ndarray:
    """``gain`` times a random matrix with orthonormal rows or columns, whichever are fewer; kernels are flattened.

    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"
    (2013); uniform by the sign correction of Mezzadri (2007); ``torch.nn.init.orthogonal_``.
    """
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return gain * (q if rows >= columns else q.T).reshape(shape)
