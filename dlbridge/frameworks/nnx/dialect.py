"""NNX's dialect: how a model is said in classes of ``nnx.Module``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from flax import nnx

from dlbridge.frameworks.nnx import helpers
from dlbridge.frameworks.nnx.rules import RNGS, STATE, dtype_name, rules
from dlbridge.frameworks.nnx.training.code import PRINTER
from dlbridge.frameworks.nnx.variables import as_arrays
from dlbridge.source.arithmetic import Elements
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.classes.writer import ModuleWriter
from dlbridge.source.definitions import Definition
from dlbridge.source.names import is_plain
from dlbridge.source.training.code import training_part
from dlbridge.source.tree.code import Code, Literal, call, method
from dlbridge.source.tree.expr import Attr, Name
from dlbridge.source.tree.literals import is_counted, is_repeated
from dlbridge.source.tree.statements import Do, Statement

#: Constants with more elements than this come from the weights file, not from the source.
MAX_PRINTED = 64
_OWN = frozenset(dir(nnx.Module))


class NNXDialect(Dialect):
    """Classes of ``nnx.Module``."""

    framework = "nnx"
    rules = rules
    helpers = helpers
    imports = ("import jax", "import jax.numpy as jnp", "import numpy as np", "import optax", "from flax import nnx")
    always = frozenset({"nnx"})
    base = "nnx.Module"
    init = None
    parameters = ("*", "rngs")
    passed_on = {"rngs": RNGS}  # noqa: RUF012
    call = "__call__"
    empty = "nnx.Module()"
    gap = "None"
    sequence = "nnx.Sequential"
    state = STATE

    # --- values ------------------------------------------------------------------------------------------------------

    def tensor_of_ints(self, elements: Elements, value: ir.Value) -> Code:
        return call("jnp.array", elements.nested, dtype=dtype_name(value.dtype))  # type: ignore[arg-type]

    def read_weights(self, code: Code) -> Code:
        return as_arrays(code)

    # --- modules -----------------------------------------------------------------------------------------------------

    def spelled(self, part: str) -> str:
        return f"{part}_" if part in _OWN or part == "rngs" else part  # not as what every module has

    def module_list(self, kinds: Sequence[str], has_attributes: bool) -> str:
        return "NumberedModules" if has_attributes else "nnx.List"

    def item_of_sequence(self, sequence: Code, index: str) -> Code:
        return super().item_of_sequence(Attr(sequence, "layers"), index)

    def assign(self, owner: Code, name: str, new: Code, kind: str) -> Statement:
        return super().assign(owner, name, new, kind) if is_plain(name) else Do(call("setattr", owner, name, new))

    def get(self, owner: Code, name: str, kind: str) -> Code:
        return call("getattr", owner, name)

    # --- weights that no layer holds ---------------------------------------------------------------------------------

    def free_weight(self, kind: str, shape: tuple[int, ...], dtype: ir.DataType) -> Code:
        given = None if dtype == ir.DataType.FLOAT else dtype_name(dtype)
        variable = {"parameter": "nnx.Param", "frozen": "Frozen"}.get(kind, "nnx.Variable")
        return call(variable, call("jnp.zeros", Literal(shape, "shape"), dtype=given))

    def constant(self, array: np.ndarray, dtype: ir.DataType) -> Code | None:
        said = dtype_name(dtype)
        if is_repeated(array):
            made = call("jnp.full", array.shape, Literal(array.flat[0], "value"), dtype=said)
        elif is_counted(array):
            made = call("jnp.arange", array.size, dtype=said)
            made = made if array.ndim == 1 else method("reshape", made, *array.shape)
        elif 0 < array.size <= MAX_PRINTED:
            made = call("jnp.array", Literal(array, "values"), dtype=said)
        else:
            return None
        return call("nnx.Variable", made)

    # --- the file ----------------------------------------------------------------------------------------------------

    def endings(self, writer: ModuleWriter) -> list[Statement]:
        lines = writer.tie_statements()
        for path, is_module in writer.frozen():
            owner, _, name = path.rpartition(".")
            held = path if is_module else owner
            reached = writer.reach(held) if held else Name("self")
            lines.append(Do(call("freeze", reached, *([] if is_module else [name]))))
        return lines

    def epilogue(self, writer: ModuleWriter, root: Definition) -> list[Statement]:
        return training_part(writer.model, PRINTER)
