"""Special functions, written once: the bodies of the ops of the ``dlbridge`` domain, and what Keras files print.

All compute in float64, to about 1e-14, and give the dtype that they were given. Formulas: Abramowitz & Stegun, Handbook
of Mathematical Functions, 1964 (A&S); integrals are summed by the trapezoidal rule, which converges geometrically where
the integrand is periodic or falls off fast (Trefethen & Weideman, The exponentially convergent trapezoidal rule, 2014).

A function here uses ``ops``, ``math`` and its neighbours alone: Keras' writer copies it into the printed file, where
``ops`` is ``keras.ops``. A vector is not added but its negative subtracted: ``keras.ops.add`` could take it for a bias
along another axis.
"""

import math

from dlbridge.ops import arrays as ops


def stirling(x):
    """log Gamma(x) of x >= 8 (Stirling's series, A&S 6.1.40)."""
    series, inverse = 0.0, 1 / (x * x)
    for coefficient in (-3617 / 122400, 1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        series = series * inverse + coefficient
    return (x - 0.5) * ops.log(x) - x + series / x + math.log(2 * math.pi) / 2


def _reflected(x):
    """Whether x is below 1/2; z = x, or 1 - x there; whether a series in 1 / z needs z + 8; and z, z + 1, ... z + 7
    where it does."""
    left = x < 0.5
    z = ops.where(left, 1 - x, x)
    near = z < 8
    return left, z, near, ops.where(near, z, 1.0)[..., None] - ops.array(range(0, -8, -1), "float64")


def lgamma(x):
    """log |Gamma(x)|: Stirling's series for x + 8, and 1 - x in the place of x below 1/2."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    left, z, near, steps = _reflected(x)
    value = stirling(ops.where(near, z + 8, z)) - ops.where(near, ops.sum(ops.log(steps), axis=-1), 0.0)
    reflected = math.log(math.pi) - ops.log(ops.abs(ops.sin(math.pi * (x - ops.round(x))))) - value
    value = ops.where(left, reflected, value)
    return ops.cast(ops.where(ops.isinf(x), math.inf, value), dtype)


def digamma(x):
    """The derivative of log Gamma (A&S 6.3): its asymptotic series for x + 8, and 1 - x in the place of x below 1/2."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    left, z, near, steps = _reflected(x)
    total = ops.sum(1 / steps, axis=-1)
    far = ops.where(near, z + 8, z)
    series, inverse = 0.0, 1 / (far * far)
    for c in (43867 / 14364, -3617 / 8160, 1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12):
        series = series * inverse + c
    value = ops.log(far) - 0.5 / far - series * inverse - ops.where(near, total, 0.0)
    angle = math.pi * (x - ops.round(x))
    reflected = value - math.pi * ops.cos(angle) / ops.sin(angle)
    poles = ops.where(ops.equal(x, 0.0), -1 / x, math.nan)
    reflected = ops.where(ops.equal(angle, 0.0), poles, reflected)
    return ops.cast(ops.where(left, reflected, value), dtype)


def hurwitz(s, q):
    """sum (q + k)**-s over k >= 0, of s > 1 and q > 0: ten terms, and Euler's and Maclaurin's formula for the rest."""
    total = ops.sum(ops.power(q[..., None] - ops.array(range(0, -10, -1), "float64"), -s[..., None]), axis=-1)
    w = q + 10
    # The Bernoulli numbers by (2 j)!, which are -(-1)**j 2 zeta(2 j) / (2 pi)**(2 j), from j = 1 on.
    terms = [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600]
    terms += [-2 * (-1) ** j * (1 + 4.0**-j + 9.0**-j) / (2 * math.pi) ** (2 * j) for j in range(8, 13)]
    series, inverse = 0.0, 1 / (w * w)
    for j in range(11, -1, -1):
        series = series * ((s + (2 * j + 1)) * (s + (2 * j + 2)) * inverse) + terms[j]
    tail = ops.power(w, -s)
    return total + tail * (w / (s - 1) + 0.5 + s * series / w)


def zeta(s, q):
    """Hurwitz' zeta function, sum (q + k)**-s over k >= 0.

    Below zero it is, for a whole s, the sum over all whole k less the sum over k < 0: both of positive numbers.
    """
    dtype, s, q = q.dtype, ops.cast(s, "float64"), ops.cast(q, "float64")
    s, q = s + q * 0.0, q + s * 0.0
    negative, whole = q < 0, ops.equal(q, ops.floor(q))
    past = ops.logical_or(negative, ops.equal(q, 0.0))
    rest = q - ops.round(q)
    after, before = ops.where(rest < 0, 1 + rest, rest), ops.where(rest < 0, -rest, 1 - rest)
    sign = 1 - 2 * (s - 2 * ops.floor(s / 2))
    value = hurwitz(s, ops.where(negative, ops.where(whole, 1.0, after), ops.where(past, 1.0, q)))
    others = hurwitz(s, before) - hurwitz(s, ops.where(negative, 1 - q, 1.0))
    value = ops.where(negative, value + sign * others, value)
    undefined = ops.logical_and(negative, ops.logical_not(ops.equal(s, ops.floor(s))))
    value = ops.where(undefined, math.nan, value)
    value = ops.where(ops.logical_and(past, whole), math.inf, value)
    value = ops.where(s < 1, math.nan, value)
    return ops.cast(ops.where(ops.equal(s, 1.0), math.inf, value), dtype)


def polygamma(n, x):
    """The n-th derivative of digamma, n >= 1: (-1)**(n + 1) n! zeta(n + 1, x) (A&S 6.4.10)."""
    n = ops.cast(n, "float64")
    sign = 2 * (n - 2 * ops.floor(n / 2)) - 1
    value = sign * ops.exp(lgamma(n + 1)) * zeta(n + 1, ops.cast(x, "float64"))
    return ops.cast(value, x.dtype)


# --- the error function --------------------------------------------------------------------------------------------


def scaled_erfc(x):
    """exp(x**2) erfc(x) of x >= 0: the integral of exp(-t**2) x / (x**2 + t**2) / pi, of which t = i x is a pole."""
    squares = [(0.5 * k + 0.25) ** 2 for k in range(13)]
    weights = ops.array([math.exp(-square) for square in squares], "float64")
    total = ops.sum(weights / (x[..., None] + ops.array(squares, "float64") / x[..., None]), axis=-1)
    crossed = ops.minimum(x, 2 * math.pi)
    pole = 2 * ops.exp(crossed * crossed) / (1 + ops.exp(4 * math.pi * crossed))
    return total / math.pi + ops.where(x < 2 * math.pi, pole, 0.0)


def erfcx(x):
    """exp(x**2) erfc(x)."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    value = scaled_erfc(ops.abs(x))
    return ops.cast(ops.where(x < 0, 2 * ops.exp(x * x) - value, value), dtype)


def erfc(x):
    """1 - erf(x), without the loss of digits where erf is near 1."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    value = ops.exp(-x * x) * scaled_erfc(ops.abs(x))
    return ops.cast(ops.where(x < 0, 2 - value, value), dtype)


def inverse_erfc(c):
    """The x >= 0 whose erfc is c, 0 < c <= 1: Newton's method on logarithms, from the guess of Winitzki (2008)."""
    log_c, a = ops.log(c), 0.147
    half = 2 / (math.pi * a) + ops.log(c * (2 - c)) / 2
    guess = ops.sqrt(half * half - ops.log(c * (2 - c)) / a) - half
    x = ops.sqrt(ops.maximum(guess, 0.0))
    for _ in range(4):
        scaled = scaled_erfc(x)
        x = ops.maximum(x + (ops.log(scaled) - x * x - log_c) * scaled * (math.sqrt(math.pi) / 2), 0.0)
    return x


def erfinv(x):
    """The inverse of erf: its power series near zero."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    size = ops.abs(x)
    far = size > 0.02
    value = ops.sign(x) * inverse_erfc(1 - ops.where(ops.logical_and(far, size < 1), size, 0.5))
    u, series = x * x * (math.pi / 4), 0.0
    for coefficient in (4369 / 22680, 127 / 630, 7 / 30, 1 / 3, 1.0):
        series = series * u + coefficient
    value = ops.where(far, value, x * series * (math.sqrt(math.pi) / 2))
    value = ops.where(size > 1, math.nan, ops.where(ops.equal(size, 1.0), x * math.inf, value))
    return ops.cast(value, dtype)


def ndtri(p):
    """The inverse of the normal distribution function."""
    dtype, p = p.dtype, ops.cast(p, "float64")
    tail = ops.minimum(p, 1 - p)
    size = math.sqrt(2) * inverse_erfc(2 * ops.where(tail > 0, tail, 0.5))
    value = ops.where(p < 0.5, -size, size)
    outside = ops.where(ops.equal(tail, 0.0), (p - 0.5) * math.inf, math.nan)
    return ops.cast(ops.where(tail > 0, value, outside), dtype)


# --- Bessel functions ----------------------------------------------------------------------------------------------


def bessel_i0e(x):
    """exp(-|x|) I0(x): its integral over a period (A&S 9.6.16), and its asymptotic series (A&S 9.7.1) from 30 on."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    size = ops.abs(x)
    near, far, series = ops.minimum(size, 30.0), ops.maximum(size, 30.0), 1.0
    exponents = ops.array([math.cos(math.pi * (k + 0.5) / 32) - 1 for k in range(32)], "float64")
    total = ops.sum(ops.exp(near[..., None] * exponents), axis=-1)
    for k in range(20, 0, -1):
        series = 1 + series * ((2 * k - 1) ** 2 / (8 * k)) / far
    return ops.cast(ops.where(size < 30, total / 32, series / ops.sqrt(2 * math.pi * far)), dtype)


def bessel_i1e(x):
    """exp(-|x|) I1(x), as I0 (A&S 9.6.18)."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    size = ops.abs(x)
    near, far, series = ops.minimum(size, 30.0), ops.maximum(size, 30.0), 1.0
    cosines = ops.array([math.cos(math.pi * (k + 0.5) / 32) for k in range(32)], "float64")
    total = ops.sum((1 - cosines * cosines) * ops.exp(near[..., None] * (cosines - 1)), axis=-1)
    for k in range(20, 0, -1):
        series = 1 + series * (((2 * k - 1) ** 2 - 4) / (8 * k)) / far
    return ops.cast(ops.where(size < 30, x * total / 32, ops.sign(x) * series / ops.sqrt(2 * math.pi * far)), dtype)


def bessel_i0(x):
    """The modified Bessel function of the first kind, of order 0."""
    return bessel_i0e(x) * ops.exp(ops.abs(x))


def bessel_i1(x):
    """The modified Bessel function of the first kind, of order 1."""
    return bessel_i1e(x) * ops.exp(ops.abs(x))


def bessel_ke(x, order):
    """exp(x) K(x) of order 0 or 1: the integral of exp(-x (cosh t - 1)) cosh(order t) (A&S 9.6.24); its asymptotic
    series (A&S 9.7.2) from 30 on, and its pole at 0."""
    near, far = ops.minimum(ops.maximum(x, 1e-9), 30.0), ops.maximum(x, 30.0)
    step, series = 0.25 / ops.sqrt(1 + near / 4), 1.0
    grown = ops.exp(step[..., None] * ops.array([k / 2 for k in range(1, 128)], "float64"))
    rise = (grown - 1 / grown) * (grown - 1 / grown) / 2  # cosh t - 1
    terms = ops.exp(-near[..., None] * rise)
    total = 0.5 + ops.sum(terms * (1 + rise) if order else terms, axis=-1)
    for k in range(20, 0, -1):
        series = 1 + series * ((4 * order - (2 * k - 1) ** 2) / (8 * k)) / far
    value = ops.where(x < 30, step * total, series * ops.sqrt(math.pi / 2 / far))
    pole = 1 / ops.abs(x) if order else -ops.log(x / 2) - 0.5772156649015329
    value = ops.where(x < 1e-9, ops.exp(ops.minimum(x, 1.0)) * pole, value)
    return ops.where(x < 0, math.nan, value)


def bessel_k0e(x):
    """exp(x) K0(x)."""
    return ops.cast(bessel_ke(ops.cast(x, "float64"), 0), x.dtype)


def bessel_k1e(x):
    """exp(x) K1(x)."""
    return ops.cast(bessel_ke(ops.cast(x, "float64"), 1), x.dtype)


def bessel_k0(x):
    """The modified Bessel function of the second kind, of order 0."""
    return bessel_k0e(x) * ops.exp(-x)


def bessel_k1(x):
    """The modified Bessel function of the second kind, of order 1."""
    return bessel_k1e(x) * ops.exp(-x)


def hankel(x, order):
    """(P, Q) of Hankel's expansion of the Bessel functions of order 0 or 1, for x >= 25 (A&S 9.2.9)."""
    terms = [1.0]
    for k in range(1, 24):
        terms.append(terms[-1] * (4 * order - (2 * k - 1) ** 2) / (8 * k))
    p, q, inverse = 0.0, 0.0, -1 / (x * x)
    for k in range(22, -1, -2):
        p, q = p * inverse + terms[k], q * inverse + terms[k + 1]
    return p, q / x


def sines():
    """sin(pi (k + 1/2) / 64) for k = 0 ... 31: where the integrals of the Bessel functions are summed."""
    return ops.array([math.sin(math.pi * (k + 0.5) / 64) for k in range(32)], "float64")


def bessel_j0(x):
    """The Bessel function of the first kind, of order 0: its integral over a period (A&S 9.1.18)."""
    dtype, x = x.dtype, ops.abs(ops.cast(x, "float64"))
    near, far = ops.minimum(x, 25.0), ops.maximum(x, 25.0)
    value = ops.sum(ops.cos(near[..., None] * sines()), axis=-1) / 32
    p, q = hankel(far, 0)
    plus, minus = ops.sin(far) + ops.cos(far), ops.sin(far) - ops.cos(far)
    return ops.cast(ops.where(x < 25, value, (p * plus - q * minus) / ops.sqrt(math.pi * far)), dtype)


def bessel_j1(x):
    """The Bessel function of the first kind, of order 1 (A&S 9.1.20)."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    size, sine = ops.abs(x), sines()
    near, far = ops.minimum(size, 25.0), ops.maximum(size, 25.0)
    value = x * ops.sum((1 - sine * sine) * ops.cos(near[..., None] * sine), axis=-1) / 32
    p, q = hankel(far, 1)
    plus, minus = ops.sin(far) + ops.cos(far), ops.sin(far) - ops.cos(far)
    beyond = ops.sign(x) * (p * minus + q * plus) / ops.sqrt(math.pi * far)
    return ops.cast(ops.where(size < 25, value, beyond), dtype)


def neumann_weights():
    """sum (-1)**k cos(2 k t) / k at the nodes: what the even orders add to Y0, as weights in their integral."""
    angles = [math.pi * (node + 0.5) / 64 for node in range(32)]
    weights = [sum((-1) ** k * math.cos(2 * k * angle) / k for k in range(1, 31)) for angle in angles]
    return ops.array(weights, "float64")


def bessel_y0(x):
    """The Bessel function of the second kind, of order 0: J0 and the even orders behind it (A&S 9.1.88)."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    near, far = ops.minimum(x, 25.0), ops.maximum(x, 25.0)
    cosines = ops.cos(near[..., None] * sines()) / 32
    logarithm = (ops.log(near / 2) + 0.5772156649015329)[..., None]
    value = ops.sum((logarithm - 2 * neumann_weights()) * cosines, axis=-1) * (2 / math.pi)
    p, q = hankel(far, 0)
    plus, minus = ops.sin(far) + ops.cos(far), ops.sin(far) - ops.cos(far)
    value = ops.where(x < 25, value, (p * minus + q * plus) / ops.sqrt(math.pi * far))
    return ops.cast(ops.where(ops.equal(x, 0.0), -math.inf, ops.where(x < 0, math.nan, value)), dtype)


def bessel_y1(x):
    """The Bessel function of the second kind, of order 1: less the derivative of Y0."""
    dtype, x = x.dtype, ops.cast(x, "float64")
    near, far, sine = ops.minimum(x, 25.0), ops.maximum(x, 25.0), sines()
    angles = near[..., None] * sine
    logarithm = (ops.log(near / 2) + 0.5772156649015329)[..., None]
    j0, j1 = ops.cos(angles), (1 - sine * sine) * ops.cos(angles) * near[..., None]
    terms = logarithm * j1 - j0 / near[..., None] - 2 * neumann_weights() * sine * ops.sin(angles)
    value = ops.sum(terms, axis=-1) / (16 * math.pi)
    p, q = hankel(far, 1)
    plus, minus = ops.sin(far) + ops.cos(far), ops.sin(far) - ops.cos(far)
    value = ops.where(x < 25, value, (q * minus - p * plus) / ops.sqrt(math.pi * far))
    return ops.cast(ops.where(ops.equal(x, 0.0), -math.inf, ops.where(x < 0, math.nan, value)), dtype)


#: Op of the ``dlbridge`` domain -> its formula.
FUNCTIONS = {
    "BesselI0": bessel_i0,
    "BesselI0e": bessel_i0e,
    "BesselI1": bessel_i1,
    "BesselI1e": bessel_i1e,
    "BesselJ0": bessel_j0,
    "BesselJ1": bessel_j1,
    "BesselK0": bessel_k0,
    "BesselK0e": bessel_k0e,
    "BesselK1": bessel_k1,
    "BesselK1e": bessel_k1e,
    "BesselY0": bessel_y0,
    "BesselY1": bessel_y1,
    "Digamma": digamma,
    "Erfc": erfc,
    "Erfcx": erfcx,
    "Erfinv": erfinv,
    "Lgamma": lgamma,
    "Ndtri": ndtri,
    "Polygamma": polygamma,
    "Zeta": zeta,
}
