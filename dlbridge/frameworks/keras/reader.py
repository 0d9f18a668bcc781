"""The Keras reader: a live model or a ``.keras`` or ``.h5`` file, in the neutral form.

Names. A node's path is the name of its Keras layer with a dot for a dash (``names.py``); a layer of a nested model has
the model's name and a dot before it. A layer inside a subclassed model or a custom layer goes by its own name when
somebody gave it one, else by the attribute that holds it (``blocks.0.proj``). A layer that is called again is
``dense_1`` the second time, with the weights of ``dense``; what a layer needs beside its main node (an activation, a
transpose) is ``dense_relu``. Weights go by PyTorch's words: ``kernel`` and ``gamma`` are ``weight``, ``beta`` is
``bias``, ``moving_mean`` is ``running_mean``; other variables keep Keras' name. Inputs are named as in Keras, outputs
by the layer that makes them (by the key, where the model gives a dict).
"""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import keras
import onnx_ir as ir
from keras import tree

from dlbridge import border
from dlbridge.errors import DlbridgeError, DlbridgeWarning, SignatureError, UnsupportedOpError
from dlbridge.frameworks.inputs import by_parameter, no_dtype, parse_input
from dlbridge.frameworks.keras import ReadOptions, compat, generation, reads
from dlbridge.frameworks.keras.files import archive
from dlbridge.frameworks.keras.graph import in_training
from dlbridge.frameworks.keras.graph.building import IR_DTYPES, Builder
from dlbridge.frameworks.keras.graph.call_site import RefusalError
from dlbridge.frameworks.keras.graph.graph_reader import GraphReader, graph_of
from dlbridge.frameworks.keras.graph.masks import mask_of
from dlbridge.frameworks.keras.names import path_part, tensor_name
from dlbridge.frameworks.keras.original import Original
from dlbridge.frameworks.keras.tracing import guards
from dlbridge.frameworks.rule_modules import import_rules
from dlbridge.model import Model
from dlbridge.ops import regularization, traits
from dlbridge.ops.keys import is_op
from dlbridge.passes import Pass, Pipeline, layout
from dlbridge.passes.lift import lift
from dlbridge.passes.scopes import name_values
from dlbridge.passes.standard import FOLD, INFER
from dlbridge.source.names import Names, identifier


@border.reader(lambda source: False)
def read(source: Any, options: ReadOptions) -> Model:
    """Read a Keras model.

    Args:
        source: A ``keras.Model``, or a ``.keras`` or ``.h5`` file.
        options: See ``ReadOptions``. An input is ``"float32[batch,28,28,1]"``, an array or a ``KerasTensor``.

    Raises:
        FileError: When a file is missing, broken or hostile.
        SignatureError: When the inputs of a model cannot be known, or those given do not fit.
        UnsupportedOpError: When layers or operations have no rule; all of them are listed.
    """
    import_rules(reads)
    live, may_run = source, True  # the code of a model in memory has been run already, to make it
    if isinstance(source, (str, os.PathLike)):
        live = archive.load(Path(source), options.trust_code, archive.named(options.custom_objects))
        may_run = options.trust_code
    if not isinstance(live, keras.layers.Layer):
        raise DlbridgeError(f"cannot read a {type(live).__qualname__} as a Keras model")
    name = identifier(options.name or live.name, "model")
    if options.task is not None:
        live = _for_task(live, options)
    first: guards.TwoWaysError | None = None
    unanswered: set[str] = set()
    while True:
        try:
            return _read(live, name, may_run, options, unanswered)
        except guards.TwoWaysError as error:  # TensorFlow may read both ways, where the code gets no answer
            if first is not None and error.question in unanswered:
                raise first from None
            first = first or error
            unanswered.add(error.question)
        except UnsupportedOpError:
            if first is None:
                raise
            raise first from None


