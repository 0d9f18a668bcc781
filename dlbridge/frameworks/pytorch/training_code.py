"""The training loop that is printed below a model which has a training specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from dlbridge.source.code import literal_text as text
from dlbridge.source.names import identifier

#: As in the trainer: probabilities have a logarithm.
_LOGARITHM = "{output}.clamp(min=1e-07).log()"
_LOSSES = {
    "SoftmaxCrossEntropyLoss": "F.cross_entropy({output}, {target})",
    "SparseCategoricalCrossentropy": f"F.nll_loss({_LOGARITHM}, {{target}})",
    "CategoricalCrossentropy": f"-({{target}} * {_LOGARITHM}).sum(-1).mean()",
    "BinaryCrossentropy": "F.binary_cross_entropy({output}, {target})",
    "MeanSquaredError": "F.mse_loss({output}, {target})",
    "MeanAbsoluteError": "F.l1_loss({output}, {target})",
    "Huber": "F.huber_loss({output}, {target}, delta={delta})",
}
_FROM_LOGITS = {
    "SparseCategoricalCrossentropy": "F.cross_entropy({output}, {target})",
    "CategoricalCrossentropy": "-({target} * {output}.log_softmax(-1)).sum(-1).mean()",
    "BinaryCrossentropy": "F.binary_cross_entropy_with_logits({output}, {target})",
}


def training_loop(spec: Any, inputs: list[str], outputs: Sequence[ir.Value]) -> list[str]:
    """A ``train`` function in PyTorch's own classes, with the numbers of a specification."""
    target = spec.loss.target or "label"
    names = [n if n != "model" else "model_input" for n in inputs]
    batch = ", ".join(f"{n}[rows]" for n in names)
    read = next(v for v in outputs if spec.loss.of in (None, v.name))
    output = identifier(read.name or "output") if len(outputs) > 1 else "output"
    targets = ", ".join(output if v is read else "_" for v in outputs)
    return [
        f"def train(model, {', '.join(names)}, {target}, epochs={spec.epochs}, batch_size={spec.batch_size}):",
        f"    optimizer = {_optimizer(spec.optimizer)}",
        "    model.train()",
        "    for epoch in range(epochs):",
        f"        for rows in {_order(spec)}:",
        "            optimizer.zero_grad()",
        f"            {targets} = model({batch})",
        f"            loss = {_loss(spec.loss, output, f'{target}[rows]', list(read.shape or ()))}",
        "            loss.backward()",
        "            optimizer.step()",
        '        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")',
        "    model.eval()",
    ]


def _order(spec: Any) -> str:
    target = spec.loss.target or "label"
    order = "randperm" if spec.shuffle else "arange"
    return f"torch.{order}(len({target})).split(batch_size)"


def _loss(spec: Any, output: str, target: str, shape: list[Any]) -> str:
    template = _FROM_LOGITS[spec.op] if getattr(spec, "from_logits", False) else _LOSSES[spec.op]
    if spec.op == "SparseCategoricalCrossentropy" and len(shape) > 2:  # PyTorch has the classes on axis 1
        output, target = f"{output}.flatten(0, -2)", f"{target}.flatten()"
    elif "Categorical" not in spec.op and spec.op != "SoftmaxCrossEntropyLoss" and shape[-1:] == [1]:
        target = f"{target}.view_as({output})"  # a column of data has one axis
    return template.format(output=output, target=target, delta=text(getattr(spec, "delta", 1.0)))


def _optimizer(spec: Any) -> str:
    arguments = ["model.parameters()", f"lr={text(spec.learning_rate)}"]
    if spec.kind == "sgd":
        arguments += [f"momentum={text(spec.momentum)}"] if spec.momentum else []
        arguments += ["nesterov=True"] if spec.nesterov else []
        return f"torch.optim.SGD({', '.join(arguments)})"
    if (spec.beta_1, spec.beta_2) != (0.9, 0.999):
        arguments.append(f"betas=({text(spec.beta_1)}, {text(spec.beta_2)})")
    arguments += [f"eps={text(spec.epsilon)}"] if spec.epsilon != 1e-8 else []
    arguments += [f"weight_decay={text(spec.weight_decay)}"] if spec.kind == "adamw" else []
    return f"torch.optim.{'Adam' if spec.kind == 'adam' else 'AdamW'}({', '.join(arguments)})"
