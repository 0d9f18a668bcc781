"""The weights of a model that is written as modules: where each lives, how code reaches it, what trains and is tied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.names import prefixes
from dlbridge.source.blocks import Block
from dlbridge.source.classes.dialect import Dialect
from dlbridge.source.classes.members import LISTED
from dlbridge.source.names import is_index, is_plain
from dlbridge.source.op import Emit, Layer
from dlbridge.source.paths import Paths
from dlbridge.source.tree.code import Code, call
from dlbridge.source.tree.expr import Attr, Const, Index, Items, Name
from dlbridge.source.tree.statements import Assign, Statement
from dlbridge.source.weights import View, Weight

#: Kinds of the weights that are parameters in a framework.
PARAMETERS = ("parameter", "frozen")


class ModuleWeights:
    """What ``ModuleWriter`` knows of weights."""

    model: Model
    graph: ir.Graph
    dialect: Dialect
    paths: Paths
    emits: Mapping[ir.Node, Emit]
    root: Block
    blocks: Mapping[str, Block]
    sequences: dict[Block, list[Code]]
    weight_paths: dict[ir.Value, str]
    weights: dict[str, Weight]
    constants: list[str]
    trains: dict[str, bool]
    joined: list[tuple[str, str]]
    second_lists: dict[str, list[str]]

    # --- what they are ---------------------------------------------------------------------------------------------

    def remember(self, path: str, layer: Layer) -> None:
        """Keep the weights of the layer at a path."""
        for (slot, weight), kinds in zip(layer.weights.items(), layer.kinds(self.graph).values(), strict=True):
            key = f"{path}.{slot}" if path else slot
            self.weights[key] = weight
            if slot not in self.dialect.state:
                self.trains[key] = slot not in layer.frozen and kinds != {"frozen"}

    def free_weight(self, value: ir.Value) -> tuple[str, Code]:
        """(kind, the code that makes it) of a weight that no layer holds. One that the source tells is "printed"."""
        tensor, kind, home = value.const_value, traits.kind(value), self.weight_paths[value]
        assert tensor is not None
        made = self.dialect.constant(tensor.numpy(), tensor.dtype) if kind == "constant" else None
        if made is not None:
            return "printed", made
        steps = self.dialect.stored(value)
        hollow = np.broadcast_to(np.zeros((), np.int8), tuple(tensor.shape.numpy()))
        self.weights[home] = Weight.of(value.name or "", *steps)
        if kind == "constant":
            self.constants.append(home)
        return kind, self.dialect.free_weight(kind, View("", steps).read(hollow).shape, tensor.dtype)

    def _unread(self) -> dict[ir.Value, str]:
        """The weights that no code reads and no layer holds, with their paths: the state has them all the same."""
        layers = [layer for emit in self.emits.values() for layer in (emit.layer, emit.module) if layer is not None]
        held = {view.initializer for layer in layers for w in layer.weights.values() for view in w.views}
        read = {value.name for emit in self.emits.values() for value in emit.code.values()}
        return {
            value: self.paths(name)
            for name, value in self.graph.initializers.items()
            if traits.kind(value) != "constant" and name not in held | read and not value.is_graph_output()
        }

    def frozen(self) -> list[tuple[str, bool]]:
        """(path, whether it is a module) of what does not train: modules of which nothing trains, and single weights.

        Weights that no layer holds say so where they are made.
        """
        free = {
            self.weight_paths[v]: traits.kind(v) == "parameter"
            for v in self.weight_paths
            if traits.kind(v) in PARAMETERS
        }
        trained = {path for key, trains in (self.trains | free).items() if trains for path in ("", *prefixes(key))}
        found = [
            next(path for path in ("", *prefixes(key)) if path not in trained)
            for key in self.trains
            if key not in trained
        ]
        return [(path, path not in self.trains) for path in dict.fromkeys(found)]

    # --- where they are --------------------------------------------------------------------------------------------

    def weight_code(self, block: Block, value: ir.Value) -> Code:
        """How the code of a block reads a weight that no layer holds."""
        return self.reach(self.weight_paths[value], block, traits.kind(value))

    def reach(self, path: str, block: Block | None = None, kind: str = "module") -> Code:
        """How the code of a block (the model's, when None) names the weight of that kind, or the module, at a path:
        ``layers.0.attn`` -> ``self.layers[0].attn``.

        What is called by a number is an item of a list, but where the module around it is a class of its own.
        """
        around = block or self.root
        parts = around.relative(path).split(".")
        made: Code = Name("self")
        owner = around.path
        for index, part in enumerate(parts):
            of = kind if index == len(parts) - 1 else "module"
            if is_plain(part):
                made = Attr(made, part)
            elif is_index(part) and index == 0 and around in self.sequences:
                made = self.dialect.item_of_sequence(made, part)
            elif is_index(part) and index > 0 and of in LISTED and not self._is_class(owner):
                is_sequence = self.blocks.get(owner) in self.sequences
                made = self.dialect.item_of_sequence(made, part) if is_sequence else Index(made, Const(int(part)))
            else:
                made = self.dialect.get(made, part, of)
            owner = f"{owner}.{part}" if owner else part
        return made

    def _is_class(self, path: str) -> bool:
        """Whether a class is written for the module at a path: it is a block, and no chain."""
        block = self.blocks.get(path)
        return block is not None and block not in self.sequences

    # --- what is one and the same ----------------------------------------------------------------------------------

    def aliases(self) -> list[tuple[str, str]]:
        """(path in the original, path here) of modules, or weights, that the original's state dict has under both.

        They are added to the weights. Only a module that the code has, and that is no chain, can hold one more.
        """
        pairs = self._second_names()
        found: dict[str, str] = {}
        for name, key in pairs.items():
            if self._is_class(_owner(name)):
                found[name] = key
                self.weights[name] = self.weights[key]
        lists: dict[str, dict[int, str]] = {}
        for name, key in pairs.items():
            module = next(self._shared_modules(name, key, pairs), None) if name not in found else None
            if module is None:
                continue
            path, first = module
            if self._is_class(_owner(path)):
                found[path] = first
            else:
                lists.setdefault(_owner(path), {})[int(path.rpartition(".")[2])] = first
        self.second_lists = {path: [of[i] for i in range(len(of))] for path, of in lists.items() if max(of) < len(of)}
        for path, firsts in self.second_lists.items():
            found |= {f"{path}.{index}": first for index, first in enumerate(firsts)}
        held = list(self.weights)
        for path, first in found.items():
            for key in (key for key in held if key.startswith(f"{first}.")):
                self.weights[f"{path}{key.removeprefix(first)}"] = self.weights[key]
        return [(path, first) for path, first in found.items() if _owner(path) not in self.second_lists]

    def _second_names(self) -> dict[str, str]:
        """The names of weights in the original that no layer here has -> those that one has."""
        keys = {weight.plain: key for key, weight in reversed(self.weights.items()) if weight.plain}
        return {
            name: keys[value.name]
            for value in self.graph.initializers.values()
            if traits.aliases(value) and value.name in keys
            for name in (self.paths(name) for name in (value.name, *traits.aliases(value)))
            if name not in self.weights and name.rpartition(".")[2] == keys[value.name].rpartition(".")[2]
        }

    def _shared_modules(self, name: str, key: str, pairs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """(path in the original, path here) of modules that hold a weight under both, and all others too; the outermost
        first. An item of a list is one of these where the code has no such list."""
        paths = []
        path, first = _owner(name), _owner(key)
        while path and first:
            paths.append((path, first))
            if path.rpartition(".")[2] != first.rpartition(".")[2]:
                break
            path, first = _owner(path), _owner(first)
        for path, first in reversed(paths):
            owner, _, last = path.rpartition(".")
            is_item = is_index(last) and not self._is_held(owner) and self._is_class(_owner(owner))
            inner = [k.removeprefix(first) for k, w in self.weights.items() if k.startswith(f"{first}.") and w.plain]
            is_whole = all(pairs.get(path + end) == first + end for end in inner)
            if not self._is_held(path) and (self._is_class(owner) or is_item) and is_whole:
                yield path, first

    def _is_held(self, path: str) -> bool:
        """Whether the code has a module at a path."""
        return path in self.blocks or any(key.startswith(f"{path}.") for key in self.weights)

    def ties(self) -> list[tuple[str, str]]:
        """(key, key) of weights of different layers that are the same initializer."""
        first: dict[str, str] = {}
        pairs = []
        for key, weight in self.weights.items():
            views = repr(weight.views)
            if weight.views and first.setdefault(views, key) != key:
                pairs.append((key, first[views]))
        return pairs

    def tie_statements(self) -> list[Statement]:
        """What makes the second of two paths the first one."""
        lists = [
            Assign(
                self.reach(path),
                call(
                    self.dialect.module_list(["module"], False),
                    Items("[", tuple(self.reach(first) for first in firsts)),
                ),
            )
            for path, firsts in self.second_lists.items()
        ]
        return [*(self._same(path, first) for path, first in self.joined), *lists]

    def _same(self, path: str, first: str) -> Statement:
        """What makes a module or weight at a path the one at another."""
        kind = next((traits.kind(v) for v, home in self.weight_paths.items() if home == first), "module")
        if kind == "module" or kind in PARAMETERS:  # frameworks know these by their types
            return Assign(self.reach(path), self.reach(first))
        around, _, name = path.rpartition(".")
        owner = self.reach(around) if around else Name("self")
        return self.dialect.assign(owner, name, self.reach(first), kind)


def _owner(key: str) -> str:
    return key.rpartition(".")[0]
