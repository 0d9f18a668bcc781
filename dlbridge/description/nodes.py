"""One node of a description -> one node of the graph, with its constants and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dlbridge.description import checks, initial, layers, signature, values
from dlbridge.description.inference import infer_node, text
from dlbridge.description.schema import Node, keys_of_a_node
from dlbridge.description.scope import Scope, conventional_name
from dlbridge.errors import DescriptionError, ShapeError, suggest
from dlbridge.ops import extension, initializers, traits
from dlbridge.ops.keys import op_key

#: Attributes that take one number for every spatial axis: ``strides: 2`` is ``strides: [2, 2]``.
_SPATIAL = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 1, "pads": 2}
#: Layers whose weights only need to be broadcastable.
_BROADCAST = frozenset(("PRelu", "LayerNormalization", "RMSNormalization"))

GraphMaker = Callable[[str, Any, tuple[Any, ...]], ir.Graph]
Place = Callable[..., AbstractContextManager[None]]
WeightMaker = Callable[[str, ir.DataType, tuple[int, ...], Mapping[str, Any], traits.Kind], ir.Value]


@dataclass
class _Draft:
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


class NodeMaker:
    """Creates the nodes of one scope.

    Args:
        scope: The names that the nodes see.
        make_graph: Makes a graph-valued attribute: (attribute, data, path below the attribute) -> graph.
        make_weight: Makes an initializer: (name, dtype, shape, initializer, kind) -> value.
        at: Gives errors the place of a key of the node.
    """

    def __init__(self, scope: Scope, make_graph: GraphMaker, make_weight: WeightMaker, at: Place) -> None:
        self.scope = scope
        self.make_graph = make_graph
        self.make_weight = make_weight
        self.at = at

    def make(self, spec: Node) -> ir.Node:
        """Add the node that ``spec`` describes, in sugar or in canonical form.

        Raises:
            DescriptionError, ShapeError: When something in it has no meaning; without a place.
        """
        return self._canonical(spec) if spec.inputs is not None else self._sugar(spec)

    # --- canonical form -----------------------------------------------------------------------------------------------

    def _canonical(self, spec: Node) -> ir.Node:
        if spec.settings:
            raise DescriptionError(
                f"unknown key '{next(iter(spec.settings))}'",
                hint="a node with 'inputs' is in canonical form: its attributes stand under 'attributes'",
            )
        domain, schema = self._op(spec)
        inputs = [self.scope.resolve(name, spec.name) if name else None for name in spec.inputs or ()]
        attributes = self._attributes(spec, schema, spec.attributes, inputs)
        outputs = [ir.Value(name=self.scope.path(n) if n else "") for n in spec.outputs or ()]
        node = ir.Node(
            domain,
            str(spec.op),
            inputs,
            attributes,
            overload=spec.overload,
            outputs=outputs,
            name=self.scope.path(spec.name) if spec.name else None,
            doc_string=spec.doc,
            metadata_props=dict(spec.metadata),
        )
        self._check_weights(node)
        self.scope.parts.add_node(node)
        for name, value in zip(spec.outputs or (), outputs, strict=True):
            if name:
                self.scope.parts.add_value(value)
                self.scope.define(name, {"0": value})
        return node

    def _check_weights(self, node: ir.Node) -> None:
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
                self._check_shape(op_key(node), node.inputs[0], value, weight)

    def _check_shape(self, op: str, first: ir.Value | None, value: ir.Value, weight: layers.Weight) -> None:
        assert first is not None and value.shape is not None
        given = tuple(value.shape.numpy())
        wide = first.shape if first.shape is not None else weight.shape
        fits = _broadcasts(given, list(wide)) if op in _BROADCAST else given == weight.shape
        if not fits:
            raise ShapeError(
                f"{op} cannot take ({first.name}: {text(first)}, {value.name}: {text(value)}): "
                f"{weight.name} would have the shape {list(weight.shape)}"
            )

    # --- sugar --------------------------------------------------------------------------------------------------------

    def _sugar(self, spec: Node) -> ir.Node:
        domain, schema = self._op(spec)
        local = spec.name or self.scope.fresh_name(conventional_name(str(spec.op)))
        path = self.scope.path(local)
        sizes, given, plain = self._sort_settings(spec, schema)
        inputs = self._wire(spec, schema, given, local, path)
        attributes = self._attributes(spec, schema, plain, inputs)
        draft = _Draft(spec, schema, path, inputs, attributes)
        self._add_weights(draft, sizes)
        self._check_complete(draft)
        while inputs and inputs[-1] is None:
            inputs.pop()
        outputs = self._outputs(draft)
        node = ir.Node(
            domain,
            str(spec.op),
            inputs,
            attributes,
            overload=extension.overload(str(spec.op), len(inputs)) if domain == extension.DOMAIN else "",
            outputs=list(outputs.values()),
            name=path,
            doc_string=spec.doc,
            metadata_props=self._metadata(spec),
        )
        infer_node(node)
        self.scope.parts.add_node(node)
        for value in outputs.values():
            self.scope.parts.add_value(value)
        by_index = {str(i): v for i, v in enumerate(outputs.values())}
        self.scope.define(local, {**outputs, **by_index})
        for name, value in zip(spec.outputs or (), outputs.values(), strict=False):
            if name and name != local:
                self.scope.define(name, {"0": value})
        return node

    def _op(self, spec: Node) -> tuple[str, signature.Schema | None]:
        with self.at("op"):
            return signature.find(str(spec.op), spec.domain)

    def _metadata(self, spec: Node) -> dict[str, str]:
        metadata = dict(spec.metadata)
        if spec.name is None:
            metadata[traits.ANONYMOUS] = "true"
        if spec.op == "BatchNormalization":
            metadata.setdefault(traits.RUNNING_VARIANCE, "biased")
        return metadata

    def _sort_settings(
        self, spec: Node, schema: signature.Schema | None
    ) -> tuple[dict[str, int], dict[int, Any], dict[str, Any]]:
        """The settings of a node: sizes of weights, inputs by slot, attributes."""
        op = str(spec.op)
        sizes: dict[str, int] = {}
        given: dict[int, Any] = {}
        plain = dict(spec.attributes)
        for key, value in spec.settings.items():
            slot = signature.slot(schema, op, key)
            with self.at(key):
                if key in layers.SIZES.get(op, ()):
                    sizes[key] = _size(key, value)
                elif schema is None or key in schema.attributes:
                    plain[key] = value
                elif slot is not None:
                    given[slot] = value
                else:
                    raise signature.unknown_key(op, schema, key, keys_of_a_node())
        if isinstance(spec.bias, str):
            slot = layers.NAMES.get(op, {}).get("bias")
            if slot is None:
                raise signature.unknown_key(op, schema, "bias", keys_of_a_node())
            given[slot] = spec.bias
        return sizes, given, plain

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _wire(
        self, spec: Node, schema: signature.Schema | None, given: dict[int, Any], local: str, path: str
    ) -> list[ir.Value | None]:
        """The inputs by slot: those given by name, then ``from`` in order; or the node above for the first one."""
        weight_slots = layers.NAMES.get(str(spec.op), {}).values()
        if spec.from_ is not None:
            listed = spec.from_ if isinstance(spec.from_, list) else [spec.from_]
            free = (i for i in range(len(listed) + len(given)) if i not in given)
            given = {**given, **dict(zip(free, listed, strict=False))}
        elif schema is not None and schema.inputs:
            slot = next((i for i in range(len(schema.inputs)) if i not in given and i not in weight_slots), None)
            if slot is not None and (slot == 0 or not signature.is_optional(schema.inputs[slot])):
                given[slot] = self._implied(spec)
        self._check_count(str(spec.op), schema, given)
        inputs: list[ir.Value | None] = [None] * (max(given, default=-1) + 1)
        for slot, value in given.items():
            inputs[slot] = self.scope.resolve(value, local) if isinstance(value, str) else None
            if isinstance(value, ir.Value):
                inputs[slot] = value
        for slot, value in given.items():
            if value is not None and not isinstance(value, str | ir.Value):
                inputs[slot] = self._constant(schema, slot, value, path, inputs)
        return inputs

    def _implied(self, spec: Node) -> ir.Value:
        if self.scope.previous is None:
            raise DescriptionError(
                f"this {spec.op} has no 'from', and what it reads does not follow",
                hint=f"say which input it reads, for example: from: {next(iter(self.scope.all_names()), 'x')}",
            )
        return self.scope.previous

    def _check_count(self, op: str, schema: signature.Schema | None, given: dict[int, Any]) -> None:
        if schema is None or any(signature.is_variadic(p) for p in schema.inputs):
            return
        if given and max(given) >= len(schema.inputs):
            names = ", ".join(p.name for p in schema.inputs)
            raise DescriptionError(f"{op} takes {len(schema.inputs)} inputs ({names}), {max(given) + 1} given")

    def _constant(
        self, schema: signature.Schema | None, slot: int, value: Any, path: str, inputs: list[ir.Value | None]
    ) -> ir.Value:
        """Numbers given for an input, as an initializer of the dtype that the op asks for."""
        name = str(slot)
        of = values.natural_dtype(value)
        if schema is not None:
            parameter = schema.inputs[min(slot, len(schema.inputs) - 1)]
            if not signature.is_variadic(parameter):
                name = parameter.name
            of = signature.constant_dtype(schema, parameter, of, inputs)
            if name in signature.VECTORS and not isinstance(value, list):
                value = [value]
        constant = initial.constant(f"{path}.{name}", values.tensor_from(value, of))
        return self.scope.parts.add_initializer(constant)

    def _check_complete(self, draft: _Draft) -> None:
        op, schema, inputs = draft.op, draft.schema, draft.inputs
        if schema is None:
            return
        for slot, parameter in enumerate(schema.inputs):
            wanted = not signature.is_optional(parameter) and not (
                signature.is_variadic(parameter) and slot < len(inputs)
            )
            if signature.is_variadic(parameter) and parameter.min_arity == 0:
                wanted = False
            if wanted and (slot >= len(inputs) or inputs[slot] is None):
                raise DescriptionError(
                    f"{op} needs the input '{parameter.name}'",
                    hint=f"say 'from: [...]' with what it reads, or give it by name: {parameter.name}: ...",
                )
        for name, attribute in schema.attributes.items():
            if attribute.required and name not in draft.attributes:
                raise DescriptionError(f"{op} needs the attribute '{name}'")

    # --- attributes, weights, outputs ---------------------------------------------------------------------------------

    def _attributes(
        self, spec: Node, schema: signature.Schema | None, plain: Mapping[str, Any], inputs: list[ir.Value | None]
    ) -> dict[str, ir.Attr]:
        attributes = {}
        first = inputs[0] if inputs else None
        for name, value in plain.items():
            with self.at(*(("attributes",) if name in spec.attributes else ()), name):
                if schema is not None and name not in schema.attributes:
                    raise signature.unknown_key(str(spec.op), schema, name, keys_of_a_node())
                checks.check_word(str(spec.op), name, value)
                if name in _SPATIAL and isinstance(value, int) and first is not None and first.shape is not None:
                    value = [value] * (_SPATIAL[name] * max(len(first.shape) - 2, 1))
                attributes[name] = values.attribute_from(
                    name,
                    value,
                    signature.attribute_type(schema, name),
                    lambda data, below, name=name: self.make_graph(name, data, below),  # type: ignore[misc]
                )
        return attributes

    def _add_weights(self, draft: _Draft, sizes: Mapping[str, int]) -> None:
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
                    self._check_shape(op, inputs[0], present, weight)
                continue
            inputs[weight.slot] = self.make_weight(
                f"{path}.{weight.name}",
                self._weight_dtype(inputs),
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

    @staticmethod
    def _weight_dtype(inputs: list[ir.Value | None]) -> ir.DataType:
        """The dtype of the other weights, or of the input if that is a float."""
        for value in inputs:
            if value is not None and value.dtype is not None and value.dtype.is_floating_point():
                return value.dtype
        return ir.DataType.FLOAT

    def _outputs(self, draft: _Draft) -> dict[str, ir.Value]:
        """Output name -> value. The first is called as the node, others ``node.Y_h`` (or as ``outputs`` says)."""
        spec, op, path = draft.spec, draft.op, draft.path
        keys = signature.output_keys(op, draft.schema, draft.inputs, draft.attributes)
        if spec.outputs is not None:
            if keys is not None and len(spec.outputs) > len(keys):
                raise DescriptionError(f"{op} has {len(keys)} outputs, {len(spec.outputs)} named")
            named = [self.scope.path(n) if n else "" for n in spec.outputs]
            return {
                k: ir.Value(name=n) for k, n in zip(keys or [str(i) for i in range(len(named))], named, strict=False)
            }
        if keys is None or len(keys) == 1:
            return {(keys or ["0"])[0]: ir.Value(name=path)}
        first = path if not keys[0].isdigit() else f"{path}.{keys[0]}"
        return {key: ir.Value(name=first if i == 0 else f"{path}.{key}") for i, key in enumerate(keys)}


def _size(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DescriptionError(f"'{key}' is a positive number, not {value!r}")
    return value


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
