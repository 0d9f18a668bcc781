"""The weights of a described layer: made where its description gives none, compared with its input where it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.description import layers, signature
from dlbridge.description.inference import text
from dlbridge.description.schema import Node
from dlbridge.description.scope import Scope
from dlbridge.errors import DescriptionError, ShapeError, suggest
from dlbridge.ops import extension, initializers, traits
from dlbridge.ops.keys import op_key

#: Layers whose weights only need to be broadcastable.
_BROADCAST = frozenset(("PRelu", "LayerNormalization", "RMSNormalization"))

Place = Callable[..., AbstractContextManager[None]]
WeightMaker = Callable[[str, ir.DataType, tuple[int, ...], Mapping[str, Any], traits.Kind], ir.Value]


@dataclass
class Draft:
    """A node while it is made.

    Attributes:
        spec: What describes it.
        schema: The schema of its op; None for an op without one.
        path: Its dotted path.
        inputs: Its inputs by slot, to which weights are added.
        attributes: Its attributes.
    """

    spec: Node
    schema: signature.Schema | None
    path: str
    inputs: list[ir.Value | None]
    attributes: dict[str, ir.Attr]

    @property
    def op(self) -> str:
        return str(self.spec.op)


class LayerWeights:
    """The weights of the layers of one scope.

    Args:
        scope: The names that the layers see.
        make_weight: Makes an initializer: (name, dtype, shape, initializer, kind) -> value.
        at: Gives errors the place of a key of the node.
    """

    def __init__(self, scope: Scope, make_weight: WeightMaker, at: Place) -> None:
        self.scope = scope
        self.make_weight = make_weight
        self.at = at

    def check(self, node: ir.Node) -> None:
        """Compare the shapes of a layer's weights with those that its input requires, as far as both are known."""
        rule = layers.RULES.get(op_key(node))
        if rule is None or node.domain not in ("", extension.DOMAIN):
            return
        plain = {a.name: a.value for a in node.attributes.values()}
        try:
            wanted = list(rule(layers.Facts(op_key(node), list(node.inputs), plain)))
        except (ShapeError, DescriptionError):
            return  # not enough is known; inference looks at the whole graph later
        for weight in wanted:
            value = node.inputs[weight.slot] if weight.slot < len(node.inputs) else None
            if value is not None and value.shape is not None and value.shape.is_static():
                _check_shape(op_key(node), node.inputs[0], value, weight)

    def add(self, draft: Draft, sizes: Mapping[str, int]) -> None:
        """Fill the empty slots of a layer with weights, its own or those of the node that it shares them with."""
        spec, op, path, inputs = draft.spec, draft.op, draft.path, draft.inputs
        names = layers.NAMES.get(op, {})
        for name in spec.initializers:
            if name not in names:
                hint = suggest(name, names) or f"it has: {', '.join(names) or 'none'}"
                with self.at("initializers", name):
                    raise DescriptionError(f"{op} has no weight '{name}'", hint=hint)
        if op not in layers.RULES:
            if spec.weights is not None or spec.bias is not None:
                raise DescriptionError(f"{op} has no weights")
            return
        for name, slot in names.items():
            shared = self._shared(spec, path, name)
            if shared is not None and (slot >= len(inputs) or inputs[slot] is None):
                inputs.extend([None] * (slot + 1 - len(inputs)))
                inputs[slot] = shared
        wanted = spec.bias is not False and (spec.weights is None or spec.bias is True)
        plain = {a.name: a.value for a in draft.attributes.values()}
        for weight in layers.RULES[op](layers.Facts(op, inputs, plain, sizes, wanted)):
            inputs.extend([None] * (weight.slot + 1 - len(inputs)))
            present = inputs[weight.slot]
            if present is not None:
                if present.shape is not None and present.shape.is_static():
                    _check_shape(op, inputs[0], present, weight)
                continue
            inputs[weight.slot] = self.make_weight(
                f"{path}.{weight.name}",
                _weight_dtype(inputs),
                weight.shape,
                {**_stacking(weight), **initializers.check(spec.initializers.get(weight.name, weight.init))},
                "frozen" if spec.frozen and weight.kind == "parameter" else weight.kind,
            )
        _record_kernel(op, inputs, draft.attributes)

    def _shared(self, spec: Node, path: str, name: str) -> ir.Value | None:
        """The weight to use instead, if the node or the block around it shares weights."""
        if spec.weights is not None:
            found = self.scope.parts.find_initializer(self.scope.path(f"{spec.weights}.{name}"))
            if found is None and name == "weight":
                known = {n.removeprefix(self.scope.prefix).rpartition(".")[0] for n in self.scope.parts.initializers}
                raise DescriptionError(
                    f"shares the weights of '{spec.weights}', which has no '{name}'", hint=suggest(spec.weights, known)
                )
            return found
        if self.scope.shared is not None:
            relative = path.removeprefix(self.scope.prefix)
            return self.scope.parts.find_initializer(f"{self.scope.shared}{relative}.{name}")
        return None


def _check_shape(op: str, first: ir.Value | None, value: ir.Value, weight: layers.Weight) -> None:
    assert first is not None and value.shape is not None
    given = tuple(value.shape.numpy())
    wide = first.shape if first.shape is not None else weight.shape
    fits = _broadcasts(given, list(wide)) if op in _BROADCAST else given == weight.shape
    if not fits:
        raise ShapeError(
            f"{op} cannot take ({first.name}: {text(first)}, {value.name}: {text(value)}): "
            f"{weight.name} would have the shape {list(weight.shape)}"
        )


def _weight_dtype(inputs: list[ir.Value | None]) -> ir.DataType:
    """The dtype of the other weights, or of the input if that is a float."""
    for value in inputs:
        if value is not None and value.dtype is not None and value.dtype.is_floating_point():
            return value.dtype
    return ir.DataType.FLOAT


def _broadcasts(small: tuple[int, ...], wide: list[Any]) -> bool:
    """Whether a shape can be stretched to another one, as the standard's unidirectional broadcasting does."""
    pairs = zip(reversed(small), reversed(wide), strict=False)
    return len(small) <= len(wide) and all(a in (1, b) or not isinstance(b, int) for a, b in pairs)


def _stacking(weight: layers.Weight) -> dict[str, Any]:
    return {"stacked": weight.init["stacked"]} if "stacked" in weight.init else {}


def _record_kernel(op: str, inputs: list[ir.Value | None], attributes: dict[str, ir.Attr]) -> None:
    """Set the attribute for the kernel's shape, also if the shape comes from a shared weight."""
    weight = inputs[1] if len(inputs) > 1 else None
    if op in ("Conv", "ConvTranspose") and "kernel_shape" not in attributes and weight is not None:
        assert weight.shape is not None
        attributes["kernel_shape"] = ir.AttrInt64s(
            "kernel_shape", [s for s in list(weight.shape)[2:] if isinstance(s, int)]
        )
