"""Makes written PyTorch source live, and runs it on numpy arrays."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from dlbridge.errors import WeightsError
from dlbridge.frameworks.pytorch.arrays import shared, to_array, to_tensor
from dlbridge.frameworks.pytorch.exact import Exact
from dlbridge.source.program import Source


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are allocated, so that they take no memory: their numbers come from the model."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]  # type: ignore[index]
        return func(*args, **(kwargs or {}))


def load(source: Source) -> torch.nn.Module:
    """The written module, in eval mode, with its weights."""
    names = source.execute()
    with _SkipInitialisation():
        module = names[source.entry]()
    made = module.state_dict()
    module.load_state_dict({k: _like(made.get(k), to_tensor(a)) for k, a in source.arrays()}, assign=True)
    for pair in source.ties:
        _tie(module, *pair)
    module.dlbridge_source = source
    return module.eval()


def load_saved(source: Source, weights: Path) -> torch.nn.Module:
    """The module of a file, in eval mode, with the weights of a state dict beside it.

    Raises:
        WeightsError: When the weights do not fit the module.
    """
    module = source.execute()[source.entry]()
    try:
        module.load_state_dict(torch.load(weights, weights_only=True))
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
        raise WeightsError(str(error), where=str(weights)) from error
    module.dlbridge_source = source
    return module.eval()


def _like(made: torch.Tensor | None, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the memory format of the one that the module has made."""
    return tensor if made is None or made.is_contiguous() else torch.empty_like(made, dtype=tensor.dtype).copy_(tensor)


def _tie(module: torch.nn.Module, key: str, first: str) -> None:
    # Assigning a state dict makes a parameter of each entry; shared ones must be shared again.
    owner, _, name = key.rpartition(".")
    setattr(module.get_submodule(owner), name, operator.attrgetter(first)(module))


def run(live: torch.nn.Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in inference mode, on the device and in the mode in which the module is.

    Raises:
        SignatureError: When an input is missing.
    """
    source: Source = live.dlbridge_source  # type: ignore[assignment]
    source.require_inputs(inputs)
    with torch.inference_mode():
        return _call(live, inputs)


def run_again(live: torch.nn.Module, inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Run as users do who say nothing of gradients, which are recorded then, and as those who turn that off."""
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            found = _call(live, inputs)
        yield found


def exact(live: torch.nn.Module) -> Exact:
    """Runs a copy of the live module in float64."""
    return Exact(live, _call)


def _call(live: torch.nn.Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    source: Source = live.dlbridge_source  # type: ignore[assignment]
    device = next((p.device for p in live.parameters()), torch.device("cpu"))
    out = live(*(to_tensor(inputs[n]).to(device) for n in source.inputs))
    return {n: to_array(v) for n, v in zip(source.outputs, source.in_order(out), strict=True)}


def weights(live: torch.nn.Module) -> dict[str, np.ndarray]:
    """Framework key -> array of a live model's weights, as they are now."""
    source: Source = live.dlbridge_source  # type: ignore[assignment]
    state = live.state_dict()
    return {key: to_array(state[key]) for key in source.weights}


def save_weights(source: Source, folder: Path) -> None:
    """Write ``weights.pt``, a state dict that ``torch.load(..., weights_only=True)`` reads.

    The tensors are views, so that what is mapped from files is not copied into memory.
    """
    torch.save({k: shared(a) for k, a in source.arrays()}, folder / "weights.pt")
