"""Normalisations that Keras has no layer or function for."""

from dlbridge.source.arrays import ops


def normalize_on_batch(x, scale, offset, axis, epsilon):
    """Normalises with the batch's own mean and variance, at inference too."""
    mean, variance = ops.moments(x, [a for a in range(len(x.shape)) if a != axis % len(x.shape)])
    return ops.batch_normalization(x, mean, variance, axis, offset=offset, scale=scale, epsilon=epsilon)


def batch_norm_on_batch(x, scale, offset, mean, variance, axis, epsilon, momentum):
    """Normalises with the batch's own mean and variance; also gives the new running ones."""
    axes = [a for a in range(len(x.shape)) if a != axis % len(x.shape)]
    batch_mean, batch_variance = ops.moments(x, axes)
    y = ops.batch_normalization(x, batch_mean, batch_variance, axis, offset=offset, scale=scale, epsilon=epsilon)
    new_mean = mean * momentum + batch_mean * (1 - momentum)
    return y, new_mean, variance * momentum + batch_variance * (1 - momentum)


def layer_norm(x, scale, bias, axes, epsilon):
    """Layer norm over any axes; also the mean and the inverse standard deviation."""
    mean, variance = ops.moments(x, axes=axes, keepdims=True)
    inverse = ops.rsqrt(variance + epsilon)
    y = scale * ((x - mean) * inverse)
    return (y if bias is None else bias + y), mean, inverse


def rms_norm(x, scale, axes, epsilon):
    """x over its root mean square."""
    return scale * (x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon))


def lp_norm(x, p, axes):
    """The p-norm over axes, which stay."""
    return ops.power(ops.sum(ops.power(ops.abs(x), p), axis=axes, keepdims=True), 1 / p)


def standardize(x, axes):
    """x with mean 0 and variance 1 over the axes."""
    mean, variance = ops.moments(x, axes=axes, keepdims=True)
    return (x - mean) / (ops.sqrt(variance) + 1e-9)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Divides by the squares of ``size`` neighbouring channels, the last axis; of an even number, one more behind."""
    channels = x.shape[-1]
    squares = ops.pad(ops.square(x), [(0, 0)] * (len(x.shape) - 1) + [((size - 1) // 2, size // 2)])
    total = sum(squares[..., i : i + channels] for i in range(size))
    return x / ops.power(bias + alpha / size * total, beta)
