"""Trainings that must reach the same weights in every framework, and a table of it (``make training``)."""

from __future__ import annotations

import math
import sys
from functools import cache

import numpy as np

import dlbridge
from dlbridge import description, frameworks
from dlbridge.passes import precision
from dlbridge.training.spec import TrainingSpec
from tests.helpers import training_page

STEPS, BATCH = 100, 8
#: A weight has a gradient if that is larger than this share of the largest one of the model.
NO_GRADIENT = 1e-9

_MODELS = {
    "MLP": ("x: {dtype: float32, shape: [batch, 5]}", "{op: Linear, features: 8}|{op: Tanh}", (5,)),
    "CNN": (
        "x: {dtype: float32, shape: [batch, 2, 6, 6]}",
        "{name: conv, op: Conv, channels: 4, kernel_shape: 3, pads: 1, bias: false}|{name: bn, op: BatchNormalization}"
        "|{op: Softplus}|{name: conv2, op: Conv, channels: 3, kernel_shape: 3}"
        "|{op: AveragePool, kernel_shape: [2, 2], strides: [2, 2]}|{op: Flatten}",
        (2, 6, 6),
    ),
    "LSTM": (
        "x: {dtype: float32, shape: [batch, 5, 4]}",
        "{op: Transpose, perm: [1, 0, 2]}|{name: lstm, op: LSTM, hidden_size: 6}"
        "|{op: Squeeze, from: lstm.Y_h, axes: 0}",
        (5, 4),
    ),
    "transformer": (
        "x: {dtype: float32, shape: [batch, 5, 8]}",
        "{name: norm1, op: LayerNormalization}|{name: query, op: Linear, features: 8}"
        "|{name: key, op: Linear, from: norm1, features: 8, bias: false}"
        "|{name: value, op: Linear, from: norm1, features: 8}"
        "|{name: attended, op: Attention, from: [query, key, value], q_num_heads: 2, kv_num_heads: 2}"
        "|{name: out, op: Linear, features: 8}|{name: added, op: Add, A: x}|{name: norm2, op: LayerNormalization}"
        "|{name: fc1, op: Linear, features: 16}|{op: Gelu}|{name: fc2, op: Linear, features: 8}"
        "|{op: Add, A: added}|{op: ReduceMean, axes: [1], keepdims: 0}",
        (5, 8),
    ),
}
MODELS = tuple(_MODELS)


@cache
def model(name, features=3, ending="{op: Identity}", dtype="float64"):
    given, nodes, _ = _MODELS[name]
    lines = [*nodes.split("|"), f"{{name: last, op: Linear, features: {features}}}", f"{{name: end, {ending[1:]}"]
    text = f"dlbridge: 1\nname: {name.lower()}\ninputs: {{{given}}}\nnodes:\n"
    text += "".join(f"  - {line}\n" for line in lines) + "outputs: {y: end}\n"
    return precision.convert(description.load(text), dtype)


def data(name, kind, steps=STEPS):
    """Inputs and targets of a kind of loss."""
    rng = np.random.default_rng(1)
    rows = steps * BATCH
    classes = rng.integers(0, 3, rows)
    targets = {
        "classes": lambda: classes,
        "ignored": lambda: np.where(rng.random(rows) < 0.2, -100, classes),
        "rows": lambda: rng.dirichlet(np.ones(3), rows),
        "numbers": lambda: rng.normal(size=(rows, 3)),
        "shares": lambda: rng.integers(0, 2, (rows, 3)),
        "labels": lambda: np.where(np.arange(2) < rng.integers(1, 3, rows)[:, None], rng.integers(1, 3, (rows, 2)), -1),
    }
    x = rng.normal(size=(rows, *_MODELS[name][2]))
    return {"x": x, "label": targets[kind](), "importance": rng.random(rows)}


