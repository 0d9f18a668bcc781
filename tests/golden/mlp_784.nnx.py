import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class Mlp784(nnx.Module):
    def __init__(self, *, rngs):
        self.fc1 = nnx.Linear(784, 128, rngs=rngs)
        self.fc2 = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, image):
        x = self.fc1(image)
        x = nnx.relu(x)
        x = self.fc2(x)
        return nnx.softmax(x)


def train(model, image, label, epochs=5, batch_size=32):
    optimizer = nnx.Optimizer(model, optax.adam(0.001, eps=1e-07), wrt=nnx.Param)

    def loss_of(model, image, label):
        output = model(image)
        return -jnp.take_along_axis(
            jnp.log(jnp.clip(output, 1e-07)), label[..., None], axis=-1
        ).mean()

    @nnx.jit
    def step(model, optimizer, image, label):
        loss, gradients = nnx.value_and_grad(loss_of)(model, image, label)
        optimizer.update(model, gradients)
        return loss

    for epoch in range(epochs):
        model.train()
        order = np.random.permutation(len(label))
        for start in range(0, len(label), batch_size):
            rows = order[start : start + batch_size]
            loss = step(model, optimizer, image[rows], label[rows])
        print(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
