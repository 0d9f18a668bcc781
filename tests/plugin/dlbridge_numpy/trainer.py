"""Trains by stochastic gradient descent, on the nodes of the model."""

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.ops.keys import op_key


class Trainer:
    """Trains a model by the one loss of its task.

    Args:
        model: The model; its outputs are what the losses read.
        task: The specification, and the losses bound to the outputs (``dlbridge.training.task``).
        checkpoint: Where to go on.
    """

    def __init__(self, model, task, *, checkpoint):
        unknown = sorted({op_key(node) for node in model.graph} - {"Linear", "Relu"})
        if unknown:
            raise TrainingError(f"numpy does not train {', '.join(unknown)}", where=model.name)
        (self.loss,), self.spec, self.step = task.losses, task.spec, checkpoint.step
        refused = self._refused()
        if refused:
            raise TrainingError(f"numpy does not train by {', '.join(refused)}", where=model.name)
        self.nodes, self.task = list(model.graph), task
        self.output = model.outputs[0]
        self.values = {value: np.array(value.const_value.numpy()) for value in model.graph.initializers.values()}
        self.inputs = {value.name: value for value in model.inputs}
        self.trained = model.parameters
        self.momentum = {value: np.zeros_like(self.values[value]) for value in self.trained}
        begun = checkpoint.slots.get("momentum", {})
        self.momentum |= {value: np.array(begun[value.name]) for value in self.trained if value.name in begun}

    def _refused(self):
        """What the specification asks for and is not done here."""
        spec, optimizer, loss = self.spec, self.spec.optimizer, self.loss
        asked = {
            "probabilities": loss.op == "SparseCategoricalCrossentropy" and not loss.reads_logits,
            "sums of losses": loss.reduction != "mean",
            "weights of classes or rows": loss.sample_weight or getattr(loss, "class_weights", None),
            "ignored classes": getattr(loss, "ignore_index", None) is not None,
            "label smoothing": getattr(loss, "label_smoothing", 0),
            "several batches a step": spec.accumulate != 1,
            "clipped gradients": spec.clip,
            "a mean of the weights": spec.ema is not None,
            "dampening, decay or groups": optimizer.dampening or optimizer.weight_decay or optimizer.groups,
            "metrics but accuracy": any(metric.kind != "accuracy" for metric in spec.metrics),
        }
        return [what for what, is_asked in asked.items() if is_asked]

    def epoch(self, data):
        numbers = iter(data.steps)
        return self._over(data, lambda values, gradient: self._update(values, gradient, next(numbers)["rate"]))

    def evaluate(self, data):
        return self._over(data, lambda values, gradient: None)

    def state(self):
        weights = {value.name: self.values[value].copy() for value in self.values}
        slots = {"momentum": {value.name: array.copy() for value, array in self.momentum.items()}}
        return weights, slots if self.spec.optimizer.momentum else {}, self.step

    def _over(self, data, update):
        """The loss and the metrics over all batches."""
        loss, right, rows = 0.0, 0, 0
        for batch in data.batches():
            (target,) = batch.targets
            values = self._forward(batch.inputs)
            y = values[self.output]
            found, gradient = self._loss(y, target)
            update(values, gradient)
            rows += batch.rows
            loss += found * batch.rows
            right += (y.argmax(-1) == target).sum() if self.task.metrics else 0
        sums = [{"right": right, "count": rows} for _ in self.task.metrics]
        return self.task.numbers(loss, rows, sums)

    def _forward(self, inputs):
        values = {**self.values, **{self.inputs[name]: array for name, array in inputs.items()}}
        for node in self.nodes:
            x, *weights = (values[value] for value in node.inputs if value is not None)
            if op_key(node) == "Relu":
                values[node.outputs[0]] = np.maximum(x, 0)
            else:
                values[node.outputs[0]] = x @ weights[0].T + (weights[1] if len(weights) > 1 else 0)
        return values

    def _loss(self, y, target):
        """The loss of a batch, and its gradient by the output."""
        if self.loss.op == "MeanSquaredError":
            error = y - target.reshape(y.shape)
            return float(np.mean(error**2)), 2 * error / error.size
        logarithm = y - y.max(-1, keepdims=True)
        logarithm = logarithm - np.log(np.exp(logarithm).sum(-1, keepdims=True))
        right = np.eye(y.shape[-1], dtype=y.dtype)[target]
        return float(-np.mean((right * logarithm).sum(-1))), (np.exp(logarithm) - right) / len(y)

    def _update(self, values, gradient, rate):
        """One step: gradients from the last node to the first, then the optimizer."""
        gradients = {self.output: gradient}
        for node in reversed(self.nodes):
            x, *weights = node.inputs
            g = gradients[node.outputs[0]]
            if op_key(node) == "Relu":
                found = {x: g * (values[x] > 0)}
            else:
                found = {x: g @ values[weights[0]], weights[0]: g.T @ values[x]}
                found |= {bias: g.sum(0) for bias in weights[1:] if bias is not None}
            for value, array in found.items():
                gradients[value] = gradients.get(value, 0) + array
        optimizer = self.spec.optimizer
        for value in self.trained:
            g = gradients[value].astype(self.values[value].dtype)
            self.momentum[value] = optimizer.momentum * self.momentum[value] + g
            step = g + optimizer.momentum * self.momentum[value] if optimizer.nesterov else self.momentum[value]
            self.values[value] = self.values[value] - (rate * step).astype(step.dtype)
        self.step += 1
