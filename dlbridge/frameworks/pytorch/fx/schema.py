"""What the schema and metadata of an fx node say: the op's name, what it writes to or is a view of, its source line."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.compat import HigherOrderOperator, pytree
from dlbridge.frameworks.pytorch.fx.tensors import size_of

#: In-place ops that change a tensor's shape or strides and leave its elements alone.
_VIEWS_IN_PLACE = frozenset(f"aten::{n}_" for n in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims"))


def is_number_along_axis(target: Any, args: Sequence[Any]) -> bool:
    """Whether an op with an argument ``dim`` is called with a tensor of rank 0."""
    has_axis = any(a.name in ("dim", "dimension") and str(a.type) == "int" for a in compat.schema(target).arguments)
    first = args[0] if args else None
    along = has_axis and plain_name(target) not in ("aten.unsqueeze", "aten.squeeze")
    return along and isinstance(first, ir.Value) and first.meta.get("sizes") == []


def plain_name(target: Any) -> str:
    """``aten.add`` of ``aten.add_.Tensor``."""
    name = compat.schema(target).name.replace("::", ".")
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def source_line(trace: str | None) -> str:
    """``model.py:12`` of the user's innermost line in a stack trace."""
    places = re.findall(r'File "([^"]+)", line (\d+)', trace or "")
    own = [p for p in places if "/torch/" not in p[0].replace("\\", "/")]
    if not (own or places):
        return ""
    path, line = (own or places)[-1]
    return f"{path}:{line}"


def modules_around(stack: dict[str, tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    """(path, class) of the modules around a call, the same for every call of a module."""
    return tuple(
        (path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}")
        for path, kind in stack.values()
    )


def repeats_around(stack: dict[str, tuple[str, Any]]) -> dict[str, int]:
    """Path of each module around a call -> how often it was called before, as torch counts (``L__self___base@1``)."""
    return {path: int(key.rpartition("@")[2]) if "@" in key else 0 for key, (path, _) in stack.items()}


def mutates(node: torch.fx.Node) -> bool:
    """Whether a call writes to its first argument. One that only changes its shape makes a view."""
    schema = compat.schema(node.target)
    if schema is None or not schema.arguments or not node.args or schema.name in _VIEWS_IN_PLACE:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and alias.is_write and isinstance(node.args[0], torch.fx.Node)


def needed(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """The nodes that contribute to the outputs or to in-place writes; argument checks do not count."""
    found: set[torch.fx.Node] = set()
    for node in reversed(graph.nodes):
        acts = node.op == "output" or mutates(node) or isinstance(node.target, HigherOrderOperator)
        if acts or node in found:
            found.add(node)
            found.update(node.all_input_nodes)
    return found


def base_of(node: torch.fx.Node) -> torch.fx.Node | None:
    """The argument whose memory the result shares."""
    val = node.meta["val"]
    first = val[0] if isinstance(val, (list, tuple)) and val else val
    if not isinstance(first, torch.Tensor):
        return None
    for source in node.all_input_nodes:
        given = source.meta.get("val")
        if isinstance(given, torch.Tensor) and compat.memory_of(given) == compat.memory_of(first):
            return source
    return None


def is_complex(val: Any) -> bool:
    """Whether a call returns complex tensors."""
    return any(isinstance(v, torch.Tensor) and v.is_complex() for v in pytree.tree_leaves(val))


def is_size(val: Any) -> bool:
    """Whether a call returns a number, symbolic or not, instead of a tensor."""
    return isinstance(val, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def reads_tensor(node: torch.fx.Node) -> bool:
    """Whether a number comes from a tensor's elements, not from sizes."""
    return "item" in str(node.target) or "_local_scalar_dense" in str(node.target)


def sizes_in(arguments: Any) -> Any:
    """Replace PyTorch's symbolic numbers in arguments by sympy expressions."""
    if isinstance(arguments, (list, tuple)):
        return [sizes_in(a) for a in arguments]
    return size_of(arguments) if isinstance(arguments, (torch.SymInt, torch.SymFloat)) else arguments


def attribute(graph_module: torch.fx.GraphModule | None, node: torch.fx.Node) -> Any:
    """What a node refers to that is no result of a call: a constant, or the graph of a branch."""
    return operator.attrgetter(str(node.target))(graph_module)


def nothing(val: Any) -> Any:
    """None in place of each result of a call that could not be read."""
    return [None] * len(val) if isinstance(val, (list, tuple)) else None
