"""Samples of PyTorch's ModuleInfo database: what a module does in eval and in training mode, and whether a written
model does the same."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.testing._internal.common_modules import module_db
from torch.utils._pytree import tree_leaves, tree_map

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.source.weights import to_initializers

DATABASE = {info.name.removeprefix("nn."): info for info in module_db}
#: Outputs, and gradients and statistics, may differ by this much of the largest number of their tensor.
OUTPUT_ERROR, GRADIENT_ERROR = 1e-4, 1e-3


@dataclass
class Sample:
    """A module of the database and a call of it."""

    module: nn.Module
    args: tuple
    keywords: dict[str, Any]
    moving: int = 99  # the first so many tensors of the call have a gradient

    def __post_init__(self) -> None:
        tensors = [v for v in tree_leaves((self.args, self.keywords)) if isinstance(v, torch.Tensor)]
        self.is_empty = any(v.numel() == 0 for v in tensors)

    @property
    def inputs(self) -> Any:
        """The inputs as ``dlbridge.load`` takes them."""
        return (
            inspect.signature(self.module.forward).bind(*self.args, **self.keywords).arguments
            if self.keywords
            else self.args
        )


@dataclass
class Answer:
    """What a call gives, and what it leaves behind in training."""

    outputs: list[np.ndarray]
    inputs: list[np.ndarray | None] = field(default_factory=list)
    parameters: dict[str, np.ndarray | None] = field(default_factory=dict)
    state: dict[str, np.ndarray] = field(default_factory=dict)


def samples(name: str, training: bool) -> Iterator[Sample]:
    """The samples of a module, each with weights and statistics that are not the usual ones and zeros."""
    info = DATABASE[name]
    torch.manual_seed(0)
    for entry in info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
    ):
        torch.manual_seed(0)
        module = info.module_cls(*entry.constructor_input.args, **entry.constructor_input.kwargs)
        call = entry.forward_input
        if hasattr(module, "_random_samples") and module._random_samples is not None:
            module._random_samples = module._random_samples.float()
        if info.is_lazy:
            module(*call.args, **call.kwargs)
        with torch.no_grad():
            for weight in module.parameters():
                weight += 0.1 * torch.randn_like(weight)
            for key, value in module.named_buffers():
                if key.endswith("running_mean"):
                    value += torch.randn_like(value)
                elif key.endswith("running_var"):
                    value += torch.rand_like(value)
        yield Sample(module.train(training), call.args, call.kwargs)
        torch.manual_seed(0)


def outcome(sample: Sample, training: bool, targets: tuple[str, ...]) -> dict[str, str]:
    """For each target ``right``, ``refused: why``, or what is wrong; empty where PyTorch itself does not run it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sample.is_empty:
            return {}
        try:
            wanted = original(sample, training)
        except RuntimeError as error:
            if "differentiable" not in str(error) and "derivative" not in str(error):
                raise
            sample.moving = 1  # a loss has no gradient with respect to its target
            wanted = original(sample, training)
        if is_random(sample, training, wanted):
            without_chance(sample.module)
            wanted = original(sample, training)
            if is_random(sample, training, wanted):
                return dict.fromkeys(targets, "random")
        try:
            model = dlbridge.load(sample.module, inputs=sample.inputs)
        except DlbridgeError as error:
            return dict.fromkeys(targets, f"refused: {error.message}")
        except Exception as error:
            return dict.fromkeys(targets, f"raises {type(error).__name__}: {error}")
        found = {}
        for target in targets:
            try:
                found[target] = CHECKS[target, training](sample, model, wanted) or "right"
            except DlbridgeError as error:
                found[target] = f"refused: {error.message}"
            except Exception as error:
                found[target] = f"raises {type(error).__name__}: {error}"[:300]
        return found


def is_random(sample: Sample, training: bool, answer: Answer) -> bool:
    again = original(sample, training, seed=1)
    return bool(differences(again.outputs, answer.outputs, OUTPUT_ERROR, "output"))


def without_chance(module: nn.Module) -> None:
    """Set the ratio of every dropout to 0."""
    for part in module.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(part, name, None), float) and not isinstance(part, (nn.LPPool1d, nn.LPPool2d)):
                setattr(part, name, 0.0)


