"""The PyTorch reader: a live module, an ``ExportedProgram`` or a ``.pt2`` file, in the neutral form.

The graph is that of ``torch.export`` before decomposition. Names of weights are the state-dict keys, names of nodes the
paths of the modules; what training needs (dropout's p, batch norm's momentum) is kept.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from dlbridge import border
from dlbridge.errors import DlbridgeWarning, SignatureError, UnsupportedOpError
from dlbridge.frameworks.pytorch import ReadOptions, generation, original, reads
from dlbridge.frameworks.pytorch.export import caches, exporting, resizing, state, training_mode, wrappers
from dlbridge.frameworks.pytorch.export.calling import Calling
from dlbridge.frameworks.pytorch.export.examples import with_example
from dlbridge.frameworks.pytorch.files import archive, pretrained, script
from dlbridge.frameworks.pytorch.fx.tensors import DTYPES, size_of, sizes_of, with_sizes
from dlbridge.frameworks.pytorch.graph import control, pytree_names, scopes
from dlbridge.frameworks.pytorch.graph.author_names import author_names
from dlbridge.frameworks.pytorch.graph.program import Program
from dlbridge.frameworks.pytorch.graph.reading import Op
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.ops import extension, traits
from dlbridge.ops.names import python_name, unique
from dlbridge.passes import Pipeline
from dlbridge.passes.lift.pattern import KINDS_KNOWN
from dlbridge.passes.scopes import name_values
from dlbridge.passes.standard import FOLD, INFER, LIFT, REFINE, on_graph, renaming


@border.reader(lambda source: False)
def read(source: Any, options: ReadOptions) -> Model:
    """Read a PyTorch model.

    Args:
        source: An ``nn.Module`` (read as in eval mode, left as it is), an ``ExportedProgram``, or a ``.pt2`` file.
        options: See ``ReadOptions``. One name of a dynamic size is one size.

    Raises:
        FileError: When the file is missing, broken, or a pickle.
        UnsupportedOpError: When ops have no rule; all of them are named, with module and source line.
        DlbridgeError: When ``torch.export`` cannot export the module, or not with the sizes that were named dynamic.
    """
    name, inputs, dynamic = options.name, options.inputs, options.dynamic
    if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
        name = name or Path(source).resolve().name
        source = pretrained.load(Path(source), trust_code=options.trust_code)
        inputs = pretrained.with_inputs(source, inputs) if options.task is None else inputs
    if isinstance(source, torch.nn.Module):
        source = wrappers.unwrapped(source)
    if isinstance(source, (str, os.PathLike)) and archive.is_script_file(Path(source)):
        name = name or Path(source).stem
        source = script.load(Path(source), trust_code=options.trust_code)
    if isinstance(source, torch.jit.ScriptModule):
        return script.read(source, options, name or source.original_name)
    if options.example is not None and isinstance(source, torch.nn.Module) and options.task is None:
        inputs, dynamic = with_example(source, options.example, inputs, dynamic)
    if isinstance(source, (str, os.PathLike)):
        name = name or Path(source).stem
        source = archive.load(Path(source))
    module = source if isinstance(source, torch.nn.Module) else None
    if module is not None:
        name = name or type(source).__name__.lower()
        _check_names(module)
        script.check_parts(module)
    elif options.task is not None:
        raise SignatureError(f"'{options.task}' is a task of live models: an exported program is one graph already")
    elif inputs is not None or dynamic is not None:
        module, inputs = _resized(source, inputs, dynamic, name)
    if module is not None:
        inputs, calling = _calling(module, inputs, options)
        exported = exporting.export(module, inputs, dynamic, calling)
    else:
        calling = Calling()
        exported = exporting.of_program(source)
        exporting.tell_of_state(name or "program", sorted(state.written_buffers(source)))
    import_rules(reads)
    in_training = training_mode.of(module, exported.program)
    training_mode.tell(in_training)
    reader = _Reader(exported, name, options.partial, in_training)
    if module is not None:  # a file's stack traces name files that are none of its business
        reader.translation.said = author_names(exported.program.graph)
    model = reader.model()
    traits.set_constraints(model.graph, exported.constraints)
    if calling.gives_dict:
        traits.set_output_keys(model.graph, pytree_names.output_keys(exported.program))
    if options.task is not None and module is not None:
        model.graph.metadata_props[traits.GENERATION] = generation.settings(module).dumps()
    _tidy(model, lift=options.lift)
    _check_read(model, calling)
    outputs = [v.name or "" for v in model.outputs]
    model.original = original.Original(module, exported.program, reader.leaves, outputs, calling)
    return model


def _calling(module: torch.nn.Module, inputs: Any, options: ReadOptions) -> tuple[Any, Calling]:
    """The inputs of a module as tensors or what is said of them, and how it is called with them.

    Raises:
        SignatureError: When the inputs of a task are said, or a cache among them cannot be taken apart.
    """
    if options.task is None:
        inputs, forms = caches.taken_apart(module, inputs)
        return inputs, Calling(forms, cache=options.cache)
    if inputs is not None or options.dynamic is not None or not options.cache:
        where = type(module).__name__
        raise SignatureError(f"the task '{options.task}' says the inputs and the cache itself", where=where)
    return generation.task(module, options.task)


def _check_read(model: Model, calling: Calling) -> None:
    """Refuse a module that is given a cache, or the mask of a task, and does not read it: its numbers would be those of
    another context without a word.

    Raises:
        SignatureError: When there is one.
    """
    for value in model.inputs:
        name = value.name or ""
        if calling.must_read(name) and not value.uses() and not value.is_graph_output():
            raise SignatureError(f"the model does not read its input '{name}'", where=model.name)


def _resized(program: Any, inputs: Any, dynamic: Any, name: str | None) -> tuple[torch.nn.Module, dict[str, str]]:
    """A program as a module that is exported again, and what its inputs are to be.

    Raises:
        SignatureError: When it cannot have these inputs.
    """
    where = name or "program"
    if dynamic is not None:
        hint = "name them in its inputs: inputs={'x': '[batch,3]'}"
        raise SignatureError(
            "'dynamic' is for the example tensors of a module, not for a program", where=where, hint=hint
        )
    exported = exporting.of_program(program)
    resizing.check(exported.constraints, where)
    as_it_is = _Reader(exported, name, True, training_mode.of(None, program))
    as_it_is._arguments()
    return resizing.with_sizes(program, as_it_is.inputs, inputs, where)


def _check_names(module: torch.nn.Module) -> None:
    """Refuse names of modules and tensors that torch.export writes into Python text without escaping them."""
    for find in (module.named_modules, module.named_parameters, module.named_buffers):
        for name, _ in find():
            border.check_name(name)


#: What is done to a program of torch.export in the neutral form.
PIPELINE = Pipeline(
    "read",
    [
        INFER,
        FOLD,
        LIFT,
        FOLD.named("fold_lifted"),
        renaming("collapse", on_graph(scopes.collapse), "Let a module that came out as one node give that its path."),
        renaming("name_values", on_graph(name_values), "Name every value after its node."),
        REFINE,
    ],
)


def _tidy(model: Model, *, lift: bool) -> None:
    """Fold constants, replace patterns by layers, and rename nodes accordingly."""
    model.graph.meta[KINDS_KNOWN] = True
    passes = PIPELINE if lift else PIPELINE.without("lift")
    passes(model.ir)
    extension.attach_functions(model.ir)


class _Reader:
    def __init__(
        self, exported: exporting.Exported, name: str | None, partial: bool, training: training_mode.TrainingMode
    ) -> None:
        self.exported = exported.program
        self.name = name
        self.translation = Program(partial, training)
        self.translation.symbols.names = exported.names.text
        self.inputs: list[ir.Value] = []
        self.leaves: list[original.Leaf] = []
        self.initializers: list[ir.Value] = []

    def model(self) -> Model:
        arguments = self._arguments()
        results = self.translation.run(self.exported.graph_module, arguments)
        outputs = self._outputs(results)
        self._refuse()
        nodes = control.live(self.translation.nodes, outputs)
        everything = [n for node in nodes for n in (node, *control.inside(node))]
        blocks = scopes.name_nodes(everything, self.translation.frames)
        self._type_values(everything)
        made = [*self.translation.constants, *self.translation.weights.values()]
        initializers = [*self._kept(nodes), *_used(made, nodes, outputs)]
        initializers += self._computed_once(_used(self.translation.computed.frozen, nodes, outputs), initializers)
        name = python_name(self.name or blocks.get("", "model").lower())
        return Model.build(name, self.inputs, outputs, nodes, initializers, blocks=blocks)

    # --- what goes in ------------------------------------------------------------------------------------------------

    def _arguments(self) -> list[Any]:
        """A value for each placeholder: inputs, parameters, buffers, constants."""
        placeholders = [n for n in self.exported.graph.nodes if n.op == "placeholder"]
        specs = self.exported.graph_signature.input_specs
        users = [s for s in specs if s.kind.name == "USER_INPUT"]
        taken = {str(s.target) for s in specs if s.kind.name != "USER_INPUT"}  # a weight keeps its name
        named_inputs = [unique(n, taken) for n in pytree_names.input_names(self.exported, len(users))]
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
            self.leaves.append(original.Leaf(arguments[-1].name if named else None, value))
        for spec in self._unread({str(s.target) for s in specs}):
            self._weight(spec, weights)
        return arguments

    def _unread(self, read: set[str]) -> list[InputSpec]:
        """The weights of the state dict that the program does not have: a strict export leaves out what is not used."""
        found = []
        for name, tensor in self.exported.state_dict.items():
            if name not in read and isinstance(tensor, torch.Tensor):
                kind = InputKind.PARAMETER if isinstance(tensor, torch.nn.Parameter) else InputKind.BUFFER
                found.append(InputSpec(kind, TensorArgument(name), name, persistent=True))
        return found

    def _input(self, name: str, val: torch.Tensor) -> ir.Value:
        sizes = sizes_of(val)
        dims = [self.translation.symbols.dim(s) for s in sizes]
        value = ir.Value(name=name, type=ir.TensorType(DTYPES[val.dtype]), shape=ir.Shape(dims))
        if val.dtype.is_complex:
            value.shape = ir.Shape([*dims, 2])
            value.meta["complex"] = True
        self.inputs.append(with_sizes(value, sizes))
        self.translation.symbols.note_sizes(value, sizes)
        return value

    def _number(self, name: str, val: Any) -> Any:
        """A number among the inputs: a tensor of rank 0 if it is symbolic, else the number itself."""
        size = size_of(val) if isinstance(val, torch.SymInt) else val
        if not isinstance(val, torch.SymInt) or isinstance(size, int):
            return val
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
        self.inputs.append(with_sizes(value, []))
        self.translation.symbols.bind(size, value)
        return value

    def _weight(self, spec: Any, known: dict[int, ir.Value]) -> ir.Value | None:
        """The initializer of a parameter, buffer or constant; names of the same parameter share one.

        A buffer that several modules hold does not train: each has its own, as it has in the state dict.
        """
        target, program = spec.target, self.exported
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
            self.translation.computed.note(value, tensor)
        self.initializers.append(value)
        known[id(tensor)] = value
        return with_sizes(value, sizes)

    def _kept(self, nodes: Sequence[ir.Node]) -> list[ir.Value]:
        """The program's initializers, except those that only served to make others."""
        read = {v for node in nodes for v in control.reads(node)}
        for part, made in self.translation.replaced.items():
            if len(made) + (part in read) > 1:  # a layer holds it in a form that another does not: they train apart
                for value in (part, *(self.translation.weights[name] for name in made)):
                    traits.mark(value, traits.SHARED)
        parts = {*self.translation.replaced, *self.translation.computed.sources}
        return [v for v in self.initializers if v in read or v not in parts]

    def _computed_once(self, weights: Sequence[ir.Value], others: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """Weights that are functions of others by ops that no rule reads, each with a name of its own; says so."""
        taken = {value.name or "" for value in (*self.inputs, *others)}
        for value in weights:
            value.name = unique(value.name or "", taken)
        if weights:
            names = ", ".join(value.name or "" for value in weights)
            text = f"made of other weights by ops that no rule reads, so computed once; they do not train: {names}"
            warnings.warn(text, DlbridgeWarning, stacklevel=4)
        return weights

    # --- what comes out ----------------------------------------------------------------------------------------------

    def _outputs(self, results: Sequence[Any]) -> list[ir.Value]:
        """The outputs, each named, and each the output of a node of its own."""
        specs = self.exported.graph_signature.output_specs
        output = next(n for n in self.exported.graph.nodes if n.op == "output")
        users = [(r, n) for r, s, n in zip(results, specs, output.args[0], strict=True) if s.kind.name == "USER_OUTPUT"]
        names = pytree_names.output_names(self.exported, len(users))
        taken = {v.name or "" for v in (*self.inputs, *self.initializers)}
        outputs: list[ir.Value] = []
        for (value, node), name in zip(users, names, strict=True):
            if value is None:
                if isinstance(getattr(node, "meta", {}).get("val"), torch.Tensor):
                    self.translation.lost(f"output {name}")
                continue  # None among the outputs
            op = Op(self.translation, getattr(node, "meta", {}).get("val"), [], name)
            if not isinstance(value, ir.Value):
                value = op.number(value, ir.DataType.FLOAT if isinstance(value, float) else ir.DataType.INT64)
            if value.producer() is None or value in outputs:
                self.translation._frame = type(self.translation._frame)(())
                sizes = value.meta.get("sizes", [])
                value = with_sizes(op("Identity", value), sizes)
            value.name = unique(name, taken)
            outputs.append(value)
        return outputs

    def _type_values(self, nodes: Sequence[ir.Node]) -> None:
        """Set the shapes that PyTorch knows, if the symbols in them have names."""
        for node in nodes:
            for value in node.outputs:
                sizes = value.meta.get("sizes")
                if sizes is not None and not value.meta.get("complex") and value.dtype is not None:
                    value.shape = ir.Shape([self.translation.symbols.dim(s) for s in sizes])

    def _refuse(self) -> None:
        """Raise one error for everything that could not be read."""
        missing, refused = self.translation.missing, self.translation.refused
        if not missing and not refused:
            return
        lines: dict[str, list[str]] = {}
        for found in missing:
            place = f"{found.module} ({found.line})" if found.line else found.module
            lines.setdefault(f"{found.op} has no rule", []).append(place)
        for error in refused:
            lines.setdefault(error.message, []).append(error.where or "the model")
        text = "\n    ".join(f"{what}: {'; '.join(dict.fromkeys(places))}" for what, places in lines.items())
        hint = None
        if missing:
            rules = ", ".join(sorted({f'@reads("{_rule_name(found.op)}")' for found in missing}))
            hint = "read it with --partial (partial=True) and write these by hand, or add a rule to"
            hint += f" dlbridge/frameworks/pytorch/reads/ (see CONTRIBUTING.md): {rules}"
        raise UnsupportedOpError(f"{len(lines)} op(s) cannot be read:\n    {text}", hint=hint)


def _rule_name(op: str) -> str:
    """``aten.add`` of ``aten.add_.Tensor``."""
    parts = op.split(".")
    return ".".join(parts[:2]).removesuffix("_") if len(parts) > 1 else op


def _used(constants: Sequence[ir.Value], nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> list[ir.Value]:
    read = {v for node in nodes for v in control.reads(node)}
    return [v for v in constants if v in read or v in outputs]
