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
from torch.export import ExportedProgram

from dlbridge import border
from dlbridge.errors import DlbridgeWarning, SignatureError, UnsupportedOpError
from dlbridge.frameworks.pytorch import ReadOptions, generation, original, reads
from dlbridge.frameworks.pytorch.export import (
    caches,
    exporting,
    resizing,
    state,
    training_mode,
    wrappers,
)
from dlbridge.frameworks.pytorch.export.calling import Calling
from dlbridge.frameworks.pytorch.export.examples import with_example
from dlbridge.frameworks.pytorch.files import archive, pretrained, script
from dlbridge.frameworks.pytorch.fx.tensors import with_sizes
from dlbridge.frameworks.pytorch.graph import control, pytree_names, scopes
from dlbridge.frameworks.pytorch.graph.arguments import Arguments
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
    opened, name = _opened(source, options)
    if isinstance(opened, torch.jit.ScriptModule):
        return script.read(opened, options, name or opened.original_name)
    inputs, dynamic = options.inputs, options.dynamic
    module: torch.nn.Module | None = None
    if isinstance(opened, torch.nn.Module):
        module, name = opened, name or type(opened).__name__.lower()
        _check_names(module)
        script.check_parts(module)
        if options.task is None:
            inputs, dynamic = _module_inputs(module, source, options)
    elif options.task is not None:
        raise SignatureError(f"'{options.task}' is a task of live models: an exported program is one graph already")
    elif inputs is not None or dynamic is not None:
        module, inputs = _resized(opened, inputs, dynamic, name)
    if module is None:
        calling, exported = Calling(), exporting.of_program(opened)
        exporting.tell_of_state(name or "program", sorted(state.written_buffers(opened)))
    else:
        inputs, calling = _calling(module, inputs, options)
        exported = exporting.export(module, inputs, dynamic, calling)
    return _model(exported, module, name, calling, options)


def _opened(source: Any, options: ReadOptions) -> tuple[torch.nn.Module | ExportedProgram, str | None]:
    """The module, script or program that a file, a folder or an object holds, and its name where it has one."""
    if isinstance(source, torch.nn.Module):
        return wrappers.unwrapped(source), options.name
    if not isinstance(source, (str, os.PathLike)):
        return source, options.name
    path = Path(source)
    if path.is_dir():
        return pretrained.load(path, trust_code=options.trust_code), options.name or path.resolve().name
    name = options.name or path.stem
    if archive.is_script_file(path):
        return script.load(path, trust_code=options.trust_code), name
    return archive.load(path), name


def _module_inputs(module: torch.nn.Module, source: Any, options: ReadOptions) -> tuple[Any, Any]:
    """The inputs of a module, and which of their sizes are dynamic: as the user says, or else as an example is."""
    inputs = options.inputs
    if isinstance(source, (str, os.PathLike)):
        inputs = pretrained.with_inputs(module, inputs)
    if options.example is None:
        return inputs, options.dynamic
    return with_example(module, options.example, inputs, options.dynamic)


def _model(
    exported: exporting.Exported,
    module: torch.nn.Module | None,
    name: str | None,
    calling: Calling,
    options: ReadOptions,
) -> Model:
    """The model that an exported program is, which keeps the module or the program as its original."""
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
    model.original = original.Original(module, exported.program, reader.arguments.leaves, outputs, calling)
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
    return resizing.with_sizes(program, as_it_is.arguments.inputs, inputs, where)


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
        self.arguments = Arguments(self.exported, self.translation.symbols, self.translation.computed)

    def model(self) -> Model:
        results = self.translation.run(self.exported.graph_module, self.arguments.values)
        outputs = self._outputs(results)
        self._refuse()
        nodes = control.live(self.translation.nodes, outputs)
        everything = [n for node in nodes for n in (node, *control.inside(node))]
        blocks = scopes.name_nodes(everything, self.translation.frames)
        self._type_values(everything)
        made = [*self.translation.constants, *self.translation.made_weights.by_name.values()]
        initializers = [*self._kept(nodes), *_used(made, nodes, outputs)]
        initializers += self._computed_once(_used(self.translation.computed.frozen, nodes, outputs), initializers)
        name = python_name(self.name or blocks.get("", "model").lower())
        return Model.build(name, self.arguments.inputs, outputs, nodes, initializers, blocks=blocks)

    def _kept(self, nodes: Sequence[ir.Node]) -> list[ir.Value]:
        """The program's initializers, except those that only served to make others."""
        read = {v for node in nodes for v in control.reads(node)}
        weights = self.translation.made_weights
        for part, made in weights.sources.items():
            if len(made) + (part in read) > 1:  # a layer holds it in a form that another does not: they train apart
                for value in (part, *(weights.by_name[name] for name in made)):
                    traits.mark(value, traits.SHARED)
        parts = {*weights.sources, *self.translation.computed.sources}
        return [v for v in self.arguments.weights if v in read or v not in parts]

    def _computed_once(self, weights: Sequence[ir.Value], others: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """Weights that are functions of others by ops that no rule reads, each with a name of its own; says so."""
        taken = {value.name or "" for value in (*self.arguments.inputs, *others)}
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
        taken = {v.name or "" for v in (*self.arguments.inputs, *self.arguments.weights)}
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
                self.translation.frame = scopes.Frame(())
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
            lines.setdefault(f"{found.op} has no rule", []).append(found.site)
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
