"""Traits: the facts of training and structure that ONNX has no place for, kept in ``metadata_props``.

A trait is a string under one of the keys below. Readers set them, passes keep them, writers use them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import onnx_ir as ir

from dlbridge import decoding
from dlbridge.constraints import METADATA_KEY, Expression, parse

#: The one opset that a model in memory is at.
IR_OPSET = 28
#: The opset that is exported when the user asks for none: the newest that onnxruntime has every kernel for.
EXPORT_OPSET = 24
#: ONNX file-format version that is written (onnxruntime 1.32 loads up to 14).
IR_VERSION = 11

# --- on an initializer (ir.Value) ---------------------------------------------------------------------------------
#: What an initializer is to training.
KIND = "dlbridge.kind"
#: JSON of the initialiser that made it, e.g. {"kind": "glorot_uniform"}.
INIT = "dlbridge.init"
#: "true" on the matrix of a Linear that the model which it was read from holds as (in, out), for ``x @ w``.
TRANSPOSED = "dlbridge.transposed"
#: JSON of the further names that a tensor has in the state dict of the model that it was read from.
ALIASES = "dlbridge.aliases"

#: "true" where it has numbers of one parameter with another initializer: an update of one would not reach the other.
SHARED = "dlbridge.shared"

# --- on an input or output of the graph (ir.Value) ------------------------------------------------------------------
#: "channels_last" when a writer was asked to move it out of the model's own layout.
LAYOUT = "dlbridge.layout"

# --- on any value (ir.Value) ----------------------------------------------------------------------------------------
#: JSON {module path: what the code of that module calls it}, for modules that are given it or given it back.
CALLED = "dlbridge.called"

# --- on a node ----------------------------------------------------------------------------------------------------
#: "true" when the name was made up by dlbridge, not by a person.
ANONYMOUS = "dlbridge.anonymous"
#: The variable that its result is assigned to in the code that it was read from; on values, where it has several.
VARIABLE = "dlbridge.variable"
#: The variable that is computed from its result in one statement of that code.
TOWARDS = "dlbridge.towards"
#: Class of the layer that the node came from, e.g. "torch.nn.modules.conv.Conv2d" or "keras.layers.Conv2D".
CLASS = "dlbridge.class"
#: "true" on a node whose weights live where their names say, not in a layer of its own (``F.linear(x, self.w)``).
FREE_WEIGHTS = "dlbridge.free_weights"
#: On BatchNormalization: which variance the running one is, "biased" (ONNX, Keras) or "unbiased" (PyTorch).
RUNNING_VARIANCE = "dlbridge.running_variance"
#: On BatchNormalization: the statistics that it normalises with in training. "batch" (the default): those of the batch,
#: which the running ones follow; "instance": those of each sample, the mean of which the running ones follow;
#: "running": the running ones, which stay as they are.
STATISTICS = "dlbridge.statistics"
#: On BatchNormalization: "cumulative" where the running statistics are the plain mean over all batches so far, whose
#: number is the buffer ``num_batches_tracked`` beside them; then the momentum is that of the next batch.
AVERAGE = "dlbridge.average"
#: On a recurrent node: "two" where the biases of the input and of the state both train, as in PyTorch. They are added
#: up, so the sum moves twice as far as the one bias of Keras. Without it, that of the input (the first half) trains.
BIASES = "dlbridge.biases"
#: On Attention: the probability with which training drops each weight, a decimal number. Without it, none is dropped.
DROPOUT = "dlbridge.dropout"
#: "true" on the node of a model that is one layer: the layer's weights are named as the model's own (``weight``).
ROOT_LAYER = "dlbridge.root_layer"
#: On a recurrent node that is one layer of a PyTorch layer of several (``num_layers``): "true" where that layer's name
#: is above the node's, else its name, where it is called again.
STACK = "dlbridge.stack"
#: "not negative" on a node that reads or writes by index, where the code that it was read from takes no negative
#: indices: ONNX counts those from the end.
INDICES = "dlbridge.indices"
#: JSON {module path: number of the call} on a node of modules that the model calls more than once.
CALLS = "dlbridge.calls"

# --- on the graph -------------------------------------------------------------------------------------------------
#: JSON {module path: class name} of the blocks ("layer1.0": "BasicBlock"); the root's path is "".
BLOCKS = "dlbridge.blocks"
#: Seed of the initial weights, a decimal number.
SEED = "dlbridge.seed"

#: JSON list of what the named sizes of the inputs must keep ("seq <= 512"), as ``dlbridge.constraints`` reads it.
CONSTRAINTS = METADATA_KEY
#: JSON {name of an input or output: its name in the ONNX file that the model was read from}, where that is another.
PORTS = "dlbridge.ports"
#: JSON list of the keys under which the model returns its outputs, in a dict; one for each output, in their order.
KEYS = "dlbridge.keys"
#: JSON of the special tokens of a model that generates, as ``dlbridge.decoding.Settings`` reads it.
GENERATION = decoding.METADATA_KEY

Kind = Literal["parameter", "frozen", "buffer", "constant"]


def has(of: ir.Value | ir.Node, trait: str) -> bool:
    """Whether a value or node has a trait that is had or not."""
    return of.metadata_props.get(trait) == "true"


def mark(of: ir.Value | ir.Node, trait: str) -> None:
    """Give a trait that is had or not to a value or node."""
    of.metadata_props[trait] = "true"


def _loaded(of: ir.Value | ir.Node | ir.Graph, trait: str, default: Any) -> Any:
    """A trait that is JSON."""
    text = of.metadata_props.get(trait)
    return default if text is None else json.loads(text)


def kind(value: ir.Value) -> Kind:
    """What an initializer is: a trained ``parameter``, a ``frozen`` one, a ``buffer`` (state that training updates
    or keeps, e.g. running statistics; in the state dict), or a ``constant`` (part of the code)."""
    return value.metadata_props.get(KIND, "constant")  # type: ignore[return-value]


def set_kind(value: ir.Value, what: Kind) -> None:
    value.metadata_props[KIND] = what


def is_trained(value: ir.Value) -> bool:
    return kind(value) == "parameter"


def is_parameter(value: ir.Value) -> bool:
    """Whether a value is a weight that trains, or a frozen one."""
    return value.is_initializer() and kind(value) in ("parameter", "frozen")


def called(value: ir.Value) -> dict[str, str]:
    """Path of a module -> what the code that a value was read from calls it there."""
    return _loaded(value, CALLED, {})


def set_called(value: ir.Value, names: Mapping[str, str]) -> None:
    """Add names to those of ``called``, which go first."""
    if names:
        value.metadata_props[CALLED] = json.dumps({**names, **called(value)})


def variable(value: ir.Value, trait: str = VARIABLE) -> str | None:
    """The variable that a value, or (``TOWARDS``) what is computed from it, has in the code that it was read from."""
    node = value.producer()
    said = value.metadata_props.get(trait)
    if said is None and node is not None and len(node.outputs) == 1:
        said = node.metadata_props.get(trait)
    return said


def keep_variable(old: ir.Value, new: ir.Value) -> None:
    """Let a value that takes the place of another be called as that was."""
    said = variable(old) or variable(old, TOWARDS)
    if said is not None:
        new.metadata_props[VARIABLE] = said


def trains_both_biases(node: ir.Node) -> bool:
    """Whether the bias of a recurrent node's state trains beside that of its input.

    In a GRU whose state is reset behind the product, that bias is one of its own in every framework.
    """
    reset = node.attributes.get("linear_before_reset")  # which GRU alone has
    apart = reset is not None and reset.as_int() == 1
    return apart or node.metadata_props.get(BIASES) == "two"


def dropout(node: ir.Node) -> float:
    """The probability with which an Attention drops its weights in training."""
    return float(node.metadata_props.get(DROPOUT, 0.0))


def set_dropout(node: ir.Node, probability: float) -> None:
    if probability:
        node.metadata_props[DROPOUT] = repr(float(probability))


def aliases(value: ir.Value) -> list[str]:
    """Further names of an initializer in the state dict that it was read from."""
    return _loaded(value, ALIASES, [])


def add_alias(value: ir.Value, name: str) -> None:
    value.metadata_props[ALIASES] = json.dumps([*aliases(value), name])


def is_transposed(value: ir.Value | None) -> bool:
    """Whether a matrix is held as (in, out) where it was read from, and nothing but Linear reads it."""
    return (
        value is not None
        and has(value, TRANSPOSED)
        and all((use.node.domain, use.node.op_type, use.idx) == ("dlbridge", "Linear", 1) for use in value.uses())
    )


def scope(node: ir.Node) -> str:
    """Path of the block that a node stands in: all of its dotted name but the last part."""
    return (node.name or "").rpartition(".")[0]


def counts_forward(node: ir.Node) -> bool:
    """Whether the indices of a node are not negative, as the code that it was read from takes no others."""
    return node.metadata_props.get(INDICES) == "not negative"


def set_counts_forward(node: ir.Node) -> None:
    node.metadata_props[INDICES] = "not negative"


def calls(node: ir.Node) -> dict[str, int]:
    """{module path: number of the call, from 0}, of the modules around a node that are called more than once."""
    return _loaded(node, CALLS, {})


def is_anonymous(node: ir.Node) -> bool:
    return has(node, ANONYMOUS)


def blocks(graph: ir.Graph) -> dict[str, str]:
    """{module path: class name} of the blocks of a graph."""
    return _loaded(graph, BLOCKS, {})


def set_blocks(graph: ir.Graph, classes: dict[str, str]) -> None:
    if classes:
        graph.metadata_props[BLOCKS] = json.dumps(classes)


def constraints(graph: ir.Graph) -> list[Expression]:
    """What the named sizes of a graph's inputs must keep.

    Raises:
        ValueError: When the text is no list of constraints.
    """
    found = _loaded(graph, CONSTRAINTS, [])
    return parse(found if isinstance(found, list) else [found])


def set_constraints(graph: ir.Graph, texts: Sequence[str]) -> None:
    if texts:
        graph.metadata_props[CONSTRAINTS] = json.dumps(list(texts))


def port_names(graph: ir.Graph) -> dict[str, str]:
    """{name of an input or output: its name in the ONNX file that the model was read from}, where that is another."""
    return _loaded(graph, PORTS, {})


def set_port_names(graph: ir.Graph, names: Mapping[str, str]) -> None:
    graph.metadata_props.pop(PORTS, None)
    if names:
        graph.metadata_props[PORTS] = json.dumps(dict(names))


def output_keys(graph: ir.Graph) -> list[str] | None:
    """The keys of the dict that the model returns, in the order of the outputs; None where it returns no dict."""
    keys = _loaded(graph, KEYS, None)
    return keys if keys is not None and len(set(keys)) == len(graph.outputs) == len(keys) else None


def set_output_keys(graph: ir.Graph, keys: Sequence[str] | None) -> None:
    graph.metadata_props.pop(KEYS, None)
    if keys:
        graph.metadata_props[KEYS] = json.dumps(list(keys))


def initializer_spec(value: ir.Value) -> dict[str, Any] | None:
    """The named initialiser that made a weight, or None when its numbers came from elsewhere."""
    text = value.metadata_props.get(INIT)
    return json.loads(text) if text else None