def original(sample: Sample, training: bool, seed: int = 0) -> Answer:
    """What PyTorch's own module does."""
    module = copy.deepcopy(sample.module).train(training)
    return of_torch(module, (sample.args, sample.keywords), training, seed, sample.moving)


def of_torch(module: nn.Module, call: tuple[tuple, dict], training: bool, seed: int = 0, moving: int = 99) -> Answer:
    """What a module does in a call; in training also the gradients, the outputs' being :func:`direction`."""
    torch.manual_seed(seed)
    args, keywords = tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, call)
    given = [v for v in tree_leaves((args, keywords)) if isinstance(v, torch.Tensor)]
    if not training:
        # The fast path of torch's transformers gives zeros behind padding, where their own code does not.
        with torch.no_grad(), fast_path(False):
            return Answer([v.numpy() for v in tree_leaves(module(*args, **keywords)) if isinstance(v, torch.Tensor)])
    for value in given[:moving]:
        value.requires_grad_(value.is_floating_point())
    outputs = [v for v in tree_leaves(module(*args, **keywords)) if isinstance(v, torch.Tensor)]
    parts = [(v * torch.from_numpy(direction(v.shape, i))).sum() for i, v in enumerate(outputs) if v.requires_grad]
    if parts:
        sum(parts).backward()
    return Answer(
        [v.detach().numpy() for v in outputs],
        [number(v.grad) for v in given[:moving]],
        {name: number(weight.grad) for name, weight in module.named_parameters()},
        {name: number(value) for name, value in module.named_buffers()},
    )


@contextlib.contextmanager
def fast_path(on: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(on)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def direction(shape: Any, seed: int) -> np.ndarray:
    """What an output's gradient is."""
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)


