"""Writes a model as a function of numpy."""

from dlbridge.errors import DlbridgeError, UnsupportedOpError
from dlbridge.ops.keys import op_key
from dlbridge.passes.prepare import prepare
from dlbridge.source.names import Names, identifier
from dlbridge.source.program import Source
from dlbridge.source.weights import Weight

#: Op -> its code, of the code of its inputs.
RULES = {
    "Linear": lambda x, w, b=None: f"({x} @ {w}.T + {b})" if b else f"({x} @ {w}.T)",
    "Relu": lambda x: f"np.maximum({x}, 0)",
    "Softmax": lambda x: f"softmax({x})",
}

HEAD = """import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


"""

#: Names that the code uses itself: a value of the model that is called so gets another.
USED = ("np", "softmax")


def write(model, options):
    if not options.function.isidentifier():
        raise DlbridgeError(f"'{options.function}' is no name of a function", where="numpy")
    model = prepare(model)
    unknown = {}
    for node in model.graph:
        if op_key(node) not in RULES:
            unknown.setdefault(op_key(node), []).append(node.name)
    if unknown:
        lines = [f"    {op} at {', '.join(names)}" for op, names in unknown.items()]
        raise UnsupportedOpError("\n".join([f"numpy has no rule for {len(unknown)} op(s):", *lines]), where=model.name)
    taken, code, lines = Names(*USED), {}, []
    for value in [*model.inputs, *model.graph.initializers.values()]:
        code[value] = taken.fresh(identifier(value.name))
    weights = {code[value]: Weight.of(name) for name, value in model.graph.initializers.items()}
    arguments = ", ".join([*(code[value] for value in model.inputs), *weights])
    for node in model.graph:
        text, (output,) = RULES[op_key(node)](*(code.get(value) for value in node.inputs)), node.outputs
        if options.style == "nested":
            code[output] = text
        else:
            code[output] = taken.fresh(identifier(output.name))
            lines.append(f"    {code[output]} = {text}\n")
    result = "".join(f"{code[value]}, " for value in model.outputs)
    text = f"{HEAD}def {options.function}({arguments}):\n{''.join(lines)}    return ({result})\n"
    inputs, outputs = [value.name for value in model.inputs], [value.name for value in model.outputs]
    return Source("numpy", model, text, options.function, weights, inputs, outputs)
