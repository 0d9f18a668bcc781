"""One node of a description -> one node of the graph, with its constants and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from dlbridge.description import checks, initial, layers, signature, values
from dlbridge.description.inference import infer_node
from dlbridge.description.layer_weights import Draft, LayerWeights, Place, WeightMaker
from dlbridge.description.schema import Node, keys_of_a_node
from dlbridge.description.scope import Scope, conventional_name
from dlbridge.errors import DescriptionError
from dlbridge.ops import extension, traits

#: Attributes that take one number for every spatial axis: ``strides: 2`` is ``strides: [2, 2]``.
_SPATIAL = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 1, "pads": 2}

GraphMaker = Callable[[str, Any, tuple[Any, ...]], ir.Graph]


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
        self.at = at
        self.weights = LayerWeights(scope, make_weight, at)

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
        self.weights.check(node)
        self.scope.parts.add_node(node)
        for name, value in zip(spec.outputs or (), outputs, strict=True):
            if name:
                self.scope.parts.add_value(value)
                self.scope.define(name, {"0": value})
        return node

    # --- sugar --------------------------------------------------------------------------------------------------------

    def _sugar(self, spec: Node) -> ir.Node:
        domain, schema = self._op(spec)
        local = spec.name or self.scope.fresh_name(conventional_name(str(spec.op)))
        path = self.scope.path(local)
        sizes, given, plain = self._sort_settings(spec, schema)
        inputs = self._wire(spec, schema, given, local, path)
        attributes = self._attributes(spec, schema, plain, inputs)
        draft = Draft(spec, schema, path, inputs, attributes)
        self.weights.add(draft, sizes)
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

    def _check_complete(self, draft: Draft) -> None:
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

    def _outputs(self, draft: Draft) -> dict[str, ir.Value]:
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
