import jax.numpy as jnp
from flax import nnx


def attention(q, k, v):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = jnp.matmul(q * root, jnp.swapaxes(k, -1, -2) * root)
    weights = nnx.softmax(scores)
    return jnp.matmul(weights, v)


class MultiheadAttention(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(16, 48, rngs=rngs)
        self.out_proj = nnx.Linear(16, 16, rngs=rngs)

    def __call__(self, x):
        x = self.linear(x)
        q, k, v = jnp.split(x, 3, axis=2)
        q = q.reshape(q.shape[0], 17, 2, 8).transpose(0, 2, 1, 3)
        k = k.reshape(k.shape[0], 17, 2, 8).transpose(0, 2, 1, 3)
        x = attention(q, k, v.reshape(v.shape[0], 17, 2, 8).transpose(0, 2, 1, 3))
        x = x.transpose(0, 2, 1, 3)
        x = x.reshape(x.shape[0], 17, 16)
        return self.out_proj(x)


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
