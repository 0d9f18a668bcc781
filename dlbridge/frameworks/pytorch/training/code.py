"""The training loop that is printed below a model which has a training specification."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dlbridge.frameworks.pytorch.training.optimizers import OWN
from dlbridge.source.names import Names, identifier
from dlbridge.source.training.code import TrainingPrinter
from dlbridge.source.training.text import Loop, LossCode, changed_arguments, rows_of, shown_metrics
from dlbridge.source.tree.code import literal_text as text

_METRICS = ("accuracy", "mean_absolute_error", "mean_squared_error")
#: What the loop calls by these names.
_VARIABLES = (
    *("model", "epochs", "batch_size", "optimizer", "epoch", "rows", "part", "kept", "output"),
    *("torch", "F", "nn", "math"),
    *(f"{of}{name}" for of in ("", "val_") for name in ("loss", *_METRICS)),
)

#: As in the trainer: probabilities have a logarithm.
_LOGARITHM = "{output}.clamp(min=1e-07).log()"
_LOSSES = LossCode(
    {
        "SoftmaxCrossEntropyLoss": "F.cross_entropy({output}, {target})",
        "SparseCategoricalCrossentropy": f"F.nll_loss({_LOGARITHM}, {{target}})",
        "CategoricalCrossentropy": f"-({{target}} * {_LOGARITHM}).sum(-1).mean()",
        "BinaryCrossentropy": "F.binary_cross_entropy({output}, {target}.type_as({output}))",
        "MeanSquaredError": "F.mse_loss({output}, {target})",
        "MeanAbsoluteError": "F.l1_loss({output}, {target})",
        "Huber": "F.huber_loss({output}, {target}, delta={delta})",
    },
    of_logits={
        "SparseCategoricalCrossentropy": "F.cross_entropy({output}, {target})",
        "CategoricalCrossentropy": "-({target} * {output}.log_softmax(-1)).sum(-1).mean()",
        "BinaryCrossentropy": "F.binary_cross_entropy_with_logits({output}, {target}.type_as({output}))",
    },
)


def _lines(loop: Loop) -> list[str]:
    """A ``train`` function in PyTorch's own classes, with the numbers of a specification."""
    spec, outputs = loop.spec, loop.outputs
    names, target, loss, read = loop.names, loop.target, loop.loss, loop.output
    output = "output"
    if len(outputs) > 1:
        output = Names(*_VARIABLES, *loop.arguments).fresh(identifier(read.name or output))
    if loop.key is None:
        targets, taken = ", ".join(output if v is read else "_" for v in outputs), ""
    else:
        targets, taken = output, loop.place
    compared = _compared(loss.op, output, f"{target}[rows]", list(read.shape or ()))
    metrics = {name: _metric(name, loss, *compared) for name in shown_metrics(spec)}
    shown = ["loss"] if spec.validation_split else ["loss", *metrics]
    lines = [
        f"    optimizer = {optimizer_call(spec.optimizer)}",
        *(() if spec.validation_split else ["    model.train()"]),
        "    for epoch in range(epochs):",
        *(["        model.train()"] if spec.validation_split else ()),
        f"        for rows in torch.{'randperm' if spec.shuffle else 'arange'}({loop.kept}).split(batch_size):",
        "            optimizer.zero_grad()",
        f"            {targets} = model({rows_of(names, 'rows')}){taken}",
        f"            loss = {_LOSSES.printed(loss, *compared)}",
        "            loss.backward()",
        "            optimizer.step()",
    ]
    if spec.validation_split:
        call = f"model({rows_of(names, 'part')}){loop.place}"
        lines += [
            "        model.eval()",
            "        with torch.no_grad():",
            f"            rows = torch.arange(kept, len({target}))",
            f"            {output} = torch.cat([{call} for part in rows.split(batch_size)])",
            f"            val_loss = {_LOSSES.printed(loss, *compared)}",
            *(f"            val_{name} = {metric}" for name, metric in metrics.items()),
        ]
        shown += [f"val_{name}" for name in ("loss", *metrics)]
    else:
        lines += [f"        {name} = {metric}" for name, metric in metrics.items()]
    first, *others = (f"{name} {{{name}.item():.4f}}" for name in shown)
    numbers = ", ".join([f'f"epoch {{epoch + 1}}: {first}"', *(f'f"{other}"' for other in others)])
    lines.append(f"        print({numbers})")
    return lines if spec.validation_split else [*lines, "    model.eval()"]


def _compared(op: str, output: str, target: str, shape: list[Any]) -> tuple[str, str]:
    """The output and the target in shapes that PyTorch compares."""
    if op == "SparseCategoricalCrossentropy" and len(shape) > 2:  # PyTorch has the classes on axis 1
        return f"{output}.flatten(0, -2)", f"{target}.flatten()"
    if "Categorical" not in op and op != "SoftmaxCrossEntropyLoss" and shape[-1:] == [1]:
        return output, f"{target}.view_as({output})"  # a column of data has one axis
    return output, target


def _metric(name: str, spec: Any, output: str, target: str) -> str:
    if name != "accuracy":
        function = {"mean_absolute_error": "l1_loss", "mean_squared_error": "mse_loss"}[name]
        return f"F.{function}({output}, {target})"
    if spec.op == "BinaryCrossentropy":
        right = f"({output} > {'0' if spec.from_logits else '0.5'}) == ({target} > 0.5)"
    elif spec.op == "CategoricalCrossentropy":
        right = f"{output}.argmax(-1) == {target}.argmax(-1)"
    else:
        right = f"{output}.argmax({1 if spec.op == 'SoftmaxCrossEntropyLoss' else -1}) == {target}"
    return f"({right}).float().mean()"


def optimizer_call(spec: Any) -> str:
    """The call that makes the optimizer of a specification, of PyTorch's own class."""
    own, decay = OWN[spec.kind], spec.weight_decay
    given = {"lr": spec.learning_rate, **own.given(spec)}
    shown = [f"lr={text(spec.learning_rate)}", *(a for a in changed_arguments(own.kind, given) if a[:3] != "lr=")]
    shown += [f"weight_decay={text(decay)}"] if decay or own.is_decoupled else []
    return f"torch.optim.{own.kind.__name__}(model.parameters(), {', '.join(shown)})"


def _optimizers(spec: Any) -> Collection[str]:
    """The kinds of optimizers that PyTorch has, with the weight decay that a specification wants."""
    return [kind for kind, own in OWN.items() if spec.decay == "coupled" or own.is_decoupled]


PRINTER = TrainingPrinter(_LOSSES.plain, _optimizers, _VARIABLES, _lines)
