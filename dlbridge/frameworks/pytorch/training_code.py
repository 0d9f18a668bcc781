"""The training loop that is printed below a model which has a training specification."""

from __future__ import annotations

from typing import Any

from dlbridge.source.code import literal_text as text

_LOSSES = {
    "SoftmaxCrossEntropyLoss": "F.cross_entropy({output}, {target})",
    "SparseCategoricalCrossentropy": "F.nll_loss({output}.log(), {target})",
    "CategoricalCrossentropy": "-({target} * {output}.log()).sum(-1).mean()",
    "MeanSquaredError": "F.mse_loss({output}, {target})",
    "MeanAbsoluteError": "F.l1_loss({output}, {target})",
    "Huber": "F.huber_loss({output}, {target}, delta={delta})",
}


def training_loop(spec: Any, inputs: list[str], outputs: list[str]) -> list[str]:
    """A ``train`` function in PyTorch's own classes, with the numbers of a specification."""
    target = spec.loss.target or "label"
    names = [n if n != "model" else "model_input" for n in inputs]
    batch = ", ".join(f"{n}[rows]" for n in names)
    place = outputs.index(spec.loss.of) if spec.loss.of in outputs and len(outputs) > 1 else None
    output = "output" if place is None else f"output[{place}]"
    return [
        f"def train(model, {', '.join(names)}, {target}, epochs={spec.epochs}, batch_size={spec.batch_size}):",
        f"    optimizer = {_optimizer(spec.optimizer)}",
        "    model.train()",
        "    for epoch in range(epochs):",
        f"        for rows in {_order(spec)}:",
        "            optimizer.zero_grad()",
        f"            output = model({batch})",
        f"            loss = {_loss(spec.loss, output, f'{target}[rows]')}",
        "            loss.backward()",
        "            optimizer.step()",
        '        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")',
        "    model.eval()",
    ]


def _order(spec: Any) -> str:
    target = spec.loss.target or "label"
    order = "randperm" if spec.shuffle else "arange"
    return f"torch.{order}(len({target})).split(batch_size)"


def _loss(spec: Any, output: str, target: str) -> str:
    if spec.op == "BinaryCrossentropy":
        name = "binary_cross_entropy_with_logits" if spec.from_logits else "binary_cross_entropy"
        return f"F.{name}({output}, {target})"
    return _LOSSES[spec.op].format(output=output, target=target, delta=text(getattr(spec, "delta", 1.0)))


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
