"""Measures conversions of whole models through the door that a user takes, on fresh inputs.

Each model is read with its sizes named (``input_ids: int64[batch,length]``), and converted with ``dlbridge.convert``, whose
own check is on. What was written is then compared with the source once more, at other sizes.

Error = max |y - y_ref| / max |y_ref| over the outputs. The bound is 1e-5; where the source's own float32 error against
float64 is above 1e-6, four times that.
"""

from __future__ import annotations

import copy
import gc
import inspect
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.frameworks.pytorch.export.results import plain
from dlbridge.ops import traits
from dlbridge.verification.compare import relative_error

#: What models are converted to; the command line (``--targets=keras,nnx``) or the environment may name others.
TARGETS = tuple(os.environ.get("DLBRIDGE_SWEEP_TARGETS", "pytorch,onnx,keras").split(","))


@dataclass
class Row:
    """What became of one model."""

    name: str
    errors: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bound: float = 1e-5
    strict: str = ""
    mismatch: str = ""
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.failures and all(e <= self.bound for e in self.errors.values())

    def __str__(self) -> str:
        cells = [f"{self.name:36}", "ok  " if self.passed else "FAIL", f"strict:{self.strict:3}"]
        cells += [f"{t} {self.errors[t]:.1e} ({self.seconds.get(t, 0):.1f}s)" for t in self.errors]
        cells += [f"{t}: {why}" for t, why in self.failures.items()]
        return "  ".join(cells)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """In eval mode, with running statistics that are not 0 and 1, and no constant weights."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
    for parameter in module.parameters():
        if parameter.numel() > 1 and parameter.detach().std() < 1e-4:  # a head of zeros would hide every error
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def flat(result) -> list[torch.Tensor]:
    """The tensors of a result, also those of the caches in it."""
    return [v for v in torch.utils._pytree.tree_leaves(plain(result)) if isinstance(v, torch.Tensor)]


def named_inputs(module, example, dynamic) -> dict[str, str]:
    """Input -> its dtype and sizes, as on the command line: ``"int64[batch,length]"``.

    Args:
        module: The module.
        example: Tensors in the order of its parameters, or by name.
        dynamic: Input -> {axis: name} of the sizes that are free; the first of each input, ``batch``, when None.
    """
    if not isinstance(example, dict):
        example = dict(zip(inspect.signature(module.forward).parameters, example, strict=False))
    specs = {}
    for name, tensor in example.items():
        names = {0: "batch"} if dynamic is None else dynamic.get(name, {})
        sizes = ",".join(names.get(axis, str(size)) for axis, size in enumerate(tensor.shape))
        specs[name] = f"{str(tensor.dtype).removeprefix('torch.')}[{sizes}]"
    return specs


def measure(name, module, example, fresh, targets=TARGETS, dynamic=None) -> Row:
    """Convert a module and compare on fresh inputs (tuples, or dicts of keywords)."""
    row = Row(name)
    call = (lambda m, x: m(**x)) if isinstance(fresh, dict) else (lambda m, x: m(*x))
    with torch.no_grad():
        reference = [v.numpy() for v in flat(call(module, copy.deepcopy(fresh)))]
    start = time.time()
    try:
        model = dlbridge.load(module, inputs=named_inputs(module, example, dynamic))
    except Exception as error:
        row.failures["read"] = f"{type(error).__name__}: {error}"[:1500]
        return row
    row.seconds["read"] = time.time() - start
    row.bound = max(row.bound, 4 * _own_error(module, fresh, call, reference))
    leaves = torch.utils._pytree.tree_leaves(fresh)
    arrays = {v.name: leaf.numpy() for v, leaf in zip(model.inputs, leaves, strict=True)}
    for target in targets:
        try:
            _measure_target(row, target, model, module, arrays, reference)
        except Exception as error:
            row.failures[target] = f"{type(error).__name__}: {error}"[:1500]
        gc.collect()
    return row


def table(names: Sequence[str], build: Callable[[str], Sequence]) -> None:
    """Print the rows of the models that the command line names (all when none), to ``--targets=pytorch,onnx,keras``, or any framework.

    Args:
        names: All models.
        build: Name -> (module, example inputs, fresh inputs) and, where sizes have names, those.
    """
    wanted = [a for a in sys.argv[1:] if not a.startswith("--")]
    targets = next((a[10:].split(",") for a in sys.argv if a.startswith("--targets=")), TARGETS)
    for name in wanted or names:
        try:
            module, example, fresh, *dynamic = build(name)
            options = {"dynamic": dynamic[0]} if dynamic else {}
            row = measure(name, module, example, fresh, targets=targets, **options)
            print(row, row.mismatch if "--mismatch" in sys.argv else "", flush=True)
        except Exception as error:  # of the source: it is told, and the next model has its turn
            print(f"{name:36}  SOURCE  {type(error).__name__}: {str(error)[:300]}", flush=True)


def _own_error(module, fresh, call, reference) -> float:
    def wide(tensor):
        return tensor.double() if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else tensor

    try:
        with torch.no_grad():
            exact = copy.deepcopy(module).double()
            found = [v.numpy() for v in flat(call(exact, torch.utils._pytree.tree_map(wide, fresh)))]
    except Exception:  # a module whose code fixes float32
        return 0.0
    own = max((relative_error(r, e) for r, e in zip(reference, found, strict=True) if e.dtype.kind == "f"), default=0)
    return own if own > 1e-6 and np.isfinite(own) else 0.0


def _measure_target(row, target, model, module, arrays, reference) -> None:
    framework = frameworks.get(target)
    start = time.time()
    live = framework.load(dlbridge.convert(model, target))
    row.seconds[target] = time.time() - start
    made = list(framework.run(live, arrays).values())
    row.errors[target] = max((relative_error(m, r) for m, r in zip(made, reference, strict=True)), default=0.0)
    if target == "pytorch":
        _load_original(row, live, module)


def _load_original(row, live, module) -> None:
    """Whether the original's state dict loads: ``yes``, ``but`` for constants that it never held (tables, masks), ``no``."""
    try:
        live.load_state_dict(module.state_dict(), strict=True)
        row.strict = "yes"
    except RuntimeError as error:
        row.mismatch = str(error)[:700]
        source = live.dlbridge_source
        held = source.model.graph.initializers
        constants = {k for k, w in source.weights.items() if w.plain and traits.kind(held[w.plain]) == "constant"}
        shapes = {k: v.shape for k, v in live.state_dict().items() if k not in constants}
        row.strict = "but" if shapes == {k: v.shape for k, v in module.state_dict().items()} else "no"
