"""A model in numbers: layers, shapes, parameters, multiply-accumulates."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import onnx_ir as ir

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes

#: Size that a symbolic dimension counts as when operations are counted.
UNIT = 1


@dataclass
class Row:
    """A node: where it stands, what it makes, what it costs.

    ``macs`` counts multiply-accumulates for one sample (symbolic sizes count as 1); only ops that multiply by weights
    or by other tensors have them.
    """

    name: str
    op: str
    shape: str
    dtype: str
    parameters: int
    macs: int


@dataclass
class Summary:
    name: str
    inputs: list[str]
    outputs: list[str]
    rows: list[Row]
    parameters: int
    buffers: int
    bytes: int

    @property
    def macs(self) -> int:
        return sum(r.macs for r in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "macs": self.macs}


def summarize(model: Model) -> Summary:
    """Count a model's layers, parameters and operations. A weight that is shared counts once, at its first user."""
    model = model.clone()
    shapes.infer(model.ir)
    counted: set[ir.Value] = set()
    rows = []
    for node in model.graph:
        weights = [v for v in node.inputs if v is not None and v.is_initializer() and v not in counted]
        counted.update(weights)
        own = sum(_count(v) for v in weights if traits.is_parameter(v))
        out = node.outputs[0]
        rows.append(Row(node.name or "", op_key(node), str(out.shape), _dtype(out), own, macs(node)))
    initializers = list(model.graph.initializers.values())
    return Summary(
        name=model.name,
        inputs=[_signature(v) for v in model.inputs],
        outputs=[_signature(v) for v in model.outputs],
        rows=rows,
        parameters=sum(_count(v) for v in initializers if traits.is_parameter(v)),
        buffers=sum(_count(v) for v in initializers if traits.kind(v) == "buffer"),
        bytes=sum(v.const_value.nbytes for v in initializers if v.const_value is not None),
    )


def macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node for one sample."""
    out = _sizes(node.outputs[0])
    second = _sizes(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else []
    first = _sizes(node.inputs[0]) if node.inputs and node.inputs[0] is not None else []
    match op_key(node):
        case "Conv":
            return math.prod(out) * math.prod(second[1:])
        case "ConvTranspose":
            return math.prod(first) * math.prod(second[1:])
        case "Linear":
            return math.prod(out) * second[-1] if second else 0
        case "Gemm" | "MatMul":
            return math.prod(out) * _inner(node, first)
        case "RNN" | "LSTM" | "GRU":
            recurrent = _sizes(node.inputs[2])
            return math.prod(first[:-1]) * (math.prod(second) + math.prod(recurrent))
        case "Attention" if len(first) == 4 and len(second) == 4:
            return 2 * math.prod(first) * second[2]
    return 0


def _inner(node: ir.Node, first: list[int]) -> int:
    if not first:
        return 0
    is_transposed = "transA" in node.attributes and node.attributes["transA"].as_int() != 0
    return first[0] if is_transposed else first[-1]


def _sizes(value: ir.Value | None) -> list[int]:
    if value is None or value.shape is None:
        return []
    return [d if isinstance(d, int) else UNIT for d in value.shape]


def _count(value: ir.Value) -> int:
    return value.const_value.size if value.const_value is not None else math.prod(_sizes(value))


def _dtype(value: ir.Value) -> str:
    if value.dtype is None:
        return "?"
    return "string" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name


def _signature(value: ir.Value) -> str:
    return f"{value.name}: {_dtype(value)}{value.shape}"


#: A table of more rows is cut off.
_SHOWN_ROWS = 200


def table(summary: Summary) -> str:
    """A summary as an HTML table, of the first layers where there are very many."""
    head = "".join(f"<th>{title}</th>" for title in ("layer", "op", "output", "parameters"))
    rows = []
    for row in summary.rows[:_SHOWN_ROWS]:
        cells = (row.name, row.op, f"{row.dtype}{row.shape}", f"{row.parameters:,}" if row.parameters else "")
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    left = len(summary.rows) - _SHOWN_ROWS
    if left > 0:
        rows.append(f"<tr><td colspan=4>and {left:,} more</td></tr>")
    title = f"{summary.name}: {summary.parameters:,} parameters, {summary.bytes / 1e6:.1f} MB"
    ports = f"{', '.join(summary.inputs)} -> {', '.join(summary.outputs)}"
    return f"<b>{escape(title)}</b><br>{escape(ports)}<table><tr>{head}</tr>{''.join(rows)}</table>"
