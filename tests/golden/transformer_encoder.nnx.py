import jax.numpy as jnp
import numpy as np
import optax
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


class Attention(nnx.Module):
    def __init__(self, *, rngs):
        self.query = nnx.Linear(64, 64, rngs=rngs)
        self.key = nnx.Linear(64, 64, rngs=rngs)
        self.value = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 64, rngs=rngs)

    def __call__(self, x):
        query = self.query(x)
        key = self.key(x)
        x = self.value(x)
        x = attention(query, key, x, heads=(4, 4))
        return self.out(x)


class EncoderBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1 = nnx.LayerNorm(64, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.attention = Attention(rngs=rngs)
        self.norm2 = nnx.LayerNorm(64, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.fc1 = nnx.Linear(64, 256, rngs=rngs)
        self.fc2 = nnx.Linear(256, 64, rngs=rngs)

    def __call__(self, x):
        attended = x + self.attention(self.norm1(x))
        x = self.norm2(attended)
        x = self.fc1(x)
        x = nnx.gelu(x, approximate=False)
        return attended + self.fc2(x)


class TransformerEncoder(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(1000, 64, rngs=rngs)
        self.blocks = nnx.Sequential(EncoderBlock(rngs=rngs), EncoderBlock(rngs=rngs))
        self.norm = nnx.LayerNorm(64, epsilon=1e-05, use_fast_variance=False, rngs=rngs)
        self.classifier = nnx.Linear(64, 4, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((128, 64)))

    def __call__(self, tokens):
        x = self.embedding(tokens)
        positions_here = self.positions[:tokens.shape[1], ...]
        x = x + positions_here
        x = self.blocks(x)
        x = self.norm(x)
        x = jnp.mean(x, axis=1)
        return self.classifier(x)


def train(model, tokens, label, epochs=10, batch_size=32):
    optimizer = nnx.Optimizer(
        model, optax.adamw(0.001, eps=1e-07, weight_decay=0.004), wrt=nnx.Param
    )

    def loss_of(model, tokens, label):
        output = model(tokens)
        return optax.softmax_cross_entropy_with_integer_labels(output, label).mean()

    @nnx.jit
    def step(model, optimizer, tokens, label):
        loss, gradients = nnx.value_and_grad(loss_of)(model, tokens, label)
        optimizer.update(model, gradients)
        return loss

    for epoch in range(epochs):
        model.train()
        order = np.random.permutation(len(label))
        for start in range(0, len(label), batch_size):
            rows = order[start : start + batch_size]
            loss = step(model, optimizer, tokens[rows], label[rows])
        print(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