def _read(
    live: Any,
    name: str,
    may_run: bool,
    options: ReadOptions,
    unanswered: Collection[str],
    integers: Collection[str] = (),
) -> Model:
    """Read a model.

    Args:
        live: The model.
        name: What it is called.
        may_run: Whether ``Lambda`` layers may run.
        options: See :func:`read`.
        unanswered: The questions of sizes to which its code gets no answer.
        integers: The inputs of which nobody says a dtype, and that are of integers.
    """
    build = Builder(name)
    build.sizes.questions.unanswered = frozenset(unanswered)
    reader = GraphReader(build, live, trust_code=may_run, partial=options.partial)
    graph = graph_of(live)
    if graph is not None:
        values = _graph_inputs(build, graph, options.inputs or {}, isinstance(live, compat.Sequential))
        given: tuple[Any, ...] = (tree.pack_sequence_as(graph._inputs_struct, values),)
        named: dict[str, Any] = {}
        result = _collect(reader, lambda: reader.run(graph, values, ""))
    elif isinstance(live, generation.Decoder):
        given, named = (), _said_inputs(build, live.inputs_said)
        result = _collect(reader, lambda: reader.open_model(live, given, named))
    else:
        given, named = _declared_inputs(build, live, options.inputs or {}, options.example, integers)
        result = _collect(reader, lambda: tree.map_structure(reader.result, reader.open_model(live, given, named)))
    if reader.troubles:
        lines = [f"  {where or live.name}: {what}" for where, what in reader.troubles]
        raise UnsupportedOpError("these layers and operations cannot be read:\n" + "\n".join(lines), where=live.name)
    _set_outputs(build, result, _output_names(graph, result, "_" if options.task is None else "."))
    traits.set_output_keys(build.graph, _output_keys(result))
    if isinstance(live, generation.Decoder):
        build.blocks[""] = type(live.causal_lm).__name__
        traits.set_constraints(build.graph, live.constraints)
        build.graph.metadata_props[traits.GENERATION] = live.settings().dumps()
    model = _finish(build, reader.converted)
    if graph is None and not options.inputs and not integers:
        integers = [str(value.name) for value in model.inputs if _is_of_integers(value)]
        if integers:
            return _read(live, name, may_run, options, unanswered, integers)
    model.original = Original(live, given, named, [v.name or "" for v in model.outputs])
    questions = build.sizes.questions
    known = [*traits.constraints(model.graph), *questions.stated, *questions.required.values()]
    limits = [*(c.text for c in known), *guards.settle(model, list(questions.asked.values()), known, live)]
    traits.set_constraints(model.graph, list(dict.fromkeys(limits)))
    added = in_training.added_losses(live, reader)
    lost = [*added, *in_training.lost(live, reader)]
    if lost:
        warnings.warn(f"not kept, as it acts in training alone: {'; '.join(lost)}", DlbridgeWarning, stacklevel=4)
    regularization.set_losses(model.graph, [*added, *_masked(result, model)])
    return model


def _for_task(live: Any, options: ReadOptions) -> generation.Decoder:
    """A model as it is read for a task."""
    assert options.task is not None
    if options.inputs is not None:
        raise SignatureError(f"the task '{options.task}' says the inputs and the cache itself", where=live.name)
    return generation.decoder(live, options.task)


def _masked(result: Any, model: Model) -> list[str]:
    """The outputs by whose masks Keras weights the loss."""
    pairs = zip(_flat(result), model.outputs, strict=True)
    return [f"{v.name}: Keras weighs the loss by the mask of this output" for r, v in pairs if mask_of(r) is not None]


def _collect(reader: GraphReader, run: Any) -> Any:
    """Run the reader; afterwards nothing is left of it in Keras or in the model."""
    try:
        with compat.wrapped(), compat.counters_kept():
            return run()
    except RefusalError as refusal:
        reader.troubles.append(("", str(refusal)))
        return None
    finally:
        reader.forget()


def _cancel_transposes(model: ir.Model) -> bool:
    return layout.simplify(model.graph, through_reshapes=False)


#: What is done to the graph that was built, each node of which has its types.
PIPELINE = Pipeline(
    "read",
    [
        FOLD,
        Pass("cancel_transposes", _cancel_transposes, "Cancel and move the transposes of channels-last layers."),
        INFER,
        FOLD.named("fold_inferred"),
    ],
    has=["types"],
)


