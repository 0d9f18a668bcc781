"""Finds, while a module is read in eval mode, which parts stay so in training, and which statistics are updated.

A graph that is traced in eval mode says ``training=False`` of every normalisation, and no dropout of attention. torch's
own normalizations are known by their class; of ``F.batch_norm`` and ``F.scaled_dot_product_attention`` in a user's code
it is asked by running that code in training mode, on a copy whose tensors have shapes and no numbers.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.export import ExportedProgram
from torch.nn import MultiheadAttention
from torch.overrides import TorchFunctionMode

from dlbridge.errors import DlbridgeWarning
from dlbridge.frameworks.pytorch.compat import BatchNorm, FakeTensorMode, NormBase, pytree
from dlbridge.frameworks.pytorch.export import stopped_gradients
from dlbridge.frameworks.pytorch.export.traced_attention import is_usual

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
        dropped: Call of attention -> the probability with which it drops weights, where it does.
        stops: Calls that keep gradients from weights that train.
        untold: The largest probability of calls of attention that cannot be told apart; None where the module cannot be
            asked.
    """

    in_eval: frozenset[str] = frozenset()
    cumulative: frozenset[str] = frozenset()
    calls: dict[str, tuple[bool, float]] = field(default_factory=dict)
    dropped: dict[torch.fx.Node, float] = field(default_factory=dict)
    stops: frozenset[torch.fx.Node] = frozenset()
    untold: float | None = 0.0


def of(module: torch.nn.Module | None, program: ExportedProgram) -> TrainingMode:
    """What is known of a module that was exported; of a program alone nothing is."""
    stops = frozenset(stopped_gradients.stops(program))
    if module is None:
        return TrainingMode(stops=stops)
    parts = dict(module.named_modules())
    cumulative = frozenset(p for p, part in parts.items() if isinstance(part, BatchNorm) and part.momentum is None)
    in_eval = frozenset(_in_eval(module))
    calls = _attention_calls(program)
    attends = bool(calls) or any(isinstance(part, MultiheadAttention) for part in parts.values())
    if not attends and not _has_calls(program, parts):
        return TrainingMode(in_eval, cumulative, stops=stops)
    record = _recorded(module, program, in_eval)
    if record is None:
        may_drop = attends and any(map(_may_drop, parts.values()))
        return TrainingMode(in_eval, cumulative, stops=stops, untold=None if may_drop else 0.0)
    if len(calls) != len(record.attention):
        lost = max([record.lost, *record.attention])
        return TrainingMode(in_eval, cumulative, record.found, stops=stops, untold=lost)
    dropped = {call: ratio for call, ratio in zip(calls, record.attention, strict=True) if ratio}
    return TrainingMode(in_eval, cumulative, record.found, dropped, stops, record.lost)


def tell(mode: TrainingMode) -> None:
    """Warn of what a graph does not keep."""
    what = "dropout of the weights of attention"
    if mode.untold is None:
        text = f"{what} is not kept, if there is any: the module cannot be run in training mode without numbers"
        warnings.warn(text, DlbridgeWarning, stacklevel=5)
    elif mode.untold:
        text = f"not kept, as it acts in training alone: {what} ({mode.untold:g})"
        warnings.warn(text, DlbridgeWarning, stacklevel=5)


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


def _attention_calls(program: ExportedProgram) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if str(node.target).startswith("aten.scaled_dot_product_attention")]


def _may_drop(part: torch.nn.Module) -> bool:
    """Whether a module, or its configuration, holds a probability of a dropout."""
    held = {**vars(getattr(part, "config", part)), **vars(part)}
    numbers = [number for name, value in held.items() if "drop" in name or name == "p" for number in _numbers(value)]
    return any(number > 0.0 for number in numbers)


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [number for number in values if isinstance(number, float)]


class _Record(TorchFunctionMode):
    """Records calls in training mode.

    Attributes:
        found: See ``TrainingMode.calls``.
        attention: The probability with which each call of attention drops its weights, in the order of the calls.
        lost: The largest probability of calls whose graph has no call of attention, nor a dropout in its place.
    """

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.found: dict[str, tuple[bool, float]] = {}
        self.attention: list[float] = []
        self.lost = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func in _NORMS or func is F.multi_head_attention_forward:
            bound = inspect.signature(func).bind(*args, **given)
            bound.apply_defaults()
            note = self._note_norm if func in _NORMS else self._note_layer
            note(func, bound.arguments)
        if func is F.scaled_dot_product_attention:
            self.attention.append(float(args[4] if len(args) > 4 else given.get("dropout_p", 0.0)))
        return func(*args, **given)

    def _note_norm(self, func: Any, given: Mapping[str, Any]) -> None:
        name = self.names.get(id(given["running_mean"]))
        if name is not None:
            self.found[name] = (bool(given[_NORMS[func]]), float(given["momentum"]))

    def _note_layer(self, func: Any, given: Mapping[str, Any]) -> None:
        ratio = float(given["dropout_p"]) if given["training"] else 0.0
        if not given["need_weights"]:
            self.attention.append(ratio)
        elif not is_usual(**{**given, "training": False}):
            self.lost = max(self.lost, ratio)


def _recorded(module: torch.nn.Module, program: ExportedProgram, in_eval: frozenset[str]) -> _Record | None:
    """Runs a copy of the module in training mode, without numbers, to find the arguments of its calls.

    Code that cannot be run so cannot be asked: the result is None then.
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
        return None
    return record
