"""Processor time of an epoch of dlbridge's training, beside the loop or ``fit`` that its user would write."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import dlbridge
from dlbridge.training import Callback

BATCH, EPOCHS, ROUNDS = 32, 8, 5
EXAMPLES = Path(__file__).parent.parent / "examples"
#: Example -> (rows, the shape of a row, the number of tokens or None, the number of classes).
MODELS = {
    "mlp_784": (4096, (784,), None, 10),
    "cnn_digits": (1024, (1, 8, 8), None, 10),
    "lstm_text": (512, (24,), 1000, 4),
    "transformer_encoder": (512, (24,), 1000, 4),
}


def run() -> list[dict[str, object]]:
    """The median epoch of each training, after the first; the trainings take turns, and the ratio is the median of
    those of the rounds, so that what else the machine does moves both."""
    rows = []
    for name in MODELS:
        for framework, by_hand in (("pytorch", _pytorch), ("keras", _keras)):
            model, spec, x, y = _case(name)
            rounds = [(_dlbridge(framework, model, spec, x, y), by_hand(model, x, y)) for _ in range(ROUNDS)]
            ours, theirs = np.median(rounds, axis=0).tolist()
            ratio = float(np.median([one / other for one, other in rounds]))
            rows.append(
                {"model": name, "framework": framework, "dlbridge, s": ours, "by hand, s": theirs, "ratio": ratio}
            )
    return rows


def _case(name: str):
    count, shape, tokens, classes = MODELS[name]
    model, rng = dlbridge.load(EXAMPLES / f"{name}.yaml"), np.random.default_rng(0)
    x = rng.integers(0, tokens, (count, *shape)) if tokens else rng.normal(size=(count, *shape)).astype(np.float32)
    is_probabilities = name == "mlp_784"
    loss = {"op": "SparseCategoricalCrossentropy" if is_probabilities else "SoftmaxCrossEntropyLoss"}
    spec = dlbridge.training.TrainingSpec(
        loss=loss, optimizer={"kind": "adam"}, metrics=("accuracy",), epochs=EPOCHS, batch_size=BATCH
    )
    return model, spec, x, rng.integers(0, classes, count)


class _Epochs(Callback):
    """The processor time at the end of each epoch."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_epoch(self, checkpoint, metrics) -> None:
        self.ends.append(time.process_time())

    @property
    def usual(self) -> float:
        """The median epoch, without the first, in which functions are compiled."""
        return float(np.median(np.diff(self.ends)))


def _dlbridge(framework: str, model, spec, x, y) -> float:
    told = _Epochs()
    name = model.inputs[0].name
    dlbridge.train(model, {name: x, "label": y}, framework=framework, spec=spec, callbacks=[told])
    return told.usual


def _pytorch(model, x, y) -> float:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    told, module = _Epochs(), model.to_pytorch().train()
    # what a tutorial trains has no Softmax at its end
    if isinstance(last := list(module.children())[-1], nn.Softmax):
        module = nn.Sequential(*[child for child in module.children() if child is not last])
    optimizer, criterion = torch.optim.Adam(module.parameters()), nn.CrossEntropyLoss()
    data = DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=BATCH, shuffle=True)
    for _ in range(EPOCHS):
        total, right = 0.0, 0
        for rows, labels in data:
            optimizer.zero_grad()
            output = module(rows)
            loss = criterion(output, labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            right += (output.argmax(1) == labels).sum().item()
        told.on_epoch(None, {"loss": total / len(x), "accuracy": right / len(x)})
    return told.usual


def _keras(model, x, y) -> float:
    import keras

    told, live = _Epochs(), model.to_keras()
    is_probabilities = "probab" in model.outputs[0].name
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not is_probabilities)
    live.compile("adam", loss, metrics=["accuracy"])
    ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.on_epoch(None, logs))
    live.fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0, callbacks=[ends])
    return told.usual
