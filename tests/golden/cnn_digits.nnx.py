import numpy as np
import optax
from flax import nnx


class ConvBlock(nnx.Module):
    def __init__(self, in_features, out_features, *, rngs):
        self.conv = nnx.Conv(
            in_features, out_features, (3, 3), padding=1, use_bias=False, rngs=rngs
        )
        self.bn = nnx.BatchNorm(out_features, momentum=0.9, use_fast_variance=False, rngs=rngs)

    def __call__(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return nnx.relu(x)


class CnnDigits(nnx.Module):
    def __init__(self, *, rngs):
        self.stem = ConvBlock(1, 16, rngs=rngs)
        self.body = nnx.Sequential(ConvBlock(16, 16, rngs=rngs), ConvBlock(16, 16, rngs=rngs))
        self.top = ConvBlock(16, 32, rngs=rngs)
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, image):
        x = image.transpose(0, 2, 3, 1)
        x = self.stem(x)
        x = self.body(x)
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = self.top(x)
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return self.fc(x)


def train(model, image, label, epochs=5, batch_size=32):
    optimizer = nnx.Optimizer(model, optax.adam(0.001, eps=1e-07), wrt=nnx.Param)

    def loss_of(model, image, label):
        output = model(image)
        return optax.softmax_cross_entropy_with_integer_labels(output, label).mean()

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
