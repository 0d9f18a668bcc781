"""A model that says a class for each place of an image: with the classes on axis 1, and on the last one."""

import numpy as np

from dlbridge import description

PLACES = """
dlbridge: 1
name: places
inputs: {x: {dtype: float32, shape: [batch, 3, 5, 4]}}
nodes:
  - {name: scores, op: Conv, channels: 4, kernel_shape: 3, pads: 1}
  - {name: last, op: Transpose, perm: [0, 2, 3, 1]}
outputs: {first: scores, last: last}
training:
  loss: LOSS
  optimizer: {kind: sgd}
  metrics: [accuracy]
  batch_size: 8
"""


def places(loss):
    rng = np.random.default_rng(4)
    label = rng.integers(0, 4, (64, 5, 4))
    image = (rng.normal(size=(64, 3, 5, 4)) / 2 + np.eye(3, 4)[:, label].swapaxes(0, 1)).astype(np.float32)
    return description.load(PLACES.replace("LOSS", loss)), {"x": image, "label": label}


FIRST = "{op: SoftmaxCrossEntropyLoss, of: first}"
LAST = "{op: SparseCategoricalCrossentropy, of: last, from_logits: true}"
