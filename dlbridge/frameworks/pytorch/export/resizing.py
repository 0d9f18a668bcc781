"""Gives an exported program other sizes than it was exported with: its graph is exported again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch.export import ExportedProgram

from dlbridge.errors import SignatureError, suggest
from dlbridge.frameworks.inputs import parse_input
from dlbridge.frameworks.pytorch.arrays import dtype_name
from dlbridge.frameworks.pytorch.export.own_copy import own_copy
from dlbridge.frameworks.pytorch.fx.tensors import torch_dtype


def check(constraints: Sequence[str], where: str) -> None:
    """Refuse a program some of whose sizes are free within conditions: exported again, it would have lost them.

    Raises:
        SignatureError: When it has such conditions.
    """
    if constraints:
        raise SignatureError(
            f"it is right for some sizes alone ({', '.join(map(str, constraints))}), which would be lost with others",
            where=where,
            hint="read it without --input, or export the module again with the sizes that you want",
        )


def with_sizes(
    program: ExportedProgram, inputs: Sequence[ir.Value], asked: Any, where: str
) -> tuple[torch.nn.Module, dict[str, str]]:
    """The program as a module to export again, and what its inputs are to be.

    Args:
        program: The program.
        inputs: Its inputs, as they are read.
        asked: What the user says of them, by name; the others stay as they are.
        where: What errors call the program.

    Raises:
        SignatureError: When there is no such input, it has another dtype or rank, or inputs are nested.
    """
    known = {str(v.name): v for v in inputs}
    if not isinstance(asked, Mapping):
        raise SignatureError("the inputs of an exported program are said by name", where=where, hint=_listed(known))
    if any("." in name for name in known):
        raise SignatureError("the sizes of nested inputs of an exported program stay as they are", where=where)
    for name in asked:
        if name not in known:
            raise SignatureError(f"the program has no input '{name}'", hint=suggest(name, known) or _listed(known))
    said = {}
    for name, value in known.items():
        dtype, sizes = dtype_name(torch_dtype(value)), [str(size) for size in value.shape or ()]
        if value.meta.get("complex"):
            sizes.pop()  # the two parts of a number
        text = parse_input(str(asked.get(name, f"{dtype}[{','.join(sizes)}]")), name).with_dtype(dtype)
        if text.dtype != dtype:
            raise SignatureError(f"the program takes {dtype}, not {text.dtype}", where=name)
        if len(text.sizes) != len(sizes):
            raise SignatureError(f"the program takes {len(sizes)} axes, [{','.join(sizes)}]", where=name)
        said[name] = str(text)
    # torch lets nobody call eval() on the module of a program; on a copy it does, where it changes nothing.
    return own_copy(program.module(check_guards=False)), said


def _listed(known: Mapping[str, Any]) -> str:
    return f"inputs: {', '.join(known)}"
