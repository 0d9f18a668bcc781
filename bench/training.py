"""An epoch of dlbridge's training, beside the same epoch written by hand for that framework."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import dlbridge
from bench.timing import seconds

ROWS, BATCH = 4096, 32
EXAMPLE = Path(__file__).parent.parent / "examples" / "mlp_784.yaml"


def run() -> list[dict[str, object]]:
    """Seconds of an epoch of the MLP of the tutorials (784-128-10, Adam, batches of 32) on 4096 rows."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 784)).astype(np.float32), rng.integers(0, 10, ROWS)
    rows = []
    for framework, by_hand in (("pytorch", _pytorch(x, y)), ("keras", _keras(x, y))):
        ours, theirs = seconds(_dlbridge(framework, x, y), by_hand, repeat=3)
        rows.append({"framework": framework, "dlbridge, s": ours, "by hand, s": theirs, "ratio": ours / theirs})
    return rows


def _dlbridge(framework: str, x: np.ndarray, y: np.ndarray):
    model = dlbridge.load(EXAMPLE)
    spec = model.training.model_copy(update={"epochs": 1, "batch_size": BATCH})
    return lambda: dlbridge.train(model, {"image": x, "label": y}, framework=framework, spec=spec)


def _pytorch(x: np.ndarray, y: np.ndarray):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    def epoch():
        model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer, loss_fn = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
        data = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=BATCH, shuffle=True)
        for images, labels in data:
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()

    return epoch


def _keras(x: np.ndarray, y: np.ndarray):
    import keras
    from keras import layers

    def epoch():
        model = keras.Sequential([keras.Input((784,)), layers.Dense(128, "relu"), layers.Dense(10, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, epochs=1, batch_size=BATCH, verbose=0)

    return epoch
