"""A picture of a model: its nodes from top to bottom, coloured by kind, as an SVG file."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dlbridge.files import writing
from dlbridge.model import Model
from dlbridge.ops.keys import op_key

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 170, 36, 24, 30, 20
_COLOURS = {
    "weights": "#c6dbef",
    "normalization": "#d9f0d3",
    "activation": "#fee8c8",
    "shape": "#eeeeee",
    "interface": "#e7d4e8",
    "other": "#ffffff",
}
_KINDS = {
    "weights": {"Conv", "ConvTranspose", "Linear", "Gemm", "MatMul", "Embedding", "LSTM", "GRU", "RNN", "Attention"},
    "activation": {
        "Relu",
        "Gelu",
        "Sigmoid",
        "Tanh",
        "Softmax",
        "LogSoftmax",
        "Swish",
        "HardSwish",
        "LeakyRelu",
        "Elu",
    },
    "shape": {"Reshape", "Transpose", "Flatten", "Concat", "Split", "Slice", "Squeeze", "Unsqueeze", "Gather", "Pad"},
}


def save(model: Model, path: str | Path, *, force: bool = False) -> Path:
    """Draw a model into an SVG file.

    Raises:
        FileError: When the file exists and ``force`` is not set.
    """
    with writing(path, force=force) as fresh:
        fresh.write_text(svg(model), encoding="utf-8")
    return Path(path)


def svg(model: Model, marked: Collection[str] = ()) -> str:
    """The picture: a row for each step away from the inputs, an edge for each value that a node reads.

    Args:
        model: The model.
        marked: Names of the nodes that have a red border.
    """
    boxes = _place(model)
    width = max(x for x, _, _, _ in boxes.values()) + _WIDTH + _MARGIN
    height = max(y for _, y, _, _ in boxes.values()) + _HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f"<title>{escape(model.name)}</title>",
    ]
    parts += [_edge(boxes, source, target, label) for source, target, label in _edges(model)]
    parts += [_box(*box, is_marked=isinstance(item, ir.Node) and item.name in marked) for item, box in boxes.items()]
    return "\n".join([*parts, "</svg>", ""])


Box = tuple[int, int, str, str]


def _place(model: Model) -> dict[object, Box]:
    """Position, text and kind of every node, input and output, in rows by the longest way from an input."""
    depth: dict[object, int] = dict.fromkeys(model.inputs, 0)
    for node in model.graph:
        above = [_origin(v) for v in node.inputs if v is not None]
        depth[node] = 1 + max((depth[a] for a in above if a in depth), default=0)
    for value in model.outputs:
        depth[("out", value)] = 1 + depth.get(_origin(value), 0)
    rows: dict[int, list[object]] = {}
    for item, level in depth.items():
        rows.setdefault(level, []).append(item)
    widest = max(len(r) for r in rows.values())
    boxes: dict[object, Box] = {}
    for level, items in rows.items():
        left = _MARGIN + (widest - len(items)) * (_WIDTH + _GAP_X) // 2
        for column, item in enumerate(items):
            x, y = left + column * (_WIDTH + _GAP_X), _MARGIN + level * (_HEIGHT + _GAP_Y)
            boxes[item] = (x, y, *_label(item))
    return boxes


def _label(item: object) -> tuple[str, str]:
    if isinstance(item, ir.Node):
        return f"{item.op_type}\n{item.name}", _kind(op_key(item))
    value: Any = item[1] if isinstance(item, tuple) else item
    return f"{value.name}\n{value.shape}", "interface"


def _kind(op_type: str) -> str:
    if op_type.endswith("Normalization"):
        return "normalization"
    return next((kind for kind, ops in _KINDS.items() if op_type in ops), "other")


def _origin(value: ir.Value) -> object:
    return value.producer() or value


def _edges(model: Model) -> list[tuple[object, object, str]]:
    edges: list[tuple[object, object, str]] = []
    for node in model.graph:
        for value in node.inputs:
            if value is not None and not value.is_initializer():
                edges.append((_origin(value), node, str(value.shape or "")))
    edges += [(_origin(v), ("out", v), "") for v in model.outputs]
    return edges


def _edge(boxes: dict[object, Box], source: object, target: object, label: str) -> str:
    if source not in boxes:
        return ""
    x1, y1 = boxes[source][0] + _WIDTH // 2, boxes[source][1] + _HEIGHT
    x2, y2 = boxes[target][0] + _WIDTH // 2, boxes[target][1]
    bend = max(12, (y2 - y1) // 2)
    path = f"M{x1} {y1} C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="#999"><title>{escape(label)}</title></path>'


def _box(x: int, y: int, text: str, kind: str, *, is_marked: bool) -> str:
    border = 'stroke="#d00" stroke-width="3"' if is_marked else 'stroke="#666"'
    first, _, second = text.partition("\n")
    middle = x + _WIDTH // 2
    shown = second if len(second) <= 28 else "…" + second[-27:]
    return (
        f'<g><title>{escape(text)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" '
        f'fill="{_COLOURS[kind]}" {border}/>'
        f'<text x="{middle}" y="{y + 15}" text-anchor="middle" font-weight="bold">{escape(first)}</text>'
        f'<text x="{middle}" y="{y + 28}" text-anchor="middle" fill="#555">{escape(shown)}</text></g>'
    )
