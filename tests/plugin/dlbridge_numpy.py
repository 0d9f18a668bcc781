"""A framework plugged in from outside: models of a few ops as a numpy function. Shows what a plug-in has to do."""

import numpy as np

from dlbridge.errors import DlbridgeError, TrainingError
from dlbridge.passes.prepare import prepare
from dlbridge.source.arithmetic import Arithmetic
from dlbridge.source.code import call, code
from dlbridge.source.emission import emit_all
from dlbridge.source.names import Names, identifier
from dlbridge.source.op import Rules
from dlbridge.source.program import Source
from dlbridge.source.weights import Weight

rules = Rules("numpy")


@rules("Linear", domain="dlbridge")
def linear(op):
    product = code("{} @ {}.T", op[0], op[1])
    return code("{} + {}", product, op[2]) if op.has(2) else product


@rules("Relu")
def relu(op):
    return call("np.maximum", op.x, 0)


@rules("Softmax")
def softmax(op):
    return call("softmax", op.x)


HEAD = """import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


"""


class Numpy:
    name = "numpy"
    extra = "numpy"
    suffixes = ()

    def accepts(self, source):
        return False

    def read(self, source, **options):
        raise DlbridgeError("a numpy function cannot be read")

    def write(self, model, **options):
        model = prepare(model)
        emits, returned = emit_all(model.graph, rules, Arithmetic(lambda v, a: code(f"{{}}.shape[{a}]", v)), None)
        taken, names = Names(), {}
        for value in [*model.inputs, *model.graph.initializers.values(), *(n.outputs[0] for n in emits)]:
            names[value] = taken.fresh(identifier(value.name))
        text = "".join(f"    {names[n.outputs[0]]} = {e.code.text(names.get)}\n" for n, e in emits.items())
        weights = {names[v]: Weight.of(k) for k, v in model.graph.initializers.items()}
        arguments = ", ".join([*(names[v] for v in model.inputs), *weights])
        result = ", ".join(names[v] for v in returned)
        text = f"{HEAD}def model({arguments}):\n{text}    return ({result},)\n"
        inputs, outputs = [v.name for v in model.inputs], [v.name for v in model.outputs]
        return Source("numpy", model, text, "model", weights, inputs, outputs)

    def load(self, source):
        return source, source.execute()[source.entry], dict(source.arrays())

    def run(self, live, inputs):
        source, function, weights = live
        return dict(zip(source.outputs, function(*(inputs[n] for n in source.inputs), **weights), strict=True))

    def weights(self, live):
        return live[2]

    def save_weights(self, source, folder):
        np.savez(folder / "weights.npz", **dict(source.arrays()))

    def export(self, live, model, path, *, opset):
        raise DlbridgeError("numpy has no ONNX exporter")

    def trainer(self, model, spec, **options):
        raise TrainingError("numpy does not train")
