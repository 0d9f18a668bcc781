import jax.numpy as jnp
from flax import nnx


def attention(q, k, v, mask):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = jnp.matmul(q * root, jnp.swapaxes(k, -1, -2) * root)
    scores = jnp.where(mask, scores, float("-inf"))
    weights = masked_softmax(scores)
    return jnp.matmul(weights, v)


def masked_softmax(scores):
    """Softmax over the last axis, in which rows of -inf alone become 0."""
    hidden = jnp.equal(jnp.max(scores, axis=-1, keepdims=True), float("-inf"))
    return jnp.where(hidden, 0.0, nnx.softmax(jnp.where(hidden, 0.0, scores)))


class CachedAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.query = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.key = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.value = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(16, 16, use_bias=False, rngs=rngs)

    def __call__(self, x, keys, values):
        out = self.query(x)
        query = out.reshape(out.shape[0], out.shape[1], 2, 8).transpose(0, 2, 1, 3)
        out = self.key(x)
        keys_1 = out.reshape(out.shape[0], out.shape[1], 2, 8).transpose(0, 2, 1, 3)
        keys = jnp.concatenate([keys, keys_1], axis=2)
        x = self.value(x)
        values_1 = x.reshape(x.shape[0], x.shape[1], 2, 8).transpose(0, 2, 1, 3)
        values = jnp.concatenate([values, values_1], axis=2)
        places = jnp.arange(values.shape[2], dtype=int)
        mask = places[-values_1.shape[2]:, ...]
        mask = places <= jnp.expand_dims(mask, axis=1)
        y = attention(query, keys, values, mask).transpose(0, 2, 1, 3)
        x = self.out(y.reshape(y.shape[0], y.shape[1], 16))
        return keys, values, x


class DecoderBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1 = nnx.RMSNorm(16, rngs=rngs)
        self.attention = CachedAttention(rngs=rngs)
        self.norm2 = nnx.RMSNorm(16, rngs=rngs)
        self.gate = nnx.Linear(16, 48, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(16, 48, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(48, 16, use_bias=False, rngs=rngs)

    def __call__(self, x, keys, values):
        keys, values, y = self.attention(self.norm1(x), keys, values)
        x = x + y
        y = self.norm2(x)
        out = self.gate(y)
        out = nnx.silu(out)
        out = out * self.up(y)
        x = x + self.down(out)
        return keys, values, x


class CachedDecoder(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(30, 16, rngs=rngs)
        self.blocks = nnx.List([DecoderBlock(rngs=rngs), DecoderBlock(rngs=rngs)])
        self.norm = nnx.RMSNorm(16, rngs=rngs)
        self.head = nnx.Linear(16, 30, use_bias=False, rngs=rngs)

    def __call__(self, tokens, cache_0, cache_1, cache_2, cache_3):
        x = self.embedding(tokens)
        output_1_0, output_1_1, x = self.blocks[0](x, cache_0, cache_1)
        output_1_2, output_1_3, x = self.blocks[1](x, cache_2, cache_3)
        x = self.norm(x)
        x = self.head(x)
        return x, output_1_0, output_1_1, output_1_2, output_1_3
