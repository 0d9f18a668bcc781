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


def attention(q, k, v, heads):
    """Scaled dot-product attention of (batch, heads, time, size)."""
    q, k, v = (split_heads(x, h) for x, h in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    root = (q.shape[-1] ** -0.5) ** 0.5
    scores = jnp.matmul(q * root, jnp.swapaxes(k, -1, -2) * root)
    weights = nnx.softmax(scores)
    return merge_heads(jnp.matmul(weights, v))


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
