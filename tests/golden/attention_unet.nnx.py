import jax.numpy as jnp
from flax import nnx


def split_heads(x, heads):
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def merge_heads(x):
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def attention(q, k, v, mask=None, heads=None, is_causal=False, scale=None, softcap=None):
    """Scaled dot-product attention of (batch, heads, time, size), or of (batch, time, heads * size) with ``heads``."""
    if heads is not None:
        q, k, v = (split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    if k.shape[1] != q.shape[1]:
        k, v = (jnp.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    scores = jnp.matmul(q * root, jnp.swapaxes(k, -1, -2) * root)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if mask is not None:
        boolean = mask.dtype == bool
        scores = jnp.where(mask, scores, float("-inf")) if boolean else mask + scores
    if is_causal:
        ones = jnp.ones_like(scores[0, 0], dtype="int32")
        rows, columns = jnp.cumsum(ones, axis=0), jnp.cumsum(ones, axis=1)
        scores = jnp.where(columns <= rows, scores, float("-inf"))
    y = jnp.matmul(nnx.softmax(scores) if mask is None else masked_softmax(scores), v)
    return y if heads is None else merge_heads(y)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = jnp.equal(jnp.max(scores, axis=-1, keepdims=True), float("-inf"))
    return jnp.where(hidden, 0.0, nnx.softmax(jnp.where(hidden, 0.0, scores)))


class ResidualBlock(nnx.Module):
    def __init__(self, num_features, out_features, has_shortcut=False, *, rngs):
        self.out_features = out_features
        self.has_shortcut = has_shortcut
        self.norm1 = nnx.GroupNorm(
            num_features, 2, epsilon=1e-05, use_fast_variance=False, rngs=rngs
        )
        self.conv1 = nnx.Conv(num_features, out_features, (3, 3), padding=1, rngs=rngs)
        self.time = nnx.Linear(8, out_features, rngs=rngs)
        self.shortcut = nnx.Conv(
            num_features, out_features, (1, 1), padding="VALID", rngs=rngs
        ) if has_shortcut else None
        self.norm2 = nnx.GroupNorm(
            out_features, 2, epsilon=1e-05, use_fast_variance=False, rngs=rngs
        )
        self.conv2 = nnx.Conv(out_features, out_features, (3, 3), padding=1, rngs=rngs)

    def __call__(self, x, time):
        out = self.norm1(x)
        conv = self.conv1(nnx.silu(out))
        y = conv + self.time(nnx.silu(time)).reshape(-1, 1, 1, self.out_features)
        x = self.shortcut(x) if self.has_shortcut else x
        out = self.norm2(y)
        out = nnx.silu(out)
        return x + self.conv2(out)


class SpatialAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.GroupNorm(8, 2, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.qkv = nnx.Conv(8, 24, (1, 1), padding="VALID", rngs=rngs)
        self.out = nnx.Conv(8, 8, (1, 1), padding="VALID", rngs=rngs)

    def __call__(self, x):
        out = self.norm(x)
        out = self.qkv(out).reshape(-1, 16, 24)
        q, k, v = jnp.split(out, 3, axis=2)
        y = jnp.expand_dims(q, axis=0)
        y = attention(y, jnp.expand_dims(k, axis=0), jnp.expand_dims(v, axis=0)).reshape(-1, 16, 8)
        return x + self.out(y.reshape(-1, 4, 4, 8))


class AttentionUNet(nnx.Module):
    def __init__(self, *, rngs):
        self.time = nnx.Sequential(
            nnx.Linear(1, 8, rngs=rngs), nnx.silu, nnx.Linear(8, 8, rngs=rngs)
        )
        self.stem = nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs)
        self.down1 = ResidualBlock(4, 4, rngs=rngs)
        self.downsample = nnx.Conv(4, 4, (3, 3), strides=2, padding=1, rngs=rngs)
        self.down2 = ResidualBlock(4, 8, has_shortcut=True, rngs=rngs)
        self.attention = SpatialAttention(rngs=rngs)
        self.middle = ResidualBlock(8, 8, rngs=rngs)
        self.up1 = ResidualBlock(12, 4, has_shortcut=True, rngs=rngs)
        self.head = nnx.Conv(4, 3, (3, 3), padding=1, rngs=rngs)

    def __call__(self, image, step):
        time = self.time(step)
        x = image.transpose(0, 2, 3, 1)
        x = self.stem(x)
        skip = self.down1(x, time)
        x = self.downsample(skip)
        x = self.down2(x, time)
        x = self.attention(x)
        x = self.middle(x, time)
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = jnp.concatenate([x, skip], axis=3)
        x = self.up1(x, time)
        return self.head(x).transpose(0, 3, 1, 2)
