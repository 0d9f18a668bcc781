"""Changes that a user asks of a file before it is read: cut it at named values, give its inputs other sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dlbridge.errors import SignatureError, suggest
from dlbridge.frameworks.inputs import no_dtype, parse_input
from dlbridge.frameworks.onnx import ReadOptions, stated_sizes
from dlbridge.ops import traits
from dlbridge.passes.unused import needed

#: dtype as users write it -> that of the IR.
DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    **{d.name.lower(): d for d in ir.DataType if d.name not in ("FLOAT", "DOUBLE", "UNDEFINED")},
}
_WORDS = {dtype: word for word, dtype in DTYPES.items()}


def are_asked(options: ReadOptions) -> bool:
    """Whether the user asks for any change."""
    return bool(options.inputs or options.from_values or options.until_values)


def apply(model: ir.Model, options: ReadOptions) -> list[str]:
    """Make the changes, in place.

    Returns:
        The names of sizes that were a number and are free now.

    Raises:
        SignatureError: When there is no such value, or an input cannot have that dtype or rank.
    """
    if options.from_values or options.until_values:
        cut(model, options.from_values, options.until_values, known=options.inputs or {})
    return resize(model, options.inputs or {})


# --- cutting ----------------------------------------------------------------------------------------------------------


def cut(model: ir.Model, starts: Sequence[str], ends: Sequence[str], *, known: Iterable[str] = ()) -> None:
    """Keep the part of a graph between named values: ``starts`` become inputs, ``ends`` the outputs.

    Inputs of the graph that the part needs beside ``starts`` stay inputs.

    Args:
        model: The model.
        starts: Names of values; the graph's own inputs when empty.
        ends: Names of values; the graph's own outputs when empty.
        known: Names of values whose types the user says.

    Raises:
        SignatureError: When there is no such value, its type is not known, or the outputs do not need it.
    """
    graph = model.graph
    if starts:
        ShapeInferencePass()(model)
    values = {v.name: v for v in (*graph.inputs, *(o for node in graph for o in node.outputs)) if v.name}
    outputs = [_find(values, name, "--until") for name in ends] or list(graph.outputs)
    inputs = [_find(values, name, "--from") for name in starts]
    for value in inputs:
        if (value.dtype is None or value.shape is None) and value.name not in known:
            raise SignatureError(
                "its type and sizes are not known in the file, so that it cannot be an input",
                where=value.name,
                hint=f"say them: --input '{value.name}:float32[batch,...]'",
            )
    fresh = {old: ir.Value(name=old.name, type=old.type, shape=old.shape) for old in inputs}
    nodes, reached = needed(outputs, set(inputs))
    unused = [str(value.name) for value in inputs if value not in reached]
    if unused:
        raise SignatureError(
            f"the outputs do not need {', '.join(unused)}", where=graph.name, hint="--until says others"
        )
    kept = [value for value in graph.inputs if value in reached and value not in fresh]
    for old, new in fresh.items():
        if not old.is_graph_input():
            old.name = f"{old.name}.cut"
        ir.convenience.replace_all_uses_with(old, new)
    graph.outputs[:] = [fresh.get(value, value) for value in outputs]
    if ends:
        traits.set_output_keys(graph, None)
    graph.inputs[:] = [*fresh.values(), *kept]
    for node in reversed(list(graph)):
        if node not in nodes:
            graph.remove(node)


def _find(values: Mapping[str, ir.Value], name: str, option: str) -> ir.Value:
    if name in values:
        return values[name]
    hint = suggest(name, values) or "values are the inputs and the outputs of nodes; a viewer such as Netron shows them"
    raise SignatureError(f"the graph has no value '{name}'", where=option, hint=hint)


# --- sizes ------------------------------------------------------------------------------------------------------------


def resize(model: ir.Model, asked: Mapping[str, Any]) -> list[str]:
    """Give inputs other sizes: numbers, or names for those that are free. One name is one size.

    Returns:
        The names of sizes that were a number and are free now.

    Raises:
        SignatureError: When there is no such input, or it has another dtype or rank.
    """
    inputs = {v.name: v for v in model.graph.inputs if not v.is_initializer()}
    old = stated_sizes.remember(model) if asked else {}
    renamed: dict[str, int | str] = {}
    freed: list[str] = []
    for name, text in asked.items():
        if name not in inputs:
            hint = suggest(name, inputs) or f"inputs: {', '.join(map(str, inputs))}"
            raise SignatureError(f"the file has no input '{name}'", hint=hint)
        freed += _resize_one(inputs[name], text, renamed)
    if not asked:
        return []
    for name, value in inputs.items():
        if value.shape is not None and name not in asked:
            value.shape = ir.Shape([renamed.get(_text(size), size) for size in value.shape])
    _forget_shapes(model)
    if freed:
        stated_sizes.follow(model, old)
    return list(dict.fromkeys(freed))


def _resize_one(value: ir.Value, text: Any, renamed: dict[str, int | str]) -> list[str]:
    """Set the sizes of an input; ``renamed`` gets the old name of a size -> what it is now."""
    name = str(value.name)
    if not isinstance(text, str):
        raise SignatureError(f"an input of an ONNX file is said as text, not as a {type(text).__name__}", where=name)
    said = parse_input(text, name)
    if said.dtype is not None and DTYPES.get(said.dtype) is None:
        raise no_dtype(text, said.dtype, name)
    dtype = DTYPES[said.dtype] if said.dtype is not None else value.dtype
    if value.dtype is None:
        value.dtype = dtype or ir.DataType.FLOAT
    if dtype is not None and dtype != value.dtype:
        raise SignatureError(f"the file takes {_WORDS[value.dtype]}, not {said.dtype}", where=name)
    sizes = [_size(size, name) for size in said.sizes]
    before = list(value.shape) if value.shape is not None else [None] * len(sizes)
    if len(before) != len(sizes):
        raise SignatureError(f"the file takes {len(before)} axes, {value.shape}, not {len(sizes)}", where=name)
    value.shape = ir.Shape(sizes)
    freed = []
    for old, new in zip(before, sizes, strict=True):
        if isinstance(old, int):
            freed += [new] if isinstance(new, str) else []
        elif _text(old) and renamed.setdefault(_text(old), new) != new:
            raise SignatureError(f"the size '{_text(old)}' is {renamed[_text(old)]} and {new}", where=name)
    return freed


def _size(text: str, where: str) -> int | str:
    if text.isdigit() and len(text) < 19:
        return int(text)
    if not re.fullmatch(r"[A-Za-z_]\w*", text):
        raise SignatureError(f"'{text}' is no size of an ONNX file: a number or a name", where=where)
    return text


def _text(size: Any) -> str:
    """The name of a size; empty for one without a name, and for a number."""
    return "" if isinstance(size, int) or size is None else size.value or ""


def _forget_shapes(model: ir.Model) -> None:
    """Drop the shapes that followed from other sizes of the inputs."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
