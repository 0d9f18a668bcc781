"""Inputs and outputs of a written file have the names of the ONNX file that the model was read from.

A model's own names are identifiers: ``input.1`` of a file is ``input_1`` of the model. Who feeds the old file by name
can feed the new one.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dlbridge.ops.names import make_room, ports


def with_names(model: ir.Model, names: Mapping[str, str]) -> ir.Model:
    """A model whose inputs and outputs have other names: the model itself where none has another.

    A name that a weight or another input or output has is not given.

    Args:
        model: A written graph; it is left as it is.
        names: Name of an input or output -> its name in the file.
    """
    if all(names.get(str(value.name), value.name) == value.name for value in ports(model.graph)):
        return model
    graph = model.graph.clone()
    given = _new_names(graph, names)
    make_room(graph, set(given.values()))
    for value in ports(graph):
        value.name = given.get(str(value.name), value.name)
    return ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        functions=list(model.functions.values()),
        metadata_props=dict(model.metadata_props),
    )


def _new_names(graph: ir.Graph, names: Mapping[str, str]) -> dict[str, str]:
    """Name of an input or output -> the other name that it can have."""
    said = [str(value.name) for value in ports(graph)]
    taken = {*graph.initializers, *(name for name in said if names.get(name, name) == name)}
    given: dict[str, str] = {}
    for name in said:
        new = names.get(name, name)
        if new != name and new and new not in taken:
            given[name] = new
        taken.add(given.get(name, name))
    return given
