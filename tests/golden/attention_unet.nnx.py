import jax.numpy as jnp
from flax import nnx


def attention(q, k, v):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = jnp.matmul(q * root, jnp.swapaxes(k, -1, -2) * root)
    weights = nnx.softmax(scores)
    return jnp.matmul(weights, v)


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
