"""Finds, while a module is read in eval mode, which parts stay so in training, and which statistics are updated.

A graph that is traced in eval mode says ``training=False`` of every normalisation. torch's own layers are known by
their class; of ``F.batch_norm`` in a user's code it is asked by running that code in training mode, on a copy whose
tensors have shapes and no numbers.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.export import ExportedProgram
from torch.nn import MultiheadAttention
from torch.overrides import TorchFunctionMode

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.pytorch.compat import BatchNorm, FakeTensorMode, NormBase, pytree

#: Normalization function -> its argument that says whether to use the statistics of the input.
_NORMS: dict[Callable[..., Any], str] = {F.batch_norm: "training", F.instance_norm: "use_input_stats"}


@dataclass(frozen=True)
class TrainingMode:
    """Facts of a module in training mode.

    Attributes:
        in_eval: Paths of the modules that stay in eval mode.
        cumulative: Paths of the normalisations whose running statistics are the mean over all batches.
        calls: Name of a buffer of running means -> whether the function that is given it normalises by the statistics
            of its input, and its momentum.
        attention_dropout: The largest probability with which attention drops weights, 0.0 where it keeps all.
    """

    in_eval: frozenset[str] = frozenset()
    cumulative: frozenset[str] = frozenset()
    calls: dict[str, tuple[bool, float]] = field(default_factory=dict)
    attention_dropout: float = 0.0


def of(module: torch.nn.Module | None, program: ExportedProgram) -> TrainingMode:
    """What is known of a module that was exported; of a program alone nothing is."""
    if module is None:
        return TrainingMode()
    parts = dict(module.named_modules())
    cumulative = {p for p, part in parts.items() if isinstance(part, BatchNorm) and part.momentum is None}
    in_eval = frozenset(_in_eval(module))
    of_layers = [part.dropout for p, part in parts.items() if isinstance(part, MultiheadAttention) and p not in in_eval]
    record = _Record({})
    if _has_calls(program, parts) or (_attends(program) and any(map(_may_drop, parts.values()))):
        record = _recorded(module, program, in_eval)
    return TrainingMode(in_eval, frozenset(cumulative), record.found, max([0.0, *of_layers, *record.dropouts]))


def tell(mode: TrainingMode) -> None:
    """Warn of what a graph does not keep."""
    if mode.attention_dropout:
        what = f"dropout of the weights of attention ({mode.attention_dropout:g})"
        warnings.warn(f"not kept, as it acts in training alone: {what}", DlbridgeWarning, stacklevel=5)


@contextlib.contextmanager
def in_eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Within the block, the module is in eval mode; afterwards every submodule is in its former mode."""
    modes = {part: part.training for part in module.modules() if hasattr(part, "training")}  # frozen scripts have none
    if modes:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _in_eval(module: torch.nn.Module) -> set[str]:
    """Paths of the modules that are in eval mode while the model is in training mode.

    A model that is in training mode says so itself. One that has a ``train`` of its own is asked by calling it, as
    every training loop does.
    """
    before = {part: part.training for part in module.modules()}
    found = {path for path, part in module.named_modules() if module.training and not part.training}
    if all(type(part).train is torch.nn.Module.train for part in before):
        return found
    try:
        module.train()
        return found | {path for path, part in module.named_modules() if not part.training}
    finally:
        module.train(before[module])
        for part, mode in before.items():
            part.training = mode


def _has_calls(program: ExportedProgram, parts: dict[str, torch.nn.Module]) -> bool:
    """Whether code outside of PyTorch's own layers normalizes by running statistics."""
    for node in program.graph.nodes:
        if str(node.target) not in ("aten.batch_norm.default", "aten.instance_norm.default") or node.args[3] is None:
            continue
        path = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()][-1:]
        if not path or not isinstance(parts.get(path[0]), NormBase):
            return True
    return False


def _attends(program: ExportedProgram) -> bool:
    return any(str(node.target).startswith("aten.scaled_dot_product_attention") for node in program.graph.nodes)


def _may_drop(part: torch.nn.Module) -> bool:
    """Whether a module holds a probability of a dropout."""
    held = {name: value for name, value in vars(part).items() if "drop" in name or name == "p"}
    return any(isinstance(value, float) and value > 0.0 for value in held.values())


class _Record(TorchFunctionMode):
    """Records the arguments of calls of normalization functions, and the dropouts of attention."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.found: dict[str, tuple[bool, float]] = {}
        self.dropouts: list[float] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _NORMS:
            given = inspect.signature(func).bind(*args, **(kwargs or {}))
            given.apply_defaults()
            name = self.names.get(id(given.arguments["running_mean"]))
            if name is not None:
                self.found[name] = (bool(given.arguments[_NORMS[func]]), float(given.arguments["momentum"]))
        if func is F.scaled_dot_product_attention:
            self.dropouts.append(float(args[4] if len(args) > 4 else (kwargs or {}).get("dropout_p", 0.0)))
        return func(*args, **(kwargs or {}))


def _recorded(module: torch.nn.Module, program: ExportedProgram, in_eval: frozenset[str]) -> _Record:
    """Runs a copy of the module in training mode, without numbers, to find the arguments of its calls.

    Code that cannot be run so cannot be asked: nothing is known of its calls then.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        fakes = {id(v): mode.from_tensor(v) for v in (*module.parameters(), *module.buffers())}
        fake = copy.deepcopy(module, fakes)
        for path, part in fake.named_modules():
            part.training = path not in in_eval
        record = _Record({id(buffer): name for name, buffer in fake.named_buffers()})
        args, keywords = pytree.tree_map_only(torch.Tensor, mode.from_tensor, program.example_inputs)
        with mode, torch.no_grad(), record:
            fake(*args, **keywords)
    except Exception:  # torch raises of its own, and whatever the module's code raises
        return _Record({})
    return record
