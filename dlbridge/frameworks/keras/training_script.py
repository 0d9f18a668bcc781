"""A training as a script: ``compile``, ``fit``, ``evaluate``, as every tutorial of Keras has them."""

from __future__ import annotations

from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.frameworks.keras.training.code import LOSSES, loss_code, metric_code, optimizer_arguments, optimizer_call
from dlbridge.frameworks.keras.training.images import NUMPY
from dlbridge.frameworks.keras.training.losses import reads_behind
from dlbridge.frameworks.keras.training.optimizers import OWN, own_class
from dlbridge.source.program import Source
from dlbridge.source.training.images import augmented, normal, resized
from dlbridge.source.training.script import TAKEN, check_loss, file, has_rows, parts, reading, variables
from dlbridge.source.tree.code import literal_text as text

_TAKEN = (
    *("model", "np", "keras", "layers", "ops", "data", "batches", "Path", "HERE", "main", "build_model", "math"),
    *TAKEN,
)
#: Optimizers whose class computes the formula.
_EXACT = ("sgd", "adadelta", "lion")
#: Those whose class adds epsilon before the correction of the moments: the script has a subclass.
_CORRECTED = ("adam", "adamw")


def script(source: Source, task: Any, described: Any) -> str:
    """The whole file."""
    spec, loss = task.spec, task.losses[0]
    rank = len(source.model.outputs[0].shape or ())
    check_loss(loss, LOSSES, rank)
    if loss.class_axis == 1 and rank > 2:
        raise TrainingError(f"Keras has no loss with the classes on axis 1, as {loss.op} has them")
    if reads_behind(loss, source.model.outputs[0]):
        raise TrainingError("Keras computes a loss of logits of what a last Softmax or Sigmoid is given")
    if own_class(spec.optimizer) is None:
        raise TrainingError(f"Keras has no class for the optimizer {spec.optimizer.kind} as it is set")
    _check_precision(spec.precision, source)
    names, target = variables(source, described, _TAKEN)
    images = described.images
    is_corrected = spec.optimizer.kind in _CORRECTED
    return file(
        "Trains the model of this file, from the weights beside it.",
        source,
        ["import keras", "import numpy as np", "from pathlib import Path"],
        described,
        *([_corrected(OWN[spec.optimizer.kind].name)] if is_corrected else []),
        *(lines for lines in (resized(images, NUMPY), augmented(images, NUMPY)) if lines),
        *([_batches(len(names), images, spec)] if _has_batches(spec, images) else []),
        _main(source, spec, loss, described, names, target, has_rows(described, rank)),
    )


_BATCHES = '''class Batches(keras.utils.PyDataset):
    """The rows in an order of their own for each epoch."""

    def __init__(self, inputs, target, batch_size, seed):
        super().__init__()
        self.inputs, self.target, self.batch_size, self.seed, self.epoch = inputs, target, batch_size, seed, -1
        self.order = np.arange(len(target))

    def __len__(self):
        return -(-len(self.target) // self.batch_size)

    def __getitem__(self, batch):
        rows = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return {inputs}, self.target[rows]

    def on_epoch_begin(self):
        self.epoch += 1
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.target))'''.splitlines()


_IMAGE_BATCHES = '''class Batches(keras.utils.PyDataset):
    """Images and their targets. Those that are trained on change from epoch to epoch."""

    def __init__(self, images, target, batch_size, is_trained_on):
        super().__init__()
        self.images, self.target, self.batch_size, self.is_trained_on = images, target, batch_size, is_trained_on
        self.order, self.epoch = np.arange(len(target)), -1

    def __len__(self):
        return -(-len(self.target) // self.batch_size)

    def __getitem__(self, batch):
        rows = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        x = {images}{changed}
        return {made}, self.target[rows]'''
_CHANGED = """
        if self.is_trained_on:  # Keras takes a first look before the first epoch
            x = augmented(x, np.random.default_rng([{seed}, max(self.epoch, 0), batch + 1, 0]))"""
_NEXT = """

    def on_epoch_begin(self):
        self.epoch += 1"""
_SHUFFLED = """
        if self.is_trained_on:
            self.order = np.random.default_rng([{seed}, self.epoch]).permutation(len(self.target))"""

_OPTIMIZER = '''class {name}(keras.optimizers.{name}):
    """Adds epsilon after the moments are corrected for their start at zero, as the paper does; Keras adds it before."""

    def update_step(self, gradient, variable, learning_rate):
        step = keras.ops.cast(self.iterations + 1, variable.dtype)
        epsilon, self.epsilon = self.epsilon, self.epsilon * keras.ops.sqrt(1 - self.beta_2**step)
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = epsilon'''


def _corrected(name: str) -> list[str]:
    return _OPTIMIZER.format(name=name).splitlines()


def _has_batches(spec: Any, images: Any) -> bool:
    """Whether ``fit`` gets batches; it gets arrays where their rows stay in order and nothing is done with them."""
    return bool(spec.shuffle) or _is_read(images)


