"""A training as a script: a Dataset, a DataLoader, a criterion, and the loop that every tutorial of PyTorch has."""

from __future__ import annotations

from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.frameworks.pytorch.training.code import optimizer_call
from dlbridge.frameworks.pytorch.training.images import TORCH, changed
from dlbridge.frameworks.pytorch.training.optimizers import OWN
from dlbridge.source.program import Source
from dlbridge.source.training.images import augmented, resized
from dlbridge.source.training.script import TAKEN, check_loss, file, has_rows, reading, variables
from dlbridge.source.tree.code import literal_text as text

_CRITERIA = {
    "SoftmaxCrossEntropyLoss": "nn.CrossEntropyLoss()",
    "SparseCategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "CategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "BinaryCrossentropy": "nn.BCEWithLogitsLoss()",
    "MeanSquaredError": "nn.MSELoss()",
    "MeanAbsoluteError": "nn.L1Loss()",
    "Huber": "nn.HuberLoss(delta={delta})",
}
_TAKEN = (
    *("model", "np", "nn", "torch", "F", "batches", "output", "loss", "optimizer", "criterion", "rows", "totals"),
    *("main", "train", "evaluate", "measure", "epoch", "data", "row", "Path", "HERE", "DataLoader", "math", *TAKEN),
)


def script(source: Source, task: Any, described: Any) -> str:
    """The whole file."""
    spec, loss = task.spec, task.losses[0]
    rank = len(source.model.outputs[0].shape or ())
    check_loss(loss, _CRITERIA, rank)
    own = OWN.get(spec.optimizer.kind)
    is_coupled = spec.optimizer.decay == "coupled"
    if own is None or (spec.optimizer.weight_decay and is_coupled == own.is_decoupled):
        raise TrainingError(f"PyTorch has no class for the optimizer {spec.optimizer.kind} as it is set")
    names, target = variables(source, described, _TAKEN)
    images = described.images
    functions = [lines for lines in (resized(images, TORCH), augmented(images, TORCH)) if lines]
    functions_used = ["import torch.nn.functional as F"] if any("F." in line for f in functions for line in f) else []
    return file(
        f"Trains {source.entry}, from the weights beside it.",
        source,
        [
            "import numpy as np",
            "import torch",
            "from pathlib import Path",
            "from torch import nn",
            "from torch.utils.data import DataLoader, Dataset, Sampler, Subset",
            *functions_used,
        ],
        described,
        *functions,
        _dataset(names, target, images is not None and images.is_folder),
        _SAMPLER,
        _passes(names, target, spec, loss, images, has_rows(described, rank)),
        _main(source, spec, loss, described, names, target),
        made="torch.tensor({})",
    )


def _dataset(names: list[str], target: str, are_paths: bool) -> list[str]:
    given = [*names, target]
    row = [f"self.{name}[row]" for name in given]
    if are_paths:
        row[0] = f"read({row[0]})"
    return [
        "class Rows(Dataset):",
        f"    def __init__(self, {', '.join(given)}):",
        *(f"        self.{name} = {name}" for name in given),
        "",
        "    def __len__(self):",
        f"        return len(self.{target})",
        "",
        "    def __getitem__(self, row):",
        f"        return {', '.join(row)}",
    ]


_SAMPLER = '''class Shuffled(Sampler):
    """The rows in an order of their own for each epoch."""

    def __init__(self, count, seed):
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self):
        return self.count

    def __iter__(self):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        self.epoch += 1
        return iter(order.tolist())'''.splitlines()


def _passes(names: list[str], target: str, spec: Any, loss: Any, images: Any, of_rows: bool) -> list[str]:
    """The functions that pass over the data: one that trains, one that does not."""
    batch = ", ".join([*names, target])
    measured = {"loss": "loss.item()", **{m.name: _metric(m.kind, loss, target, of_rows) for m in spec.metrics}}
    count = f"len({target})"
    totals = [f'        totals["{name}"] += {value} * {count}' for name, value in measured.items()]
    means = ["    return {name: total / len(batches.dataset) for name, total in totals.items()}"]
    start = "    totals = dict.fromkeys([" + ", ".join(f'"{name}"' for name in measured) + "], 0.0)"
    is_changed = images is not None and bool(images.changes)
    half = spec.precision.kind if spec.precision is not None else None
    is_scaled = half == "float16"
    loop = f"    for {batch} in batches:"
    forward = [f"        output = model({', '.join(names)})"]
    if half is not None:
        forward = [
            f'        with torch.autocast("cpu", dtype=torch.{half}):',
            f"            output = model({', '.join(names)})",
            "        output = output.float()",
        ]
    forward.append(f"        loss = criterion(output, {target})")
    given = [*("model", "batches", "criterion", "optimizer"), *(["scaler"] if is_scaled else [])]
    return [
        f"def train({', '.join([*given, *(['epoch'] if is_changed else [])])}):",
        "    model.train()",
        start,
        f"    for place, ({batch}) in enumerate(batches, 1):" if is_changed else loop,
        *([f"        {changed(images, names[0], spec.seed)}"] if is_changed else []),
        *forward,
        "        optimizer.zero_grad()",
        *_steps(spec, is_scaled),
        *totals,
        *means,
        "",
        "",
        "@torch.no_grad()",
        "def evaluate(model, batches, criterion):",
        "    model.eval()",
        start,
        loop,
        *([f"        {names[0]} = ({names[0]} - MEAN) / STD"] if is_changed and images.is_normalized else []),
        *forward,
        *totals,
        *means,
    ]


