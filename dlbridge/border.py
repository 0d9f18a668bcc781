"""Checks that every model passes when it is read.

What a library raises over a broken file becomes one error in words, and names and traits that no model can have are
refused before anything is made of them.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import onnx_ir as ir

from dlbridge.decoding import Settings
from dlbridge.errors import DlbridgeError, FileError
from dlbridge.limits import limits, raise_hint
from dlbridge.ops import extension, stand_ins, traits
from dlbridge.ops.keys import op_key

if TYPE_CHECKING:
    from dlbridge.model import Model


def reader(is_data: Callable[[Any], bool]) -> Callable[[Callable[..., Model]], Callable[..., Model]]:
    """Decorator of a framework's ``read``: what it reads passes the border.

    Args:
        is_data: Whether a source that is no path is data as a file is. What the user's own code raises stays as it is.
    """

    def decorate(read: Callable[..., Model]) -> Callable[..., Model]:
        @functools.wraps(read)
        def checked(source: Any, options: Any) -> Model:
            is_path = isinstance(source, (str, os.PathLike))
            where = str(source) if is_path else None
            if not is_path and not is_data(source):
                model = read(source, options)
            else:
                with readable(where):
                    model = read(source, options)
            check(model, where)
            return model

        return checked

    return decorate


@contextmanager
def readable(where: str | None) -> Iterator[None]:
    """Within the block, what is raised over a file is a ``FileError`` that says why.

    Errors of dlbridge stay, and so does a package that is missing.
    """
    try:
        yield
    except (DlbridgeError, ModuleNotFoundError):
        raise
    except MemoryError as error:
        raise FileError("there is not enough memory to read it", where=where) from error
    except RecursionError as error:
        raise FileError("it is nested too deeply to be read", where=where) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise FileError(f"it cannot be read: {type(error).__name__}: {reason}", where=where) from error


def check(model: Model, where: str | None = None) -> None:
    """Check what a file says of a graph beyond its nodes: names, traits, sizes.

    Raises:
        FileError: When a name cannot be printed, is too long or has too many parts, a tensor is too large, or a trait
            is none.
    """
    graphs = [model.graph, *model.graph.subgraphs()]
    check_name(model.name, where)
    for graph in graphs:
        for value in (*graph.inputs, *graph.initializers.values(), *graph.outputs):
            check_name(value.name or "", where)
            _check_size(value, where)
        for node in graph:
            check_name(node.name or "", where)
            _check_op(node, where)
            for value in node.outputs:
                _check_size(value, where)
    check_traits(model.graph, where)


#: Characters that end a string, or begin something else in one. What dlbridge prints escapes them; what torch prints of
#: the paths of modules does not.
_UNQUOTABLE = frozenset("\"'`\\{}")


def check_name(name: str, where: str | None = None) -> None:
    """
    Raises:
        FileError: When text is no name of anything in a model.
    """
    if len(name) > limits().name:
        raise FileError(f"the name '{name[:40]}...' has {len(name):,} characters", where=where, hint=raise_hint("name"))
    if not name.isprintable():
        raise FileError(f"the name {name!r} has characters that cannot be printed", where=where)
    if _UNQUOTABLE & set(name):
        raise FileError(f"the name {name} has quotes, backslashes or braces", where=where)
    parts = name.split(".")
    if len(parts) > limits().depth:
        raise FileError(f"the name '{name[:40]}...' has {len(parts)} parts", where=where, hint=raise_hint("depth"))
    if name and not all(parts):
        raise FileError(f"the name '{name}' has an empty part", where=where)


def _check_op(node: ir.Node, where: str | None) -> None:
    """Refuse ops that only a writer may make, and names of ops that are none."""
    for name in (node.op_type, node.domain.replace(".", "_")):
        check_name(name, where)
    inner = node.domain.startswith(f"{extension.DOMAIN}.") and node.domain != stand_ins.DOMAIN
    if inner or (node.domain == extension.DOMAIN and op_key(node) not in extension.EXTENSION_OPS):
        raise FileError(f"there is no op {node.op_type} in the domain {node.domain}", where=where)


def _check_size(value: ir.Value, where: str | None) -> None:
    total = 1
    for size in value.shape or ():
        if isinstance(size, int):
            total *= size
        else:
            check_name(size.value or "", where)
    if total > limits().elements:
        what = f"'{value.name}' has {total:,} elements"
        raise FileError(what, where=where, hint=raise_hint("elements"))


# --- traits -----------------------------------------------------------------------------------------------------------

#: Trait -> what its JSON is: the type, and that of what it holds.
_JSON: dict[str, tuple[type, type]] = {
    traits.ALIASES: (list, str),
    traits.CALLS: (dict, int),
    traits.BLOCKS: (dict, str),
    traits.PORTS: (dict, str),
    traits.KEYS: (list, str),
    traits.INIT: (dict, object),
}


def check_traits(graph: ir.Graph, where: str | None = None) -> None:
    """Check that what metadata say of a model, its weights and nodes is of the form that dlbridge gives it.

    Raises:
        FileError: When it is not.
    """
    for value in graph.initializers.values():
        kind = value.metadata_props.get(traits.KIND)
        if kind is not None and kind not in get_args(traits.Kind):
            raise FileError(f"'{value.name}' is a '{kind[:40]}', which no weight is", where=where)
        _check_json(value.metadata_props, value.name or "", where)
        for alias in traits.aliases(value):
            check_name(alias, where)
    for node in graph.all_nodes():
        _check_json(node.metadata_props, node.name or "", where)
        for path in (*traits.calls(node), node.metadata_props.get(traits.STACK, "")):
            check_name(path, where)
        if not _is_probability(node.metadata_props.get(traits.DROPOUT, "0")):
            raise FileError(f"the trait '{traits.DROPOUT}' of '{node.name}' is broken", where=where)
    _check_json(graph.metadata_props, graph.name or "", where)
    for path, name in traits.blocks(graph).items():
        check_name(path, where)
        check_name(name, where)
    settings = graph.metadata_props.get(traits.GENERATION)
    if settings is not None:
        Settings.loads(settings, where)
    try:
        traits.constraints(graph)
    except (ValueError, RecursionError):
        raise FileError(f"its '{traits.CONSTRAINTS}' is no list of constraints on sizes", where=where) from None


def _is_probability(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def _check_json(metadata: Any, name: str, where: str | None) -> None:
    """Refuse traits that are not of their form."""
    for key, (outer, inner) in _JSON.items():
        text = metadata.get(key)
        if text is None:
            continue
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        items = data.values() if isinstance(data, dict) else data
        if not isinstance(data, outer) or not all(isinstance(item, inner) for item in items):
            raise FileError(f"the trait '{key}' of '{name}' is broken", where=where)