def number(tensor: torch.Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().clone().numpy()


# --- checks ----------------------------------------------------------------------------------------------------------


def arrays(sample: Sample, model: Any) -> dict[str, np.ndarray]:
    """The numbers of a call by the names of the model's inputs."""
    given = sample.inputs
    given = [v.numpy() for v in tree_leaves(given) if isinstance(v, torch.Tensor)]
    return {v.name: a for v, a in zip(model.inputs, given, strict=True)}


def in_eval(target: str) -> Callable[[Sample, Any, Answer], str]:
    """The check of one target: the same outputs, and the original's state dict loads."""

    def check(sample: Sample, model: Any, wanted: Answer) -> str:
        if target == "onnx":
            import onnx_ir as ir
            import onnxruntime

            session = onnxruntime.InferenceSession(ir.to_proto(model.to_onnx()).SerializeToString())
            outputs = session.run(None, arrays(sample, model))
            return differences(outputs, wanted.outputs, OUTPUT_ERROR, "output")
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        if target == "pytorch":
            live.load_state_dict(sample.module.state_dict(), strict=True)
        outputs = list(framework.run(live, arrays(sample, model)).values())
        return differences(outputs, wanted.outputs, OUTPUT_ERROR, "output")

    return check


def pytorch_in_training(sample: Sample, model: Any, wanted: Answer) -> str:
    live = model.to_pytorch()
    live.load_state_dict(sample.module.state_dict(), strict=True)
    given = tuple(torch.from_numpy(a.copy()) for a in arrays(sample, model).values())
    found = of_torch(live.train(), (given, {}), training=True, moving=sample.moving)
    trained = {name: weight.requires_grad for name, weight in sample.module.named_parameters()}
    if trained != {name: weight.requires_grad for name, weight in live.named_parameters()}:
        return f"trains {[name for name, weight in live.named_parameters() if weight.requires_grad]}"
    state = {name: value for name, value in found.state.items() if name in wanted.state}
    return (
        differences(found.outputs, wanted.outputs, OUTPUT_ERROR, "output")
        or differences(found.inputs, wanted.inputs, GRADIENT_ERROR, "gradient of input")
        or by_name(found.parameters, wanted.parameters, "gradient of ")
        or by_name(state, wanted.state, "")
    )


def keras_in_training(sample: Sample, model: Any, wanted: Answer) -> str:
    import keras
    import tensorflow as tf

    from dlbridge.frameworks.keras.runner import _variables, float_type, weights

    keras.utils.set_random_seed(0)
    live = model.to_keras()
    given = [tf.Variable(a) for a in arrays(sample, model).values()]
    with tf.GradientTape() as tape, float_type(live.dlbridge_source):
        tensors = [tf.convert_to_tensor(v) for v in given]
        outputs = live(tensors if len(tensors) > 1 else tensors[0] if tensors else None, training=True)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        moving = [(v, direction(v.shape, i)) for i, v in enumerate(outputs) if v.dtype.is_floating]
        total = sum(tf.reduce_sum(v * d) for v, d in moving)
    variables = _variables(live)
    keys = [k for k in live.dlbridge_source.weights if variables[k].trainable]
    of_inputs, of_weights = tape.gradient(total, (given, [variables[k].value for k in keys]))
    of_inputs = [None if g is None else tf.convert_to_tensor(g).numpy() for g in of_inputs[: sample.moving]]
    found = {k: None if g is None else tf.convert_to_tensor(g).numpy() for k, g in zip(keys, of_weights, strict=True)}
    expected, missing = of_variables(model, live.dlbridge_source, keys, wanted.parameters)
    if missing:
        return f"does not train {sorted(missing)}"
    state = live.dlbridge_source.initializers({k: np.array(a) for k, a in weights(live).items()})
    state = {k: a for k, a in state.items() if k in wanted.state}
    return (
        differences([np.asarray(v) for v in outputs], wanted.outputs, OUTPUT_ERROR, "output")
        or differences(of_inputs, wanted.inputs, GRADIENT_ERROR, "gradient of input")
        or by_name(found, expected, "gradient of ")
        or by_name(
            state,
            {k: a for k, a in wanted.state.items() if k in state or k.endswith(("running_mean", "running_var"))},
            "",
        )
    )


def of_variables(
    model: Any, source: Any, keys: list[str], gradients: dict[str, np.ndarray | None]
) -> tuple[dict[str, np.ndarray], set[str]]:
    """The gradients of Keras' variables by those of PyTorch's parameters; and the initializers that have a gradient in
    PyTorch and no variable that trains."""
    zeros = {name: np.zeros_like(array) for name, array in model.weights.items() if array.dtype.kind == "f"}
    theirs = frameworks.get("pytorch").write(model).weights
    known = {k: g for k, g in gradients.items() if g is not None and k in theirs}
    whole = zeros | to_initializers({k: theirs[k] for k in known}, known, zeros)
    # Of a bias that is the sum of two, either has the gradient of the sum.
    first = {k: source.weights[k].views[0] for k in keys}
    trained = {view.initializer for k in keys for view in source.weights[k].views}
    moved = {view.initializer for k, g in known.items() if g.any() for view in theirs[k].views}
    return {k: view.read(whole[view.initializer]) for k, view in first.items()}, moved - trained


CHECKS = {
    ("pytorch", False): in_eval("pytorch"),
    ("keras", False): in_eval("keras"),
    ("onnx", False): in_eval("onnx"),
    ("pytorch", True): pytorch_in_training,
    ("keras", True): keras_in_training,
}


def by_name(found: dict[str, Any], wanted: dict[str, Any], what: str) -> str:
    if set(found) != set(wanted):
        return f"{what}: {sorted(set(found) ^ set(wanted))} in one alone"
    names = sorted(wanted)
    return differences([found[n] for n in names], [wanted[n] for n in names], GRADIENT_ERROR, what, names)


def differences(found: list, wanted: list, error: float, what: str, names: list[str] | None = None) -> str:
    """What differs, or nothing. A gradient that is not there is one of zeros."""
    if len(found) != len(wanted):
        return f"{len(found)} {what}s for {len(wanted)}"
    for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
        name = f"{what} {names[place] if names else place}"
        if a is None or b is None:
            other = b if a is None else a
            if other is not None and other.size and np.abs(other).max() > 0:
                return f"{name}: {'none' if a is None else 'one'} for {'none' if b is None else 'one'}"
            continue
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{name}: {a.dtype}{a.shape} for {b.dtype}{b.shape}"
        scale = np.abs(b[np.isfinite(b)]).max(initial=0) if b.dtype.kind == "f" else 0
        if not np.allclose(a, b, rtol=0, atol=error * scale + 1e-6, equal_nan=True):
            return f"{name} differs by {np.abs(a.astype(float) - b).max():.3g} of {scale:.3g}"
    return ""