#: Optimizers, as a specification says them.
OPTIMIZERS = {
    "SGD": {"kind": "sgd", "learning_rate": 0.05},
    "SGD, momentum": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "SGD, Nesterov": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True},
    "SGD, dampening": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9, "dampening": 0.3},
    "SGD, decoupled decay": {"kind": "sgd", "learning_rate": 0.05, "weight_decay": 0.1, "decay": "decoupled"},
    "Adam": {"kind": "adam"},
    "Adam, coupled decay": {"kind": "adam", "weight_decay": 0.01},
    "AMSGrad": {"kind": "adam", "amsgrad": True},
    "AdamW": {"kind": "adamw", "weight_decay": 0.01},
    "AdamW, groups": {
        "kind": "adamw",
        "weight_decay": 0.1,
        "no_decay": ["*bias*"],
        "groups": [{"match": "last.*", "learning_rate": 3.0, "weight_decay": 0.01}],
    },
    "NAdam": {"kind": "nadam"},
    "RAdam": {"kind": "radam"},
    "Adamax": {"kind": "adamax"},
    "Adagrad": {"kind": "adagrad", "learning_rate_decay": 0.01, "initial_sum": 0.1},
    "Adadelta": {"kind": "adadelta"},
    "RMSprop": {"kind": "rmsprop"},
    "RMSprop, centered, momentum": {"kind": "rmsprop", "momentum": 0.9, "centered": True, "epsilon": 1e-3},
    "Lion": {"kind": "lion", "learning_rate": 0.001, "weight_decay": 0.01},
    "LAMB": {"kind": "lamb", "weight_decay": 0.01},
    "Adafactor": {"kind": "adafactor", "weight_decay": 0.01},
    "Muon": {"kind": "muon", "learning_rate": 0.003},
}
#: What is done beside the optimizer's step.
COURSES = {
    "clip by norm, cosine": {"clip": {"norm": 0.5}, "schedule": {"kind": "cosine", "warmup": 10}},
    "clip by value, one cycle": {"clip": {"value": 0.05}, "schedule": {"kind": "one_cycle"}},
    "accumulation, mean of weights": {"accumulate": 3, "ema": 0.9, "schedule": {"kind": "exponential", "gamma": 0.99}},
    "L1, L2": {"l1": 1e-3, "l2": 1e-2, "schedule": {"kind": "step", "every": 30, "gamma": 0.5}},
}
_SOFTMAX, _SIGMOID, _LOG = "{op: Softmax}", "{op: Sigmoid}", "{op: LogSoftmax, axis: 1}"
_PLAIN = "{op: Identity}"
#: Name -> the loss, what the model ends in, the kind of its target.
LOSSES = {
    "SoftmaxCrossEntropyLoss": ({}, _PLAIN, "classes"),
    "SoftmaxCrossEntropyLoss, of rows": ({}, _PLAIN, "rows"),
    "SoftmaxCrossEntropyLoss, smooth": ({"label_smoothing": 0.1}, _PLAIN, "classes"),
    "SoftmaxCrossEntropyLoss, class weights": ({"class_weights": [0.5, 1.0, 2.0]}, _PLAIN, "classes"),
    "SoftmaxCrossEntropyLoss, ignoring": ({"ignore_index": -100}, _PLAIN, "ignored"),
    "SoftmaxCrossEntropyLoss, weighted rows": ({"sample_weight": "importance"}, _PLAIN, "classes"),
    "NegativeLogLikelihoodLoss": ({}, _LOG, "classes"),
    "SparseCategoricalCrossentropy": ({}, _SOFTMAX, "classes"),
    "SparseCategoricalCrossentropy, of a sigmoid": ({}, _SIGMOID, "classes"),
    "CategoricalCrossentropy": ({}, _SOFTMAX, "rows"),
    "CategoricalFocalCrossentropy": ({"gamma": 1.5}, _SOFTMAX, "classes"),
    "KLDivergence": ({}, _SOFTMAX, "rows"),
    "BinaryCrossentropy": ({}, _SIGMOID, "shares"),
    "BinaryCrossentropy, smooth, of logits": ({"from_logits": True, "label_smoothing": 0.1}, _PLAIN, "shares"),
    "BinaryCrossentropy, pos_weight": ({"pos_weight": 3.0}, _SIGMOID, "shares"),
    "BinaryCrossentropy, of a softmax": ({}, _SOFTMAX, "shares"),
    "BinaryFocalCrossentropy": ({}, _SIGMOID, "shares"),
    "Hinge": ({}, _PLAIN, "shares"),
    "MeanSquaredError": ({}, _PLAIN, "numbers"),
    "MeanSquaredError, sum": ({"reduction": "sum"}, _PLAIN, "numbers"),
    "MeanSquaredError, weighted rows by count": (
        {"sample_weight": "importance", "reduction": "mean_by_count"},
        _PLAIN,
        "numbers",
    ),
    "MeanAbsoluteError": ({}, _PLAIN, "numbers"),
    "Huber": ({"delta": 0.7}, _PLAIN, "numbers"),
    "LogCosh": ({}, _PLAIN, "numbers"),
    "CosineSimilarity": ({}, _PLAIN, "numbers"),
    "CTC": ({}, "{op: Reshape, shape: [0, 4, 3]}", "labels"),
    "Triplet": ({}, _PLAIN, "classes"),
}


