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


class MultiheadAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(16, 48, rngs=rngs)
        self.linear_1 = nnx.Linear(16, 16, rngs=rngs)

    def __call__(self, x):
        x = x.transpose(1, 0, 2)
        x = self.linear(x)
        x = x.reshape(17, x.shape[1], 3, 16)
        x = jnp.expand_dims(x, axis=0)
        x = jnp.squeeze(x, axis=0)
        out = x[:, :, 0]
        gather = x[:, :, 1]
        x = x[:, :, 2]
        out = out.reshape(17, -1, 8).transpose(1, 0, 2)
        gather = gather.reshape(17, -1, 8).transpose(1, 0, 2)
        x = x.reshape(17, -1, 8).transpose(1, 0, 2)
        out = out.reshape(-1, 2, 17, 8)
        gather = gather.reshape(-1, 2, 17, 8)
        x = x.reshape(-1, 2, 17, 8)
        x = attention(out, gather, x).transpose(2, 0, 1, 3).reshape(-1, 16)
        return self.linear_1(x).reshape(17, -1, 16).transpose(1, 0, 2)


class EncoderBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1 = nnx.LayerNorm(16, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.attention = MultiheadAttention(rngs=rngs)
        self.norm2 = nnx.LayerNorm(16, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(16, 64, rngs=rngs),
            lambda x: nnx.gelu(x, approximate=False),
            nnx.Dropout(0.1, rngs=rngs),
            nnx.Linear(64, 16, rngs=rngs),
        )

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nnx.Module):
    def __init__(self, *, rngs):
        self.patches = nnx.Conv(3, 16, (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.blocks = nnx.Sequential(*[EncoderBlock(rngs=rngs) for _ in range(3)])
        self.norm = nnx.LayerNorm(16, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, 1, 16)))
        self.positions = nnx.Param(jnp.zeros((1, 17, 16)))

    def __call__(self, image):
        x = image.transpose(0, 2, 3, 1)
        x = self.patches(x).reshape(-1, 16, 16)
        x = jnp.concatenate([jnp.broadcast_to(self.class_token, (x.shape[0], 1, 16)), x], axis=1)
        x = x + self.positions
        x = self.blocks(x)
        x = self.norm(x)
        x = x[:, 0]
        return self.head(x)
