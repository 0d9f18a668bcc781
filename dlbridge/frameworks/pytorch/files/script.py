"""Reads TorchScript, modules and ``.pt`` files, through the ONNX file that PyTorch's exporter makes of it.

That exporter keeps what a script decides by its numbers and sizes. A traced module decides nothing: it is what was
traced, for the sizes of that day where its code had read them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, FileError, SignatureError, first_line, suggest
from dlbridge.frameworks.pytorch import ReadOptions
from dlbridge.frameworks.pytorch.arrays import to_array, to_tensor
from dlbridge.frameworks.pytorch.compat import pytree
from dlbridge.frameworks.pytorch.export.examples import SIZES, Example
from dlbridge.frameworks.pytorch.export.training_mode import in_eval_mode
from dlbridge.frameworks.pytorch.onnx_export import silence
from dlbridge.model import Model

_OPSET = 18


class Original:
    """A script: arrays by input name -> arrays by output name."""

    def __init__(self, script: torch.jit.ScriptModule, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._script, self._inputs, self._outputs = script, inputs, outputs

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run it in its own types."""
        with torch.no_grad(), in_eval_mode(self._script):
            result = self._script(*(to_tensor(arrays[name]) for name in self._inputs))
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return dict(zip(self._outputs, map(to_array, leaves), strict=True))


def load(path: Path, *, trust_code: bool) -> torch.jit.ScriptModule:
    """The script in a file.

    Raises:
        FileError: When its code is not trusted, or the file cannot be loaded.
    """
    if not trust_code:
        raise FileError(
            "a TorchScript model is code, which may read and write files when it runs",
            where=str(path),
            hint="if you trust who made it: --trust-code (trust_code=True)",
        )
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise FileError(f"torch.jit cannot load it: {first_line(error)}", where=str(path)) from error


def check_parts(module: torch.nn.Module) -> None:
    """Check that no part of a Python module is TorchScript, which torch.export cannot read.

    Raises:
        DlbridgeError: When one is.
    """
    scripts = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripts:
        raise DlbridgeError(
            "this part is a TorchScript module, which torch.export cannot read",
            where=scripts[0],
            hint="put the module there that it was made from; its state dict is that of the script",
        )


def read(script: torch.jit.ScriptModule, options: ReadOptions, where: str) -> Model:
    """Read a script.

    Args:
        script: The script.
        options: See ``ReadOptions``.
        where: What it is called in errors.

    Raises:
        SignatureError: When the sizes of its inputs are not said, or names are not those of its ``forward``.
        DlbridgeError: When the exporter cannot export it.
    """
    parameters = [argument.name for argument in script.forward.schema.arguments[1:]]
    inputs = options.inputs if options.inputs is not None else options.example
    if inputs is None:
        said = " ".join(f"--input '{name}:float32[batch,...]'" for name in parameters)
        raise SignatureError("a TorchScript model does not say the sizes of its inputs", where=where, hint=said)
    example = Example(inputs, options.dynamic, *SIZES[0])
    given = {**dict(zip(parameters, example.args, strict=False)), **example.kwargs}
    unknown = next((name for name in given if name not in parameters), None)
    if unknown is not None:
        hint = suggest(unknown, parameters) or f"its inputs are: {', '.join(parameters)}"
        raise SignatureError(f"it has no input '{unknown}'", where=where, hint=hint)
    names = [name for name in parameters if name in given]
    free = {name: axes for name in names for tensor, axes in example.dims if tensor is given[name]}
    odd = next((size for axes in free.values() for size in axes.values() if not size.isidentifier()), None)
    if odd is not None:
        raise SignatureError(f"a size of a TorchScript model is a number or a name, not '{odd}'", where=where)
    proto = _exported(script, [given[name] for name in names], names, free, where)
    model = frameworks.get(frameworks.STANDARD).read(proto, name=options.name or where)
    model.original = Original(script, names, [value.name or "" for value in model.outputs])
    return model


def _exported(
    script: torch.jit.ScriptModule,
    tensors: Sequence[torch.Tensor],
    names: Sequence[str],
    free: Mapping[str, dict[int, str]],
    where: str,
) -> onnx.ModelProto:
    file = io.BytesIO()
    try:
        with silence(), warnings.catch_warnings(), in_eval_mode(script):
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {"input_names": list(names), "dynamic_axes": dict(free), "opset_version": _OPSET}
            torch.onnx.export(script, tuple(tensors), file, dynamo=False, **options)
    except Exception as error:  # the exporter raises many kinds of errors for what it cannot export
        hint = "read the module that it was made from: --weights takes what the script holds"
        raise DlbridgeError(
            f"torch.onnx cannot export the script: {first_line(error)}", where=where, hint=hint
        ) from error
    return onnx.load_from_string(file.getvalue())
