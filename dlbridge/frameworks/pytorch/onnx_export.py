"""ONNX by PyTorch's own exporter, ``torch.onnx.export(dynamo=True)``: an independent route to the same model."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from dlbridge.errors import DlbridgeError, first_line
from dlbridge.frameworks.pytorch.arrays import to_tensor
from dlbridge.model import Model
from dlbridge.ops.evaluator import LARGE
from dlbridge.passes import signature

#: Size of the batch, and of the first and each next other free dim, in the input that is traced.
_BATCH, _FIRST, _STEP = 2, 16, 8


def export(live: torch.nn.Module, model: Model, path: Path, *, opset: int) -> Path:
    """Export a live module; inputs, outputs and symbolic dims get the model's names.

    Args:
        live: The module, of the model's signature; in eval mode.
        model: Says the signature.
        path: The file to write; the weights of a large model go beside it.
        opset: The opset to ask the exporter for. It works at opset 18 and converts; where it cannot, 18 stays.

    Raises:
        DlbridgeError: When the exporter fails.
    """
    arguments = _examples(model)
    free = tuple(_free_axes(v) for v in model.inputs)
    try:
        # The strides that the fused kernel leaves are not those of what the exporter puts in its place.
        with silence(), sdpa_kernel(SDPBackend.MATH):
            program = torch.onnx.export(
                live, arguments, dynamo=True, dynamic_shapes=_shapes(live, free), opset_version=opset, verbose=False
            )
    except Exception as error:  # the exporter raises many kinds of errors for what it cannot export
        reason = first_line(error.__cause__ or error)
        raise DlbridgeError(f"torch.onnx cannot export it: {reason}", where=model.name) from error
    assert program is not None
    graph = program.model.graph
    signature.rename(graph, model)
    size = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
    program.save(str(path), external_data=size >= LARGE)  # weights in a file of their own are mapped by what reads it
    for value in graph.initializers.values():  # the exporter's rules remember the last graph: not its weights, too
        value.const_value = None
    return path


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the exporter's progress, and its notes on packages that it would like to see, from the user."""
    void, logger = io.StringIO(), logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(void), contextlib.redirect_stderr(void):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _shapes(live: torch.nn.Module, free: tuple[dict[int, Any], ...]) -> Any:
    """The dynamic axes by argument; those of ``*args`` are in a tuple of their own."""
    parameters = inspect.signature(live.forward).parameters.values()
    gathers = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return (free,) if gathers else free


def _free_axes(value: ir.Value) -> dict[int, Any]:
    return {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(value.shape or ()) if not isinstance(size, int)}


def _examples(model: Model) -> tuple[torch.Tensor, ...]:
    """Zeros for each input; dims with the same name have the same size. Zero is a valid index into every table."""
    sizes: dict[str, int] = {}
    for value in model.inputs:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size) not in sizes:
                others = sum(s != _BATCH for s in sizes.values())
                sizes[str(size)] = _BATCH if axis == 0 and _BATCH not in sizes.values() else _FIRST + _STEP * others
    return tuple(_zeros(v, sizes) for v in model.inputs)


def _zeros(value: ir.Value, sizes: dict[str, int]) -> torch.Tensor:
    shape = [s if isinstance(s, int) else sizes[str(s)] for s in value.shape or ()]
    return to_tensor(np.zeros(shape, value.dtype.numpy()))  # type: ignore[union-attr]
