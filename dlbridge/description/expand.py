"""Description -> Model: expands shorthand, and infers the dtype and shape of every value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dlbridge.description import initial, schema, signature
from dlbridge.description import parameters as parameters_of
from dlbridge.description import weights as weights_files
from dlbridge.description.document import Document, Path_
from dlbridge.description.inference import set_type, state_type
from dlbridge.description.nodes import NodeMaker
from dlbridge.description.repeats import Repeats
from dlbridge.description.scope import Parts, Scope, conventional_name
from dlbridge.errors import DescriptionError, DlbridgeError, ShapeError, WeightsError, suggest
from dlbridge.limits import limits, raise_hint
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import shapes


def expand(document: Document, weights: Mapping[str, ir.TensorProtocol] | None = None) -> Model:
    """A description as a model.

    Args:
        document: The description; see ``dlbridge.description.document.read``.
        weights: Numbers of initializers by name. When None, they are in the file that the description names, or are
            made from its seed.

    Raises:
        DescriptionError: When the description says something that has no meaning.
        ShapeError: When shapes or dtypes do not fit; it names them and the node.
        WeightsError: When a weight has no numbers, or they are of another shape or dtype.
    """
    expander = _Expander(document)
    return expander.model(expander.weights() if weights is None else weights)


def _too_many() -> DescriptionError:
    what = f"expands to more than {limits().nodes:,} nodes"
    return DescriptionError(what, hint=f"look at the 'repeat' of its blocks; {raise_hint('nodes')}")


class _Expander:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.description: schema.Description = schema.check(document)
        self.training = self._training()
        self.seed: int | None = self.description.seed
        if self.seed is None and self.training is not None and "seed" in self.training.model_fields_set:
            self.seed = self.training.seed
        self.classes: dict[str, str] = dict(self.description.classes)
        self.places: dict[str, Path_] = {}
        self.sugar: list[ir.Node] = []
        self.made = 0
        self.subgraphs: list[tuple[ir.Graph, schema.Graph, Path_]] = []

    # --- the whole ----------------------------------------------------------------------------------------------------

    def model(self, weights: Mapping[str, ir.TensorProtocol]) -> Model:
        beyond = Repeats(self.description, self.document.data).first_beyond(limits().nodes)
        if beyond is not None:
            with self.at(("nodes", beyond)):
                raise _too_many()
        scope = Scope(Parts())
        outputs = self.graph(scope, self.description, (), self.document.data)
        self.prune(outputs)
        self.fill(scope.parts.initializers, weights)
        self.check_new_weights(scope.parts.initializers)
        with self.at(("nodes",)):
            model = Model.build(
                self.description.name,
                scope.parts.inputs,
                outputs,
                scope.parts.nodes,
                scope.parts.initializers.values(),
                blocks=self.classes,
                training=self.training,
            )
        model.graph.metadata_props.update(self.description.metadata)
        if self.seed is not None:
            model.graph.metadata_props[traits.SEED] = str(self.seed)
        model.ir.metadata_props.update(self.description.model_metadata)
        model.graph.opset_imports.update(self.description.opsets | {"": traits.IR_OPSET})
        self.infer(model)
        return model

    def _training(self) -> Any:
        if self.description.training is None:
            return None
        from dlbridge.training.spec import TrainingSpec

        training = schema.check(self.document, ("training",), TrainingSpec)
        for place, loss in enumerate(training.losses):
            if loss.of is not None and loss.of not in self.description.outputs:
                message = f"the loss is of '{loss.of}', which is no output of the model"
                path = ("loss", place, "of") if isinstance(training.loss, tuple) else ("loss", "of")
                self.document.fail(("training", *path), message, suggest(loss.of, self.description.outputs))
        return training

    def weights(self) -> Mapping[str, ir.TensorProtocol]:
        """The weights that the description names."""
        if self.description.weights is None:
            return {}
        with self.at(("weights",)):
            path = Path(self.description.weights)
            if path.is_absolute() or ".." in path.parts:
                raise WeightsError(f"'{path}' is outside the description's folder", hint="put the file beside it")
            return weights_files.read(Path(self.document.name).parent / path)

    @contextmanager
    def at(self, path: Path_) -> Iterator[None]:
        """Within the block, errors without a location get the location ``path``."""
        try:
            yield
        except DlbridgeError as error:
            if error.where is None:
                error.where = self.document.where(path)
            raise

    def infer(self, model: Model) -> None:
        """Infer all types. Types that the description states must agree, and are kept if inference knows less."""
        try:
            shapes.infer(model.ir)
        except ShapeError as error:
            place = self.places.get(error.where or "")
            if place is not None:
                raise ShapeError(error.message, where=self.document.where(place), hint=error.hint) from None
            raise
        for graph, spec, path in [*self.subgraphs, (model.graph, self.description, ())]:
            self.state(graph, spec, path)

    def state(self, graph: ir.Graph, spec: schema.Graph, path: Path_) -> None:
        """Set the types that the description states of a graph's values."""
        known = {v.name: v for node in graph for v in node.outputs if v.name} if spec.values else {}
        for name, of in spec.values.items():
            with self.at((*path, "values", name)):
                if name not in known:
                    raise DescriptionError(f"no value is called '{name}'", hint=suggest(name, known))
                state_type(known[name], of)

    # --- a graph ------------------------------------------------------------------------------------------------------

    def graph(self, scope: Scope, spec: schema.Graph, path: Path_, raw: Mapping[str, Any]) -> list[ir.Value]:
        """Add the nodes of a graph to ``scope``, and return its outputs."""
        for name, of in spec.inputs.items():
            with self.at((*path, "inputs", name)):
                value = set_type(ir.Value(name=name), of)
                scope.parts.add_value(value)
                scope.parts.inputs.append(value)
                scope.define(name, {"0": value})
        if len(spec.inputs) == 1:
            scope.previous = scope.parts.inputs[0]
        self.initializers(scope, spec.initializers, (*path, "initializers"))
        self.nodes(scope, spec.nodes, raw.get("nodes", []), (*path, "nodes"), ())
        listed = spec.outputs if isinstance(spec.outputs, dict) else {name: name for name in spec.outputs}
        if len(listed) < len(spec.outputs):
            self.document.fail((*path, "outputs"), "an output is named twice")
        outputs: list[ir.Value] = []
        for index, (name, reference) in enumerate(listed.items()):
            key = name if isinstance(spec.outputs, dict) else index
            with self.at((*path, "outputs", key)):
                outputs.append(self.output(scope, name, reference, outputs))
        return outputs

    def output(self, scope: Scope, name: str, reference: str, before: list[ir.Value]) -> ir.Value:
        """Call an output of a graph ``name``: rename the value, or copy it if its name is needed elsewhere."""
        value = scope.resolve(reference)
        if value.name == name and value not in before:
            return value
        if value.producer() is None or value in before or value.name not in scope.parts.value_names:
            node = ir.Node("", "Identity", [value], name=name, outputs=[ir.Value(name=name)])
            traits.mark(node, traits.ANONYMOUS)
            scope.parts.add_node(node)
            scope.parts.add_value(node.outputs[0])
            return node.outputs[0]
        del scope.parts.value_names[value.name or ""]
        value.name = name
        scope.parts.add_value(value)
        return value

    def subgraph(self, scope: Scope, owner: str, data: Any, path: Path_) -> ir.Graph:
        """A graph-valued attribute."""
        spec = schema.check_data(self.document, path, data, schema.Graph)
        inner = Scope(Parts(parent=scope.parts), parent=scope)
        outputs = self.graph(inner, spec, path, data)
        parts = inner.parts
        weights = list(parts.initializers.values())
        graph = ir.Graph(parts.inputs, outputs, nodes=parts.nodes, initializers=weights, name=spec.name or owner)
        graph.metadata_props.update(spec.metadata)
        for value in weights:
            if value.const_value is None:
                self.document.fail(path, f"'{value.name}' has no numbers", "give them as 'value'", WeightsError)
        self.subgraphs.append((graph, spec, path))
        return graph

    # --- nodes and blocks ---------------------------------------------------------------------------------------------

    def nodes(self, scope: Scope, specs: list[schema.Node], raw: Any, path: Path_, stack: tuple[str, ...]) -> None:
        scope.given |= {s.name for s in specs if s.name}
        scope.later.update({s.name: _reads(s) for s in specs if s.name})
        for index, spec in enumerate(specs):
            place = (*path, index)
            with self.at(place):
                if spec.name in scope.names and spec.inputs is None:
                    raise DescriptionError(f"the name '{spec.name}' is given twice", hint="names of nodes differ")
                if spec.block is not None:
                    self.instance(scope, spec, place, stack)
                else:
                    self.node(scope, spec, place)
            if spec.name:
                scope.later.pop(spec.name, None)

    def node(self, scope: Scope, spec: schema.Node, place: Path_) -> None:
        def make_graph(name: str, data: Any, below: Path_) -> ir.Graph:
            inside = name not in spec.settings
            return self.subgraph(scope, name, data, (*place, *(("attributes",) if inside else ()), name, *below))

        def make_weight(
            name: str, of: ir.DataType, shape: tuple[int, ...], init: Mapping[str, Any], kind: traits.Kind
        ) -> ir.Value:
            self.places[name] = place
            return scope.parts.add_initializer(initial.started(name, of, shape, init, kind, self.seed or 0))

        self.made += 1
        if self.made > limits().nodes:
            raise _too_many()
        maker = NodeMaker(scope, make_graph, make_weight, lambda *below: self.at((*place, *below)))
        node = maker.make(spec)
        self.places[node.name or ""] = place
        scope.previous = node.outputs[0] if node.outputs else scope.previous
        if spec.inputs is None and spec.outputs is None:
            self.sugar.append(node)

    def instance(self, scope: Scope, spec: schema.Node, place: Path_, stack: tuple[str, ...]) -> None:
        """The nodes of a block, once or repeated, with the parameters filled in."""
        name = str(spec.block)
        block = self.description.blocks.get(name)
        if block is None:
            near = suggest(name, self.description.blocks)
            raise DescriptionError(f"unknown block '{name}'", hint=near or "blocks are defined under 'blocks'")
        if name in stack:
            raise DescriptionError(f"the block '{name}' uses itself: {' -> '.join([*stack, name])}")
        local = spec.name or scope.fresh_name(conventional_name(name))
        inputs = self.block_inputs(scope, spec, block, local)
        parameters = self.parameters(spec, name, block)
        outputs: dict[str, ir.Value] = {}
        for index in range(int(spec.repeat or 1)):
            path = scope.path(local) + (f".{index}" if spec.repeat is not None else "")
            inner = Scope(scope.parts, prefix=f"{path}.", shared=self.shared(scope, spec, path))
            filled = {"index": index, **parameters}
            outputs = self.body(inner, name, block, inputs, filled, (*stack, name))
            self.classes[path] = "".join(w[:1].upper() + w[1:] for w in conventional_name(name).split("_"))
            inputs = [*outputs.values(), *inputs[len(outputs) :]][: len(inputs)]
        scope.define(local, {**outputs, **{str(i): v for i, v in enumerate(outputs.values())}})
        scope.previous = next(iter(outputs.values()))

    def block_inputs(self, scope: Scope, spec: schema.Node, block: schema.Block, local: str) -> list[ir.Value]:
        listed = spec.from_ if isinstance(spec.from_, list) else [spec.from_]
        if spec.from_ is None:
            if scope.previous is None:
                raise DescriptionError("this block has no 'from', and what it reads does not follow")
            found = [scope.previous]
        else:
            found = [scope.resolve(str(reference), local) for reference in listed]
        if len(found) != len(block.inputs):
            names = ", ".join(block.inputs)
            raise DescriptionError(
                f"the block '{spec.block}' takes {len(block.inputs)} inputs ({names}), {len(found)} given"
            )
        return found

    def parameters(self, spec: schema.Node, name: str, block: schema.Block) -> dict[str, Any]:
        given = dict(spec.settings)
        for typed in ("bias", "frozen"):
            if typed in block.parameters and typed in spec.model_fields_set:
                given[typed] = getattr(spec, typed)
        for key in given:
            if key not in block.parameters:
                hint = suggest(key, block.parameters) or f"it has: {', '.join(block.parameters) or 'none'}"
                raise DescriptionError(f"the block '{name}' has no parameter '{key}'", hint=hint)
        filled = {**block.parameters, **given}
        missing = [key for key, value in filled.items() if value is None]
        if missing:
            raise DescriptionError(f"the block '{name}' needs the parameter '{missing[0]}'")
        return filled

    def shared(self, scope: Scope, spec: schema.Node, path: str) -> str | None:
        """Prefix of the weights that an instance uses: another instance's, or those that the scope around it uses."""
        if spec.weights is not None:
            prefix = scope.path(f"{spec.weights}.")
            if not any(n.startswith(prefix) for n in scope.parts.initializers):
                raise DescriptionError(
                    f"shares the weights of '{spec.weights}', which has none", hint=suggest(spec.weights, scope.names)
                )
            return prefix
        if scope.shared is not None:
            return f"{scope.shared}{path.removeprefix(scope.prefix)}."
        return None

    def body(
        self,
        scope: Scope,
        name: str,
        block: schema.Block,
        inputs: list[ir.Value],
        parameters: Mapping[str, Any],
        stack: tuple[str, ...],
    ) -> dict[str, ir.Value]:
        path: Path_ = ("blocks", name)
        for local, value in zip(block.inputs, inputs, strict=True):
            scope.define(local, {"0": value})
        scope.previous = inputs[0]
        raw = self.document.data["blocks"][name]
        with self.at((*path, "initializers")):
            entries = {
                key: schema.check_data(
                    self.document,
                    (*path, "initializers", key),
                    parameters_of.fill(entry, parameters),
                    schema.InitializerEntry,
                )
                for key, entry in (raw.get("initializers") or {}).items()
            }
        self.initializers(scope, entries, (*path, "initializers"))
        specs = []
        for index, node in enumerate(raw["nodes"]):
            place = (*path, "nodes", index)
            with self.at(place):
                specs.append(schema.check_data(self.document, place, parameters_of.fill(node, parameters), schema.Node))
        self.nodes(scope, specs, raw["nodes"], (*path, "nodes"), stack)
        if block.outputs is None:
            return {"0": scope.previous}
        listed = block.outputs if isinstance(block.outputs, dict) else {n: n for n in block.outputs}
        with self.at((*path, "outputs")):
            return {key: scope.resolve(reference) for key, reference in listed.items()}

    def prune(self, outputs: list[ir.Value]) -> None:
        """Remove optional outputs from the end of a node's list if nothing reads them."""
        for node in self.sugar:
            of = signature.schema(node.domain, node.op_type)
            keep = len(node.outputs)
            while keep > 1 and not node.outputs[keep - 1].uses() and node.outputs[keep - 1] not in outputs:
                if of is None or keep > len(of.outputs) or not signature.is_optional(of.outputs[keep - 1]):
                    break
                keep -= 1
            node.resize_outputs(keep)

    # --- weights -------------------------------------------------------------------------------------------------

    def initializers(self, scope: Scope, entries: Mapping[str, schema.InitializerEntry], path: Path_) -> None:
        for name, entry in entries.items():
            with self.at((*path, name)):
                value = initial.from_entry(scope.path(name), entry, self.seed or 0)
                scope.parts.add_initializer(value)
                scope.define(name, {"0": value})
                self.places[value.name or ""] = (*path, name)

    def fill(self, initializers: Mapping[str, ir.Value], weights: Mapping[str, ir.TensorProtocol]) -> None:
        """Set the numbers of the initializers, and check that none is left without."""
        initial.fill(initializers, weights)
        missing = [name for name, value in initializers.items() if value.const_value is None]
        if missing:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            with self.at(self.places.get(missing[0], ())):
                hint = "give a weights file, or 'init' or 'value' here"
                raise WeightsError(f"no numbers for {len(missing)} weights: {listed}", hint=hint)

    def check_new_weights(self, initializers: Mapping[str, ir.Value]) -> None:
        """Check the total size of the weights that are made from the seed, before any is made."""
        new = [v.const_value for v in initializers.values() if traits.INIT in v.metadata_props]
        size = sum(tensor.nbytes for tensor in new if isinstance(tensor, ir.LazyTensor))
        if size > limits().new_weights:
            raise DescriptionError(f"its new weights would have {size:,} bytes", hint=raise_hint("new_weights"))


def _reads(spec: schema.Node) -> list[str]:
    """The names of nodes or inputs in the references of a node."""
    listed = spec.from_ if isinstance(spec.from_, list) else [spec.from_]
    texts = [*listed, *spec.settings.values(), *(spec.inputs or ())]
    return [t.split(".")[0] for t in texts if isinstance(t, str)]