def _finish(build: Builder, converted: list[str]) -> Model:
    """The finished model. In the blocks ``converted``, which tf2onnx wrote, patterns are replaced by layers."""
    name_values(build.graph)
    graph = build.graph
    ir_model = ir.Model(graph, ir_version=traits.IR_VERSION, producer_name="keras")
    traits.set_blocks(graph, build.blocks)
    model = Model(ir_model)
    PIPELINE(model.ir)
    if converted:
        lift(model.ir, lambda node: any(_stands_in(node, path) for path in converted))
        for path in filter(None, converted):
            _name_lifted(build, [node for node in graph.all_nodes() if _stands_in(node, path)], path)
        graph.metadata_props.pop(traits.BLOCKS, None)
        traits.set_blocks(graph, build.blocks)
    return model


def _stands_in(node: ir.Node, path: str) -> bool:
    return not path or f"{node.name}.".startswith(f"{path}.")


def _name_lifted(build: Builder, nodes: list[ir.Node], path: str) -> None:
    """Rename the nodes of a block after patterns were replaced: its only node gets the block's name."""
    if len(nodes) == 1:
        nodes[0].name = path
        nodes[0].metadata_props.pop(traits.ANONYMOUS, None)
        build.blocks.pop(path, None)
        return
    for node in nodes:
        if node.name == path:
            node.name = build.node_name(f"{path}.{node.op_type.lower()}")
            traits.mark(node, traits.ANONYMOUS)


# --- inputs and outputs -----------------------------------------------------------------------------------------------


def _is_of_integers(value: ir.Value) -> bool:
    """Whether all that is done with an input of floats is to make integers of it, or to ask which it equals: Keras
    keeps the shape of what a model was called on, and not its dtype."""
    if value.dtype is None or not value.dtype.is_floating_point():
        return False
    readers = [use.node for use in value.uses()]
    casts = [node for node in readers if is_op(node, "Cast")]
    is_cast = all(ir.DataType(node.attributes["to"].as_int()).is_integer() for node in casts)
    return bool(casts) and is_cast and all(is_op(node, "Cast", "Equal") for node in readers)


def _graph_inputs(build: Builder, graph: Any, wanted: Mapping[str, Any], is_sequential: bool) -> list[ir.Value]:
    """The inputs of a graph. A Sequential model that was first called on data has the size of that batch in its graph,
    and takes any."""
    values = []
    for tensor in graph._inputs:
        history = getattr(tensor, "_keras_history", None)
        name = tensor_name(history.operation.name if history and history.operation is not None else tensor.name)
        shape, dtype = list(tensor.shape), tensor.dtype
        if is_sequential:
            shape[:1] = [None]
        if name in wanted:
            shape, dtype = _spec(name, wanted[name], shape, dtype)
        values.append(_input(build, name, shape, dtype))
    unknown = set(wanted) - {v.name for v in values}
    if unknown:
        known = ", ".join(str(v.name) for v in values)
        raise SignatureError(f"no input of the name(s) {', '.join(sorted(unknown))}", hint=f"inputs: {known}")
    return values


def _declared_inputs(
    build: Builder, model: Any, wanted: Mapping[str, Any], example: Any = None, integers: Collection[str] = ()
) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword arguments to call a model with that has no graph.

    Args:
        build: Gets the inputs.
        model: The model.
        wanted: What the user says of the inputs, by name.
        example: Inputs that came with the model; they matter where neither the user nor the model says any.
        integers: The inputs that are of integers, where nobody says a dtype.
    """
    parameters = inspect.signature(model.call).parameters
    if not wanted and example is not None and not getattr(model, "_build_shapes_dict", None):
        wanted = by_parameter(example, list(parameters))
    if wanted:
        values = {name: _input(build, name, *_spec(name, spec)) for name, spec in wanted.items()}
        if len(values) > 1 and set(values) <= set(parameters):
            return (), values
        return (next(iter(values.values())) if len(values) == 1 else values,), {}
    shapes_of = getattr(model, "_build_shapes_dict", None)
    if not shapes_of:
        raise SignatureError(
            "the model says its inputs only once it was called",
            where=model.name,
            hint="call it on an example first, or give inputs={'x': 'float32[batch,28,28,1]'} (--input)",
        )
    found = {re.sub(r"_?shape$", "", name) or "inputs": shape for name, shape in shapes_of.items()}
    arguments = {name: _argument(build, name, shape, model.input_dtype, integers) for name, shape in found.items()}
    return (tuple(arguments.values()), {}) if len(arguments) == 1 else ((), arguments)


def _said_inputs(build: Builder, said: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Inputs for a nest of what is said of each, which are called by their paths in it."""
    return {
        name: _input(build, f"{path}{name}", *_spec(name, item))
        if isinstance(item, str)
        else _said_inputs(build, item, f"{path}{name}.")
        for name, item in said.items()
    }


