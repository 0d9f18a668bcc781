"""Writes a model as one ``.pt2`` file, an exported program, and reads it back to see that it is the same."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from dlbridge.errors import DlbridgeError, WrittenModelError
from dlbridge.frameworks import single_file
from dlbridge.frameworks.pytorch import runner
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.export import exporting
from dlbridge.frameworks.pytorch.fx.tensors import torch_dtype
from dlbridge.ops import traits
from dlbridge.source.program import Source


def save(source: Source, path: Path, where: str) -> None:
    """Export the written module with the model's free sizes, write the program, and run what is read back.

    Raises:
        WrittenModelError: When the module cannot be exported, or the program computes something else.
    """
    live = runner.load(source)
    try:
        program = exporting.export(live, _inputs(source)).program
    except DlbridgeError as error:
        raise WrittenModelError(
            f"it cannot be exported: {error.message}", where=error.where or where, hint="write a folder (-o FOLDER)"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
        again = torch.export.load(path).module()
    again.dlbridge_source = source
    arrays = single_file.inputs(source.model)
    single_file.compare(runner.run(live, arrays), runner.run(again, arrays), where)


def _inputs(source: Source) -> tuple[str, ...]:
    """The inputs as text, with the model's constraints on single sizes."""
    bounds: dict[str, str] = {}
    for constraint in traits.constraints(source.model.graph):
        names = sorted(constraint.names)
        if len(names) == 1:
            bounds.setdefault(names[0], constraint.text.replace(" ", ""))
    values = {v.name: v for v in source.model.inputs}
    texts = []
    for name in source.inputs:
        value = values[name]
        sizes = [str(size) for size in value.shape or ()]
        texts.append(f"{dtype_name(torch_dtype(value))}[{','.join(bounds.pop(size, size) for size in sizes)}]")
    return tuple(texts)