def _steps(spec: Any, is_scaled: bool) -> list[str]:
    """The lines from the loss to the step of the optimizer."""
    clip = []
    if spec.clip is not None and spec.clip.norm is not None:
        clip = [f"        torch.nn.utils.clip_grad_norm_(model.parameters(), {text(spec.clip.norm)})"]
    elif spec.clip is not None:
        clip = [f"        torch.nn.utils.clip_grad_value_(model.parameters(), {text(spec.clip.value)})"]
    if not is_scaled:
        return ["        loss.backward()", *clip, "        optimizer.step()"]
    return [
        "        scaler.scale(loss).backward()",
        *(["        scaler.unscale_(optimizer)", *clip] if clip else []),
        "        scaler.step(optimizer)",
        "        scaler.update()",
    ]


def _scaler(precision: Any) -> str:
    """The code of the scaler of a loss."""
    numbers = {"init_scale": precision.scale, "growth_factor": precision.growth}
    numbers |= {"backoff_factor": precision.backoff, "growth_interval": precision.interval}
    usual = {"init_scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    own = [f", {name}={text(number)}" for name, number in numbers.items() if number != usual[name]]
    return f'    scaler = torch.amp.GradScaler("cpu"{"".join(own)})'


def _metric(kind: str, loss: Any, target: str, of_rows: bool) -> str:
    if kind == "mean_absolute_error":
        return f"(output - {target}).abs().mean().item()"
    if kind == "mean_squared_error":
        return f"(output - {target}).square().mean().item()"
    if loss.kind == "shares":
        return f"((output > 0) == ({target} > 0.5)).double().mean().item()"
    axis = loss.class_axis
    right = f"{target}.argmax({axis})" if of_rows else target
    return f"(output.argmax({axis}) == {right}).double().mean().item()"


def _main(source: Source, spec: Any, loss: Any, described: Any, names: list[str], target: str) -> list[str]:
    size, kept = spec.batch_size, described.kept
    rows = [f"    rows = Rows({', '.join([*names, target])})"]
    trained, count = "rows", "len(rows)"
    if kept is not None:
        of = ("kept", "held") if described.share is not None else (f"range({kept})", f"range({kept}, len(rows))")
        trained, count = f"Subset(rows, {of[0]})", "len(kept)" if described.share is not None else str(kept)
        whose = " of every class" if described.share is not None else ""
        rows.append(
            f"    held_out = DataLoader(Subset(rows, {of[1]}), batch_size={size})  # the last rows{whose} validate"
        )
    sampler = f", sampler=Shuffled({count}, seed={spec.seed})" if spec.shuffle else ""
    rows.append(f"    batches = DataLoader({trained}, batch_size={size}{sampler})")
    criterion = _CRITERIA[loss.op].format(delta=text(getattr(loss, "delta", 1.0)))
    seeded = f"        torch.manual_seed(np.random.SeedSequence([{spec.seed}, epoch]).generate_state(1)[0].item())"
    is_scaled = spec.precision is not None and spec.precision.kind == "float16"
    given = ["model", "batches", "criterion", "optimizer", *(["scaler"] if is_scaled else [])]
    given += ["epoch"] if described.images is not None and described.images.changes else []
    numbers = f"        numbers = train({', '.join(given)})"
    validated = [
        "        held = evaluate(model, held_out, criterion)",
        '        numbers |= {f"val_{name}": value for name, value in held.items()}',
    ]
    return [
        "def main():",
        *(f"    {line}" for line in reading(source, described, names, target, made="torch.from_numpy({})")),
        *rows,
        f"    model = {source.entry}()",
        '    model.load_state_dict(torch.load(HERE / "weights.pt", weights_only=True))',
        f"    criterion = {criterion}",
        f"    optimizer = {optimizer_call(spec.optimizer)}",
        *([_scaler(spec.precision)] if is_scaled else []),
        f"    for epoch in range({spec.epochs}):",
        *([seeded] if described.is_random else []),
        numbers,
        *(validated if kept is not None else []),
        '        shown = ", ".join(f"{name} {value:.6f}" for name, value in numbers.items())',
        f'        print(f"epoch {{epoch + 1}}/{spec.epochs}: {{shown}}")',
        '    torch.save(model.state_dict(), HERE / "trained.pt")',
    ]