def _is_read(images: Any) -> bool:
    """Whether the input of a batch has to be made when it is asked for."""
    return images is not None and (images.is_folder or bool(images.changes))


def _batches(count: int, images: Any, spec: Any) -> list[str]:
    if not _is_read(images):
        inputs = "self.inputs[rows]" if count == 1 else "tuple(array[rows] for array in self.inputs)"
        return [line.replace("{inputs}", inputs) for line in _BATCHES]
    code = _IMAGE_BATCHES.format(
        images="np.stack([read(path) for path in self.images[rows]])" if images.is_folder else "self.images[rows]",
        changed=_CHANGED.format(seed=spec.seed) if images.changes else "",
        made=normal(images, "x") if images.changes else "x",
    )
    code += _NEXT + (_SHUFFLED.format(seed=spec.seed) if spec.shuffle else "")
    return code.splitlines()


def _check_precision(precision: Any, source: Source) -> None:
    """Refuse a mixed precision that Keras computes otherwise than a training here.

    Raises:
        TrainingError: It says what differs.
    """
    if precision is None:
        return
    if precision.kind == "float16" and (precision.growth, precision.backoff) != (2.0, 0.5):
        raise TrainingError("Keras' loss scale grows by 2 and backs off by 0.5, no other numbers")
    if "autocast=False" in source.text or "class Weight(" in source.text:
        raise TrainingError(
            "a policy of mixed precision does not reach the layers of its own that this model is written with in Keras",
            hint="dlbridge train has it, and the script for PyTorch",
        )


def _main(
    source: Source, spec: Any, loss: Any, described: Any, names: list[str], target: str, of_rows: bool
) -> list[str]:
    kept = described.kept
    until, after = (f"[{part}]" if part else "" for part in parts(described))
    given = names[0] + "{0}" if len(names) == 1 else "[" + ", ".join(f"{name}{{0}}" for name in names) + "]"
    metrics = [metric_code(metric.kind, loss, source.model.outputs[0]) for metric in spec.metrics]
    op = "CategoricalCrossentropy" if of_rows and loss.op == "SoftmaxCrossEntropyLoss" else loss.op
    compiled = [
        f"optimizer={_optimizer(spec)}",
        f"loss={loss_code(op, loss)}",
        *([f"metrics=[{', '.join(metrics)}]"] if metrics else []),
    ]
    fit = [f"epochs={spec.epochs}", "shuffle=False", "verbose=2"]
    size = f"batch_size={spec.batch_size}"
    lines = []
    validation, held = f"({given.format(after)}, {target}{after})", f"{given.format(after)}, {target}{after}, {size}"
    if _is_read(described.images):
        lines.append(f"batches = Batches({given.format(until)}, {target}{until}, {size}, is_trained_on=True)")
        lines.append(f"held_out = Batches({held}, is_trained_on=False)")
        validation = held = "held_out"
        fit.insert(0, "batches")
    elif spec.shuffle:
        lines.append(f"batches = Batches({given.format(until)}, {target}{until}, {size}, seed={spec.seed})")
        fit.insert(0, "batches")
    else:
        fit[:0] = [given.format(until), f"{target}{until}", size]
    if kept is not None:
        fit.insert(-2, f"validation_data={validation}")
    is_exact = spec.optimizer.kind in (*_EXACT, *_CORRECTED)
    note = [] if is_exact else ["# Keras adds epsilon in another place: its numbers differ a little."]
    seeded = [f"keras.utils.set_random_seed({spec.seed})"] if described.is_random else []
    half = spec.precision.kind if spec.precision is not None else None
    policy = [f'keras.config.set_dtype_policy("mixed_{half}")'] if half is not None else []
    body = [
        *reading(source, described, names, target),
        *seeded,
        *policy,
        f"model = {source.entry}()",
        'model.load_weights(HERE / "model.weights.h5")',
        *note,
        f"model.compile({', '.join(compiled)})",
        *lines,
        f"model.fit({', '.join(fit)})",
        f"print(model.evaluate({held}, verbose=0, return_dict=True))",
        'model.save(HERE / "trained.keras")',
    ]
    return ["def main():", *(f"    {line}" for line in body)]


def _optimizer(spec: Any) -> str:
    clip, more = spec.clip, []
    if clip is not None:
        more = [f"global_clipnorm={text(clip.norm)}" if clip.norm else f"clipvalue={text(clip.value)}"]
    code = optimizer_call(spec.optimizer, *more)
    if spec.optimizer.kind in _CORRECTED:
        code = f"{OWN[spec.optimizer.kind].name}({optimizer_arguments(spec.optimizer, *more)})"
    if spec.precision is None or spec.precision.kind != "float16":
        return code
    numbers = f"initial_scale={text(spec.precision.scale)}, dynamic_growth_steps={spec.precision.interval}"
    return f"keras.optimizers.LossScaleOptimizer({code}, {numbers})"
