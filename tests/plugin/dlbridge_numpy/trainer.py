"""Trains by stochastic gradient descent, on the nodes of the model."""

import numpy as np

from dlbridge.errors import TrainingError
from dlbridge.ops.keys import op_key


class Trainer:
    def __init__(self, model, spec, *, from_logits, checkpoint):
        unknown = sorted({op_key(node) for node in model.graph} - {"Linear", "Relu"})
        if unknown or (spec.loss.op == "SparseCategoricalCrossentropy" and not from_logits):
            raise TrainingError(f"numpy does not train {', '.join(unknown) or 'probabilities'}", where=model.name)
        self.nodes, self.spec, self.step = list(model.graph), spec, checkpoint.step
        self.output = model.outputs[0]
        self.values = {value: np.array(value.const_value.numpy()) for value in model.graph.initializers.values()}
        self.inputs = {value.name: value for value in model.inputs}
        self.trained = model.parameters
        self.momentum = {value: np.zeros_like(self.values[value]) for value in self.trained}
        begun = checkpoint.slots.get("momentum", {})
        self.momentum |= {value: np.array(begun[value.name]) for value in self.trained if value.name in begun}

    def epoch(self, data):
        return self._over(data, self._update)

    def evaluate(self, data):
        return self._over(data, lambda values, gradient: None)

    def state(self):
        weights = {value.name: self.values[value].copy() for value in self.values}
        slots = {"momentum": {value.name: array.copy() for value, array in self.momentum.items()}}
        return weights, slots if self.spec.optimizer.momentum else {}, self.step

    def _over(self, data, update):
        """The means of the loss and the metrics over the batches."""
        totals, rows = {}, 0
        for inputs, target in data.batches():
            values = self._forward(inputs)
            numbers, gradient = self._loss(values[self.output], target)
            update(values, gradient)
            rows += len(target)
            totals = {name: totals.get(name, 0.0) + number * len(target) for name, number in numbers.items()}
        return {name: total / rows for name, total in totals.items()}

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
        """The loss and the metrics of a batch, and the loss' gradient by the output."""
        if self.spec.loss.op == "MeanSquaredError":
            error = y - target.reshape(y.shape)
            found, gradient = {"loss": np.mean(error**2)}, 2 * error / error.size
        else:
            logarithm = y - y.max(-1, keepdims=True)
            logarithm = logarithm - np.log(np.exp(logarithm).sum(-1, keepdims=True))
            right = np.eye(y.shape[-1], dtype=y.dtype)[target]
            found, gradient = {"loss": -np.mean((right * logarithm).sum(-1))}, (np.exp(logarithm) - right) / len(y)
            found["accuracy"] = np.mean(y.argmax(-1) == target)
        return {name: float(found[name]) for name in ("loss", *self.spec.metrics)}, gradient

    def _update(self, values, gradient):
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
            self.values[value] = self.values[value] - (optimizer.learning_rate * step).astype(step.dtype)
        self.step += 1