def trained_frameworks():
    """The frameworks that train and are installed."""
    return [name for name in frameworks.trainers() if frameworks.get(name).is_installed]


def case(name, optimizer=None, loss=None, course=None, dtype="float64", steps=STEPS):
    """The model, the data and the specification of a training."""
    given, ending, kind = LOSSES[loss or "SoftmaxCrossEntropyLoss"]
    op = (loss or "SoftmaxCrossEntropyLoss").partition(",")[0]
    spec = TrainingSpec(
        loss={"op": op, **given},
        optimizer=OPTIMIZERS[optimizer or "Adam"],
        batch_size=BATCH,
        **COURSES.get(course, {}),
    )
    made = model(name, 12 if op == "CTC" else 3, ending, dtype)
    arrays = data(name, kind, steps)
    return made, arrays, spec


def results(made, arrays, spec, names=None):
    """Framework -> its result; a refusal is what it says."""
    found = {}
    for framework in names or trained_frameworks():
        try:
            found[framework] = dlbridge.train(made, arrays, framework=framework, spec=spec)
        except dlbridge.errors.TrainingError as error:
            found[framework] = error.message
    return found


def with_gradient(made, arrays, spec):
    """The names of the weights that have a gradient: those that a step of SGD moves.

    The others are moved by rounding alone, which optimizers that divide by the size of a gradient make large: a bias
    that the loss does not see.
    """
    rows = {name: array[:BATCH] for name, array in arrays.items()}
    step = TrainingSpec(loss=spec.loss, optimizer={"kind": "sgd", "learning_rate": 1.0}, batch_size=BATCH)
    after = dlbridge.train(made, rows, framework="pytorch", spec=step).model.weights
    moved = {k: float(np.abs(w - made.weights[k]).max()) for k, w in after.items() if w.dtype.kind == "f"}
    return [name for name, size in moved.items() if size > NO_GRADIENT * max(moved.values())]


def difference(a, b, names):
    """The largest difference of a weight of these, relative to its largest number."""
    return max(float(np.abs(a[k] - b[k]).max() / max(np.abs(b[k]).max(), 1e-12)) for k in names)


def row(**what):
    """A line of the table: framework -> the largest difference from the first framework, or why it is refused."""
    made, arrays, spec = case(**what)
    found = results(made, arrays, spec)
    first, *others = found
    start, names = found[first], with_gradient(made, arrays, spec)
    line = {}
    for name in others:
        result = found[name]
        refused = next((r for r in (start, result) if isinstance(r, str)), None)
        line[name] = refused or difference(start.model.weights, result.model.weights, names)
    return line


def main():
    """Measure everything and write the table."""
    worst = 0.0
    names = trained_frameworks()
    lines = []
    tables = {
        "Optimizers": [{"optimizer": o} for o in OPTIMIZERS],
        "Losses": [{"loss": o} for o in LOSSES],
        "Schedules, clipping, accumulation, mean of the weights, penalties": [{"course": c} for c in COURSES],
    }
    for title, cases in tables.items():
        heads = [f"{m}, {n}" for m in MODELS for n in names[1:]]
        lines += [f"### {title}", "", f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for what in cases:
            cells = []
            for name in MODELS:
                for cell in row(name=name, **what).values():
                    cells.append("refused" if isinstance(cell, str) else f"{cell:.0e}")
                    worst = worst if isinstance(cell, str) else max(worst, math.inf if math.isnan(cell) else cell)
            lines.append(f"| {next(iter(what.values()))} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        lines.append("")
    training_page.write("definitions", training_page.definitions())
    training_page.write("table", "\n".join(lines))
    print(f"largest difference: {worst:.1e}")
    return worst


if __name__ == "__main__":
    sys.exit(0 if main() <= 1e-9 else 1)
