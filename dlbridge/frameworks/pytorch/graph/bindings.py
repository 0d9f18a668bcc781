"""The values that stand for the nodes of an fx graph, where some are views of others and are written to in place."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.pytorch.fx.schema import mutates
from dlbridge.frameworks.pytorch.fx.tensors import size_of, sized_like
from dlbridge.frameworks.pytorch.graph.reading import Op
from dlbridge.frameworks.pytorch.graph.views import scatter

if TYPE_CHECKING:
    from dlbridge.frameworks.pytorch.graph.program import Program


class Binding:
    """The value of an fx node. A view refers to its base, so that a write to either is seen by the other."""

    __slots__ = ("base", "node", "seen", "value", "version")

    def __init__(self, value: Any, base: Binding | None = None, node: torch.fx.Node | None = None) -> None:
        self.value, self.base, self.node = value, base, node
        self.version = 0
        self.seen = base.version if base is not None else 0


class Bindings(dict[torch.fx.Node, Binding]):
    """The bindings of one graph.

    Args:
        program: Applies the rule of a node again, where a view's base was written to.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    def read(self, item: Any) -> Any:
        """The present value of a node; what is no node as it is."""
        if not isinstance(item, torch.fx.Node):
            return item
        if item not in self:
            return size_of(item.meta["val"])
        return self._present(self[item])

    def tensors(self, node: torch.fx.Node) -> list[Any]:
        """The values of the tensors that a node reads; None for one that could not be read."""
        return [self.read(n) for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]

    def write(self, binding: Binding, value: Any) -> None:
        """Set a binding to a new value, and replace that part in the tensor that it is a view of."""
        self._present(binding)
        binding.value = value
        binding.version += 1
        base, node = binding.base, binding.node
        if base is None or node is None:
            return
        old = self._present(base)
        viewed = node.args[0] if node.target is operator.getitem else node
        op = Op(self._program, viewed.meta["val"], [], self._program.site)  # type: ignore[union-attr]
        try:
            whole = value if mutates(node) else scatter(op, node, old, value)
        except UnsupportedOpError as error:
            self._program.refused.append(error)
            whole = old
        self.write(base, sized_like(whole, old))
        binding.seen = base.version

    def _present(self, binding: Binding) -> Any:
        """The present value of a binding. A view is computed again if its base was written to since."""
        base = binding.base
        if base is None:
            return binding.value
        now = self._present(base)
        if binding.seen != base.version:
            node = binding.node
            assert node is not None
            if node.target is operator.getitem:
                binding.value = self.read(node.args[0])[node.args[1]]  # type: ignore[index]
            else:
                binding.value = now if mutates(node) else self._program.apply(node, self)
            binding.version += 1
            binding.seen = base.version
        return binding.value
