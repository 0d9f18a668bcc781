"""The arguments of an exported program's graph: its inputs, weights and constants, as values."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from dlbridge.frameworks.pytorch.fx.tensors import DTYPES, size_of, sizes_of, with_sizes
from dlbridge.frameworks.pytorch.graph import pytree_names
from dlbridge.frameworks.pytorch.graph.computed import Computed
from dlbridge.frameworks.pytorch.graph.symbols import Symbols
from dlbridge.frameworks.pytorch.original import Leaf
from dlbridge.ops import traits
from dlbridge.ops.names import unique


class Arguments:
    """A value for each placeholder of a program, whose sizes and constants are noted.

    Attributes:
        values: In the order of the placeholders: a value, a number, or None.
        inputs: Those that are inputs of the model.
        leaves: What stands for each input of the program.
        weights: The initializers of parameters, buffers and constants.
    """

    def __init__(self, program: ExportedProgram, symbols: Symbols, computed: Computed) -> None:
        self._program, self._symbols, self._computed = program, symbols, computed
        self.inputs: list[ir.Value] = []
        self.leaves: list[Leaf] = []
        self.weights: list[ir.Value] = []
        self.values = self._all()

    def _all(self) -> list[Any]:
        placeholders = [n for n in self._program.graph.nodes if n.op == "placeholder"]
        specs = self._program.graph_signature.input_specs
        users = [s for s in specs if s.kind.name == "USER_INPUT"]
        taken = {str(s.target) for s in specs if s.kind.name != "USER_INPUT"}  # a weight keeps its name
        named_inputs = [unique(n, taken) for n in pytree_names.input_names(self._program, len(users))]
        names = dict(zip((id(s) for s in users), named_inputs, strict=True))
        weights: dict[int, ir.Value] = {}
        arguments: list[Any] = []
        for node, spec in zip(placeholders, specs, strict=True):
            if spec.kind.name != "USER_INPUT":
                arguments.append(self._weight(spec, weights))
                continue
            value = node.meta.get("val")
            read = self._input if isinstance(value, torch.Tensor) else self._number
            arguments.append(read(names[id(spec)], value))
            named = isinstance(arguments[-1], ir.Value)
            self.leaves.append(Leaf(arguments[-1].name if named else None, value))
        for spec in self._unread({str(s.target) for s in specs}):
            self._weight(spec, weights)
        return arguments

    def _unread(self, read: set[str]) -> list[InputSpec]:
        """The weights of the state dict that the program does not have: a strict export leaves out what is not used."""
        found = []
        for name, tensor in self._program.state_dict.items():
            if name not in read and isinstance(tensor, torch.Tensor):
                kind = InputKind.PARAMETER if isinstance(tensor, torch.nn.Parameter) else InputKind.BUFFER
                found.append(InputSpec(kind, TensorArgument(name), name, persistent=True))
        return found

    def _input(self, name: str, val: torch.Tensor) -> ir.Value:
        sizes = sizes_of(val)
        dims = [self._symbols.dim(s) for s in sizes]
        value = ir.Value(name=name, type=ir.TensorType(DTYPES[val.dtype]), shape=ir.Shape(dims))
        if val.dtype.is_complex:
            value.shape = ir.Shape([*dims, 2])
            value.meta["complex"] = True
        self.inputs.append(with_sizes(value, sizes))
        self._symbols.note_sizes(value, sizes)
        return value

    def _number(self, name: str, val: Any) -> Any:
        """A number among the inputs: a tensor of rank 0 if it is symbolic, else the number itself."""
        size = size_of(val) if isinstance(val, torch.SymInt) else val
        if not isinstance(val, torch.SymInt) or isinstance(size, int):
            return val
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
        self.inputs.append(with_sizes(value, []))
        self._symbols.bind(size, value)
        return value

    def _weight(self, spec: Any, known: dict[int, ir.Value]) -> ir.Value | None:
        """The initializer of a parameter, buffer or constant; names of the same parameter share one.

        A buffer that several modules hold does not train: each has its own, as it has in the state dict.
        """
        target, program = spec.target, self._program
        tensor = program.state_dict.get(target)
        if tensor is None:
            tensor = program.constants.get(target)
        if not isinstance(tensor, torch.Tensor):
            return None
        if id(tensor) in known and spec.kind.name != "BUFFER":
            traits.add_alias(known[id(tensor)], target)
            return known[id(tensor)]
        kind: traits.Kind = "constant"
        if spec.kind.name == "PARAMETER":
            kind = "parameter" if tensor.requires_grad else "frozen"
        elif spec.kind.name == "BUFFER" and spec.persistent is not False:
            kind = "buffer"
        sizes = [int(s) for s in tensor.shape]
        held = tensor.detach()
        if held.is_complex():
            held = torch.view_as_real(held)
        value = ir.Value(
            name=target,
            type=ir.TensorType(DTYPES[tensor.dtype]),
            shape=ir.Shape(held.shape),
            const_value=TorchTensor(held, name=target),
        )
        value.meta["complex"] = tensor.is_complex()
        value.meta["lifted"] = spec.kind.name == "CONSTANT_TENSOR"  # no attribute of a module, but made by code
        traits.set_kind(value, kind)
        if kind == "constant":
            self._computed.note(value, tensor)
        self.weights.append(value)
        known[id(tensor)] = value
        return with_sizes(value, sizes)
