import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


class DoubleConv(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs):
        self.conv1 = nnx.Conv(in_features, out_features, (3, 3), padding=1, rngs=rngs)
        self.conv2 = nnx.Conv(out_features, out_features, (3, 3), padding=1, rngs=rngs)

    def __call__(self, x):
        x = self.conv1(x)
        x = nnx.relu(x)
        x = self.conv2(x)
        return nnx.relu(x)


class Up(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs):
        self.grow = nnx.ConvTranspose(
            in_features,
            out_features,
            (2, 2),
            strides=(2, 2),
            padding=((1, 1), (1, 1)),
            transpose_kernel=True,
            rngs=rngs,
        )
        self.convs = DoubleConv(in_features, out_features, rngs=rngs)

    def __call__(self, x, down):
        x = self.grow(x)
        x = jnp.concatenate([down, x], axis=3)
        return self.convs(x)


class Unet(nnx.Module):
    def __init__(self, *, rngs):
        self.down1 = DoubleConv(3, 16, rngs=rngs)
        self.down2 = DoubleConv(16, 32, rngs=rngs)
        self.bottom = DoubleConv(32, 64, rngs=rngs)
        self.up2 = Up(64, 32, rngs=rngs)
        self.up1 = Up(32, 16, rngs=rngs)
        self.head = nnx.Conv(16, 1, (1, 1), padding="VALID", rngs=rngs)

    def __call__(self, image):
        x = image.transpose(0, 2, 3, 1)
        down1 = self.down1(x)
        x = nnx.max_pool(down1, (2, 2), strides=(2, 2))
        down2 = self.down2(x)
        x = nnx.max_pool(down2, (2, 2), strides=(2, 2))
        x = self.bottom(x)
        x = self.up2(x, down2)
        x = self.up1(x, down1)
        x = self.head(x)
        return nnx.sigmoid(x).transpose(0, 3, 1, 2)


def train(model, image, label, epochs=5, batch_size=8):
    optimizer = nnx.Optimizer(model, optax.adam(0.001, eps=1e-07), wrt=nnx.Param)

    def loss_of(model, image, label):
        output = model(image)
        return -(label * jnp.log(output) + (1 - label) * jnp.log(1 - output)).mean()

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
