"""Functions of arrays that JAX has in another form."""

import jax
import jax.numpy as jnp


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def expand(x, shape):
    """x broadcast against a shape."""
    return jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, tuple(shape)))


def moments(x, axes, keepdims=False):
    """Mean and variance over axes."""
    axes = tuple(axes) if isinstance(axes, (list, tuple)) else axes
    return jnp.mean(x, axes, keepdims=keepdims), jnp.var(x, axes, keepdims=keepdims)


def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """Normalises along an axis by given statistics."""
    shape = [1] * x.ndim
    shape[axis] = -1
    inverse = jax.lax.rsqrt(variance + epsilon)
    inverse = inverse if scale is None else inverse * scale
    y = (x - mean.reshape(shape)) * inverse.reshape(shape)
    return y if offset is None else y + offset.reshape(shape)


def group_norm(x, scale, offset, groups, axis, epsilon):
    """Normalises groups of channels of an axis; None for groups of one channel each."""
    channels = jnp.moveaxis(x, axis, -1)
    size = 1 if groups is None else channels.shape[-1] // groups
    parts = channels.reshape(*channels.shape[:-1], -1, size)
    axes = (*range(1, x.ndim - 1), -1)
    mean, variance = moments(parts, axes, keepdims=True)
    y = ((parts - mean) * jax.lax.rsqrt(variance + epsilon)).reshape(channels.shape)
    return jnp.moveaxis(y * scale + offset, -1, axis)


def conv(x, kernel, strides=1, padding="valid", dilation_rate=1, data_format=None):
    """A convolution of x (batch, ..., channels) by a kernel (..., in / groups, out)."""
    count = x.ndim - 2
    strides, dilation_rate = ((n,) * count if isinstance(n, int) else n for n in (strides, dilation_rate))
    axes = "DHWXYZ"[:count]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation_rate,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )


def depthwise_conv(x, kernel, padding="valid", data_format=None):
    """A convolution of each channel of x (batch, ..., channels) by itself, with a kernel (..., channels, 1)."""
    return conv(x, jnp.swapaxes(kernel, -1, -2), padding=padding)


def scatter_update(x, at, updates, reduction=None):
    """x with updates put (or reduced: add, mul, max, min) at the places that the rows of ``at`` name."""
    places = x.at[tuple(jnp.moveaxis(at, -1, 0))]
    return getattr(places, reduction or "set")(updates)


def while_loop(condition, step, values):
    """Runs ``values = step(*values)`` while the condition of them holds."""
    return jax.lax.while_loop(lambda v: condition(*v), lambda v: tuple(step(*v)), tuple(map(jnp.asarray, values)))


def fft(x):
    """The Fourier transform of a real and an imaginary part along the last axis, as such a pair."""
    y = jnp.fft.fft(jax.lax.complex(*x))
    return y.real, y.imag