def _argument(build: Builder, name: str, shape: Any, dtype: str, integers: Collection[str]) -> Any:
    """Inputs for an argument of this shape or nested structure of shapes."""
    if not isinstance(shape, dict) and all(d is None or isinstance(d, int) for d in shape):
        return _input(build, name, [None, *shape[1:]], "int32" if name in integers else dtype)
    if isinstance(shape, dict):
        return {key: _argument(build, str(key), one, dtype, integers) for key, one in shape.items()}
    return [_argument(build, f"{name}_{i}", one, dtype, integers) for i, one in enumerate(shape)]


def _spec(name: str, spec: Any, shape: list[Any] | None = None, dtype: str | None = None) -> tuple[list[Any], str]:
    """(sizes, dtype) that the user specified for an input."""
    if isinstance(spec, str):
        said = parse_input(spec, name).with_dtype(dtype)
        if said.dtype not in IR_DTYPES:
            raise no_dtype(spec, said.dtype, name)
        given: list[Any] = [int(size) if size.isdigit() else size for size in said.sizes]
        kind = said.dtype
    else:
        given, kind = list(spec.shape), keras.backend.standardize_dtype(spec.dtype)
        if not isinstance(spec, keras.KerasTensor) and given:
            given[0] = None
    if shape is not None and (
        len(shape) != len(given) or any(isinstance(a, int) and a != b for a, b in zip(shape, given, strict=True))
    ):
        raise SignatureError(f"the model takes {tuple(shape)}, not {tuple(given)}", where=name)
    return given, kind


def _input(build: Builder, name: str, shape: list[Any], dtype: str) -> ir.Value:
    if dtype not in IR_DTYPES:
        raise UnsupportedOpError(f"an input of dtype {dtype}", where=name)
    names = ["batch", *(f"{identifier(name)}_{axis}" for axis in range(1, len(shape)))]
    where = f"input {name}"
    shape = [build.sizes.stated_size(size, where) if isinstance(size, str) else size for size in shape]
    sizes = [free if size is None else size for free, size in zip(names, shape, strict=False)]
    value = ir.Value(name=name, type=ir.TensorType(IR_DTYPES[dtype]), shape=ir.Shape(sizes))
    build.graph.inputs.append(value)
    for axis, size in enumerate(sizes):
        if isinstance(size, str):
            build.sizes.places.setdefault(size, (value, axis))
    return value


def _output_names(graph: Any, result: Any, joint: str) -> list[str]:
    """A name for each output: keys of a dict, with ``joint`` between those of nested ones; else the layers that make
    them."""
    paths = [path for path, value in tree.flatten_with_path(result) if value is not None]
    if isinstance(result, dict):
        return [joint.join(path_part(str(p)) for p in path) for path in paths]
    if graph is not None:
        return [path_part(t._keras_history.operation.name) for t in tree.flatten(graph._outputs_struct)]
    return ["output" if len(paths) == 1 else f"output_{i}" for i, _ in enumerate(paths)]


def _output_keys(result: Any) -> list[str] | None:
    """The keys of a dict that a model returns, each with a tensor, in the order in which Keras lists its values."""
    if not isinstance(result, dict) or any(value is None or tree.is_nested(value) for value in result.values()):
        return None
    keys = [path[0] for path, _ in tree.flatten_with_path(result)]
    return keys if all(isinstance(key, str) for key in keys) else None


def _flat(result: Any) -> list[Any]:
    """The values in the result of a model; None, where it gives nothing, is no output."""
    return [value for value in tree.flatten(result) if value is not None]


def _set_outputs(build: Builder, result: Any, names: list[str]) -> None:
    taken = Names(*(str(v.name) for v in build.graph.inputs), *build.graph.initializers)
    for value, name in zip(_flat(result), names, strict=True):
        if value.is_graph_input() or value.is_graph_output() or value.is_initializer():
            value = build.op("Identity", value)
        value.name = taken.fresh(name)
        build.graph.outputs.append(value)
