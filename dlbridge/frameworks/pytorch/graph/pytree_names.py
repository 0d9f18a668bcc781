"""Names of nested inputs and outputs, taken from the pytrees that ``torch.export`` stores with a program."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch.export import ExportedProgram


def input_names(program: ExportedProgram, count: int) -> list[str]:
    """A name for each leaf of the inputs: the parameter of ``forward``, then keys (``x``, ``cache.0.key``)."""
    signature = program.module_call_graph[0].signature
    if signature is None:
        return [f"input_{i}" for i in range(count)]
    positional, keywords = signature.in_spec.children()
    names = signature.forward_arg_names or []
    paths: list[str] = []
    for position, child in enumerate(positional.children()):
        paths += _paths(child, names[position] if position < len(names) else f"input_{position}")
    for key, child in zip(keywords.context or (), keywords.children(), strict=False):
        paths += _paths(child, str(key))
    return paths if len(paths) == count else [f"input_{i}" for i in range(count)]


def output_names(program: ExportedProgram, count: int) -> list[str]:
    """A name for each leaf of the outputs: keys (``logits``, ``past_key_values.0``), else ``output``, ``output_0``."""
    signature = program.module_call_graph[0].signature
    paths = _paths(signature.out_spec, "") if signature is not None else []
    if len(paths) != count:
        paths = [str(i) for i in range(count)] if count > 1 else [""]
    names = [f"output_{path}" if path[:1].isdigit() else path for path in paths]
    return [name or "output" for name in names]


def output_keys(program: ExportedProgram) -> list[str] | None:
    """The keys of the dict that a program returns, where each has a tensor; None where it returns something else."""
    signature = program.module_call_graph[0].signature
    if signature is None or signature.out_spec.type not in (dict, OrderedDict):
        return None
    keys = list(signature.out_spec.context)
    is_flat = all(child.is_leaf() for child in signature.out_spec.children())
    return keys if is_flat and all(isinstance(key, str) for key in keys) else None


def _paths(spec: Any, prefix: str) -> list[str]:
    if spec.is_leaf():
        return [prefix]
    children = spec.children()
    keys = _keys(spec.context, len(children)) or [str(i) for i in range(len(children))]
    found: list[str] = []
    for key, child in zip(keys, children, strict=True):
        found += _paths(child, f"{prefix}.{key}" if prefix else key)
    return found


def _keys(context: Any, count: int) -> list[str] | None:
    """The keys of a pytree node: those of a dict, or the fields with which the user registered a class."""
    fields = getattr(context, "_fields", None)
    if fields is not None and len(fields) == count:
        return [str(f) for f in fields]
    if isinstance(context, Sequence) and not isinstance(context, str):
        if len(context) == count and all(isinstance(k, (str, int)) for k in context):
            return [re.sub(r"\W+", "_", str(k)) for k in context]
        for part in context:
            found = None if isinstance(part, type) else _keys(part, count)
            if found is not None:
                return found
    return None
