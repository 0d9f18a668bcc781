"""PyTorch's dialect: how a model is said in classes of ``nn.Module``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from torch import nn

from dlbridge.frameworks.pytorch import helpers
from dlbridge.frameworks.pytorch.constants import constant
from dlbridge.frameworks.pytorch.rules import STATE, TORCH_DTYPES, placed, rules
from dlbridge.frameworks.pytorch.training.code import PRINTER
from dlbridge.frameworks.pytorch.writes.linear import TRANSPOSE
from dlbridge.ops import traits
from dlbridge.source.arithmetic import Elements
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.classes.weights import PARAMETERS
from dlbridge.source.classes.writer import ModuleWriter
from dlbridge.source.definitions import Definition
from dlbridge.source.names import is_plain
from dlbridge.source.training.code import training_part
from dlbridge.source.tree.code import Code, Literal, Raw, call, expression, node
from dlbridge.source.tree.expr import Attr, Name
from dlbridge.source.tree.statements import Assign, Def, Do, For, Return, Statement

#: More frozen modules than this are frozen in a loop over their paths.
MAX_FROZEN_LINES = 6
#: The function that makes a module in a memory format.
BUILD = "build_model"
_OWN = frozenset(dir(nn.Module()))
_GETTERS = {"module": "get_submodule", "parameter": "get_parameter", "frozen": "get_parameter"}


class PyTorchDialect(Dialect):
    """Classes of ``nn.Module``; ``memory_format`` is as in ``write``."""

    framework = "pytorch"
    rules = rules
    helpers = helpers
    imports = ("import torch", "import torch.nn.functional as F", "from torch import nn")
    always = frozenset({"torch", "nn"})
    reserved = frozenset({BUILD})
    base = "nn.Module"
    identity = gap = "nn.Identity()"
    empty = "nn.Module()"
    sequence = "nn.Sequential"
    children = "self.children()"
    state = STATE

    def __init__(self, memory_format: str | None = None) -> None:
        self.memory_format = memory_format

    # --- values ------------------------------------------------------------------------------------------------------

    def tensor_of_ints(self, elements: Elements, value: ir.Value) -> Code:
        items = elements.nested
        dtype = None if value.dtype == ir.DataType.INT64 and items != [] else Raw(TORCH_DTYPES[value.dtype])  # type: ignore[index]
        made = call("torch.tensor", items, dtype=dtype)
        return made if elements.rank == 0 else placed(made)  # a single number goes with tensors of any device

    # --- modules -----------------------------------------------------------------------------------------------------

    def spelled(self, part: str) -> str:
        return f"{part}_" if part in _OWN else part  # not as what every module has (``forward``, ``training``)

    def module_list(self, kinds: Sequence[str], has_attributes: bool) -> str:
        return "nn.ParameterList" if all(kind in PARAMETERS for kind in kinds) else "nn.ModuleList"

    def assign(self, owner: Code, name: str, new: Code, kind: str) -> Statement:
        if kind in ("buffer", "constant", "printed"):
            persistent = False if kind == "printed" else None
            return Do(call(Attr(owner, "register_buffer"), name, new, persistent=persistent))
        if is_plain(name):
            return Assign(Attr(owner, name), new)
        add = "register_parameter" if kind in PARAMETERS else "add_module"
        return Do(call(Attr(owner, add), name, new))

    def get(self, owner: Code, name: str, kind: str) -> Code:
        return call(Attr(owner, _GETTERS.get(kind, "get_buffer")), name)

    # --- weights that no layer holds ---------------------------------------------------------------------------------

    def stored(self, value: ir.Value) -> tuple[tuple, ...]:
        return TRANSPOSE[traits.is_transposed(value)]

    def free_weight(self, kind: str, shape: tuple[int, ...], dtype: ir.DataType) -> Code:
        given = None if dtype == ir.DataType.FLOAT else Raw(TORCH_DTYPES[dtype])
        empty = call("torch.empty", Literal(shape, "shape"), dtype=given)
        if kind not in PARAMETERS:
            return empty
        return call("nn.Parameter", empty, requires_grad=False if kind == "frozen" else None)

    def constant(self, array: np.ndarray, dtype: ir.DataType) -> Code | None:
        return constant(array, TORCH_DTYPES[dtype])

    # --- the file ----------------------------------------------------------------------------------------------------

    def endings(self, writer: ModuleWriter) -> list[Statement]:
        hook = call("constants_may_be_missing", *writer.constants)
        hooks = [Do(call("self.register_load_state_dict_post_hook", hook))] if writer.constants else []
        return [*writer.tie_statements(), *_frozen(writer), *hooks]

    def epilogue(self, writer: ModuleWriter, root: Definition) -> list[Statement]:
        parts: list[Statement] = []
        if self.memory_format is not None:
            made = expression(f"{root.name}().to(memory_format=torch.{self.memory_format})")
            parts.append(Def(BUILD, (), (Return(made),)))
        return [*parts, *training_part(writer.model, PRINTER)]

    def entry(self, writer: ModuleWriter, root: Definition) -> str:
        return BUILD if self.memory_format else root.name


def _frozen(writer: ModuleWriter) -> list[Statement]:
    """What keeps from training: ``self.backbone.requires_grad_(False)``."""
    frozen = writer.frozen()
    lines: list[Statement] = []
    modules = [path for path, is_module in frozen if is_module]
    if len(modules) > MAX_FROZEN_LINES:
        freeze = Do(expression("self.get_submodule(path).requires_grad_(False)"))
        lines.append(For("path", node(tuple(modules)), (freeze,)))
        frozen = [(path, is_module) for path, is_module in frozen if not is_module]
    for path, is_module in frozen:
        reached = writer.reach(path, kind="module" if is_module else "parameter") if path else Name("self")
        lines.append(Do(call(Attr(reached, "requires_grad_"), False)))
    return lines
