import math

import jax.numpy as jnp
from flax import nnx


class UnbiasedBatchNorm(nnx.BatchNorm):
    """Batch normalisation whose running variance is n / (n - 1) of the batch's, as PyTorch keeps it."""

    def __call__(self, x, use_running_average=None):
        frozen = self.use_running_average if use_running_average is None else use_running_average
        if frozen:
            return super().__call__(x, use_running_average=True)
        before = self.var[...]
        y = super().__call__(x, use_running_average=False)
        count = math.prod(x.shape) // x.shape[self.axis]
        kept = self.momentum * before
        self.var[...] = kept + (self.var[...] - kept) * count / (count - 1)
        return y


class BasicBlock(nnx.Module):
    def __init__(self, in_features, out_features, strides=1, has_downsample=False, *, rngs):
        self.has_downsample = has_downsample
        self.downsample = nnx.Sequential(
            nnx.Conv(
                in_features,
                out_features,
                (1, 1),
                strides=strides,
                padding="VALID",
                use_bias=False,
                rngs=rngs,
            ),
            UnbiasedBatchNorm(out_features, momentum=0.9, use_fast_variance=False, rngs=rngs),
        ) if has_downsample else None
        self.conv1 = nnx.Conv(
            in_features, out_features, (3, 3), strides=strides, padding=1, use_bias=False, rngs=rngs
        )
        self.bn1 = UnbiasedBatchNorm(out_features, momentum=0.9, use_fast_variance=False, rngs=rngs)
        self.conv2 = nnx.Conv(
            out_features, out_features, (3, 3), padding=1, use_bias=False, rngs=rngs
        )
        self.bn2 = UnbiasedBatchNorm(out_features, momentum=0.9, use_fast_variance=False, rngs=rngs)

    def __call__(self, x):
        identity = self.downsample(x) if self.has_downsample else x
        x = self.conv1(x)
        x = self.bn1(x)
        out = nnx.relu(x)
        out = self.conv2(out)
        out = self.bn2(out)
        out = out + identity
        return nnx.relu(out)


class ResNet18(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(3, 8, (7, 7), strides=2, padding=3, use_bias=False, rngs=rngs)
        self.bn1 = UnbiasedBatchNorm(8, momentum=0.9, use_fast_variance=False, rngs=rngs)
        self.layer1 = nnx.Sequential(BasicBlock(8, 8, rngs=rngs), BasicBlock(8, 8, rngs=rngs))
        self.layer2 = nnx.Sequential(
            BasicBlock(8, 16, strides=2, has_downsample=True, rngs=rngs),
            BasicBlock(16, 16, rngs=rngs),
        )
        self.layer3 = nnx.Sequential(
            BasicBlock(16, 32, strides=2, has_downsample=True, rngs=rngs),
            BasicBlock(32, 32, rngs=rngs),
        )
        self.layer4 = nnx.Sequential(
            BasicBlock(32, 64, strides=2, has_downsample=True, rngs=rngs),
            BasicBlock(64, 64, rngs=rngs),
        )
        self.fc = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = x.transpose(0, 2, 3, 1)
        x = self.conv1(x)
        x = self.bn1(x)
        x = nnx.relu(x)
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = jnp.mean(x, axis=(1, 2), keepdims=True).reshape(-1, 64)
        return self.fc(x)
