import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class TwoInputs(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(3, 16, (3, 3), strides=2, padding=1, rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), strides=2, padding=1, rngs=rngs)
        self.fc1 = nnx.Linear(12, 32, rngs=rngs)
        self.fc2 = nnx.Linear(64, 32, rngs=rngs)
        self.fc3 = nnx.Linear(32, 1, rngs=rngs)
        self.sold = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, photo, facts):
        x = photo.transpose(0, 2, 3, 1)
        x = self.conv1(x)
        x = nnx.relu(x)
        x = self.conv2(x)
        x = nnx.relu(x)
        x = jnp.mean(x, axis=(1, 2), keepdims=True)
        x = x.reshape(x.shape[0], -1)
        x = jnp.concatenate([x, nnx.relu(self.fc1(facts))], axis=1)
        x = self.fc2(x)
        x = nnx.relu(x)
        price = self.fc3(x)
        x = self.sold(x)
        sold_soon = nnx.sigmoid(x)
        return price, sold_soon


def train(model, photo, facts, label, epochs=5, batch_size=32):
    optimizer = nnx.Optimizer(model, optax.sgd(0.01, momentum=0.9), wrt=nnx.Param)

    def loss_of(model, photo, facts, label):
        output = model(photo, facts)[0]
        return jnp.square(output - label.reshape(output.shape)).mean()

    @nnx.jit
    def step(model, optimizer, photo, facts, label):
        loss, gradients = nnx.value_and_grad(loss_of)(model, photo, facts, label)
        optimizer.update(model, gradients)
        return loss

    for epoch in range(epochs):
        model.train()
        order = np.random.permutation(len(label))
        for start in range(0, len(label), batch_size):
            rows = order[start : start + batch_size]
            loss = step(model, optimizer, photo[rows], facts[rows], label[rows])
        print(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
