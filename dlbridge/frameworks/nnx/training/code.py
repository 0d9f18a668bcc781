"""The training loop that is printed below a model which has a training specification."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dlbridge.source.training.code import TrainingPrinter
from dlbridge.source.training.text import Loop, LossCode, rows_of
from dlbridge.source.tree.code import literal_text as text

#: What the loop calls by these names.
_VARIABLES = (
    *("model", "epochs", "batch_size", "optimizer", "epoch", "rows", "order", "start", "kept", "output"),
    *("loss", "val_loss", "loss_of", "step", "gradients", "jax", "jnp", "np", "nnx", "optax", "math"),
)

_LOGARITHM = "jnp.log(jnp.clip({output}, 1e-07))"
_LOSSES = LossCode(
    {
        "SparseCategoricalCrossentropy": f"-jnp.take_along_axis({_LOGARITHM}, {{target}}[..., None], axis=-1).mean()",
        "CategoricalCrossentropy": f"-({{target}} * {_LOGARITHM}).sum(-1).mean()",
        "BinaryCrossentropy": "-({target} * jnp.log({output}) + (1 - {target}) * jnp.log(1 - {output})).mean()",
        "MeanSquaredError": "jnp.square({output} - {target}).mean()",
        "MeanAbsoluteError": "jnp.abs({output} - {target}).mean()",
        "Huber": "optax.huber_loss({output}, {target}, delta={delta}).mean()",
    },
    of_logits={
        "SparseCategoricalCrossentropy": "optax.softmax_cross_entropy_with_integer_labels({output}, {target}).mean()",
        "CategoricalCrossentropy": "optax.softmax_cross_entropy({output}, {target}).mean()",
        "BinaryCrossentropy": "optax.sigmoid_binary_cross_entropy({output}, {target}).mean()",
    },
)


def _lines(loop: Loop) -> list[str]:
    """A ``train`` function in Flax' and Optax' own words, with the numbers of a specification."""
    arguments = ", ".join(loop.arguments)
    lines = [
        f"    optimizer = nnx.Optimizer(model, {_optimizer(loop.spec.optimizer)}, wrt=nnx.Param)",
        "",
        f"    def loss_of(model, {arguments}):",
        f"        output = model({', '.join(loop.names)}){loop.place}",
        f"        return {_loss(loop.loss, loop.target, list(loop.output.shape or ()))}",
        "",
        "    @nnx.jit",
        f"    def step(model, optimizer, {arguments}):",
        f"        loss, gradients = nnx.value_and_grad(loss_of)(model, {arguments})",
        "        optimizer.update(model, gradients)",
        "        return loss",
        "",
        "    for epoch in range(epochs):",
        "        model.train()",
        f"        order = np.{f'random.permutation({loop.kept})' if loop.spec.shuffle else f'arange({loop.kept})'}",
        f"        for start in range(0, {loop.kept}, batch_size):",
        "            rows = order[start : start + batch_size]",
        f"            loss = step(model, optimizer, {rows_of(loop.arguments, 'rows')})",
    ]
    shown = 'f"epoch {epoch + 1}: loss {loss:.4f}"'
    if loop.spec.validation_split:
        rest = rows_of(loop.arguments, "kept:")
        lines += ["        model.eval()", f"        val_loss = loss_of(model, {rest})"]
        shown += ', f"val_loss {val_loss:.4f}"'
    return [*lines, f"        print({shown})", "    model.eval()"]


def _loss(spec: Any, target: str, shape: list[Any]) -> str:
    if spec.op == "SoftmaxCrossEntropyLoss":
        logits = "output" if len(shape) == 2 else "jnp.moveaxis(output, 1, -1)"
        return f"optax.softmax_cross_entropy_with_integer_labels({logits}, {target}).mean()"
    if "Categorical" not in spec.op and shape[-1:] == [1]:
        target = f"{target}.reshape(output.shape)"  # a column of data has one axis
    return _LOSSES.printed(spec, "output", target)


def _optimizer(spec: Any) -> str:
    arguments = [text(spec.learning_rate)]
    if spec.kind == "sgd":
        arguments += [f"momentum={text(spec.momentum)}"] if spec.momentum else []
        arguments += ["nesterov=True"] if spec.nesterov else []
        return f"optax.sgd({', '.join(arguments)})"
    if (spec.beta_1, spec.beta_2) != (0.9, 0.999):
        arguments += [f"b1={text(spec.beta_1)}", f"b2={text(spec.beta_2)}"]
    arguments += [f"eps={text(spec.epsilon)}"] if spec.epsilon != 1e-8 else []
    arguments += [f"weight_decay={text(spec.weight_decay)}"] if spec.kind == "adamw" else []
    return f"optax.{spec.kind}({', '.join(arguments)})"


def _optimizers(spec: Any) -> Collection[str]:
    """The kinds of optimizers that Optax has, with the weight decay that a specification wants."""
    return ("sgd", "adam", "adamw") if not spec.weight_decay or spec.kind == "adamw" else ()


PRINTER = TrainingPrinter(("SoftmaxCrossEntropyLoss", *_LOSSES.plain), _optimizers, _VARIABLES, _lines)
