"""A model as one HTML file to look at: its graph, which folds by module, beside the code that it becomes.

The file needs nothing else: no server, no network. Everything in it is text from the model, escaped.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.files import writing
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.passes import shapes
from dlbridge.verification.departures.depth import Depth, name_of
from dlbridge.verification.pages.markup import Markup, joined, tag

#: A graph with more nodes is shown with its blocks folded.
_FOLDED_FROM = 60

_STYLE = """
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: #222; height: 100vh }
body { display: grid; grid-template: auto 1fr 1fr / 1fr 1fr }
main { grid-row: 2 / 4 } pre.original { border-bottom: 1px solid #ccc }
header { grid-column: 1 / 3; padding: 8px 16px; border-bottom: 1px solid #ccc }
header b { font-size: 17px } header span { color: #666; margin-left: 12px }
main, pre { overflow: auto; margin: 0; padding: 12px 16px } pre { background: #f7f7f7; font-size: 12.5px }
details { border-left: 3px solid #c6dbef; padding-left: 10px; margin: 3px 0 } summary { cursor: pointer }
.node { padding: 2px 6px; border-radius: 4px; cursor: pointer; margin: 1px 0 }
.node:hover { background: #f0f0f0 }
.chosen { background: #fff1a8 } .from { background: #d9f0d3 } .to { background: #fee8c8 }
.op { font-weight: 600; margin-right: 8px } .shape, .size { color: #777; margin-left: 8px; font-size: 12px }
.error { margin-left: 8px; font-size: 12px } .marked { background: #fff1a8 }
input { margin-left: 16px; padding: 2px 6px }
"""

_SCRIPT = """
const nodes = new Map([...document.querySelectorAll('.node')].map(n => [n.id, n]));
const readers = new Map();
for (const n of nodes.values())
  for (const maker of n.dataset.from.split(' ').filter(Boolean)) {
    if (!readers.has(maker)) readers.set(maker, []);
    readers.get(maker).push(n.id);
  }
function clear() { for (const n of nodes.values()) n.classList.remove('chosen', 'from', 'to'); }
const printed = new Map([...document.querySelectorAll('.code [data-class]')].map(e => [e.dataset.class, e]));
const originals = new Map([...document.querySelectorAll('.original [data-of]')].map(e => [e.dataset.of, e]));
function around(element, found) {  // the innermost class that is known here
  for (let e = element; e; e = e.parentElement)
    if (found.has(e.dataset?.class)) return found.get(e.dataset.class);
}
function show(element) {
  document.querySelectorAll('.marked').forEach(e => e.classList.remove('marked'));
  const place = around(element, printed), original = around(element, originals);
  if (place) { place.classList.add('marked'); place.scrollIntoView({block: 'center'}); }
  for (const part of originals.values()) part.hidden = part !== original;
}
function choose(node) {
  clear();
  node.classList.add('chosen');
  for (const id of node.dataset.from.split(' ').filter(Boolean)) nodes.get(id)?.classList.add('from');
  for (const id of readers.get(node.id) || []) nodes.get(id)?.classList.add('to');
  show(node);
}
document.querySelector('main').addEventListener('click', event => {
  const node = event.target.closest('.node');
  if (node) choose(node);
  else { const block = event.target.closest('summary')?.parentElement; if (block) show(block); }
});
document.querySelector('input').addEventListener('input', event => {
  const words = event.target.value.toLowerCase();
  for (const n of nodes.values()) {
    const hit = words && n.textContent.toLowerCase().includes(words);
    n.classList.toggle('chosen', Boolean(hit));
    if (hit) for (let d = n.closest('details'); d; d = d.parentElement.closest('details')) d.open = true;
  }
});
show(document.querySelector('main'));
document.body.dataset.nodes = nodes.size;
"""


@dataclass
class _Block:
    """A module: what stands in it, in order, and how much of it there is."""

    path: str
    parts: list[_Block | ir.Node] = field(default_factory=list)
    blocks: dict[str, _Block] = field(default_factory=dict)
    nodes: int = 0
    parameters: int = 0


def save(
    model: Model, path: str | os.PathLike[str], *, errors: Mapping[str, Depth] | None = None, force: bool = False
) -> Path:
    """Write the page.

    Args:
        model: The model.
        path: The file.
        errors: Route -> node -> its error, as ``Report.depth`` of a verification has them.
        force: Write over a file that exists.

    Raises:
        FileError: When the file exists and ``force`` is not set.
    """
    with writing(path, force=force) as fresh:
        fresh.write_text(page(model, errors or {}), encoding="utf-8")
    return Path(path)


def page(model: Model, errors: Mapping[str, Depth] | None = None) -> str:
    """The page of a model, with its code in the first framework that is installed; see ``save``."""
    framework = frameworks.get(frameworks.default_trainer())
    shown = model.clone()
    shapes.infer(shown.ir)
    root = _tree(shown)
    size = f"{root.nodes:,} nodes, {root.parameters:,} parameters"
    inputs = ", ".join(_value(v) for v in shown.inputs)
    outputs = ", ".join(_value(v) for v in shown.outputs)
    search = Markup('<input type="search" placeholder="find a node">')
    head = tag("header", tag("b", model.name), tag("span", size), tag("span", f"{inputs} -> {outputs}"), search)
    names = {node: f"n{number}" for number, node in enumerate(shown.graph)}
    classes = traits.blocks(shown.graph)
    drawn = _Drawn(names, classes, errors or {}, is_open=root.nodes <= _FOLDED_FROM)
    tree = tag("main", *drawn.parts(root), data_class=classes.get("", ""))
    content = joined(head, tree, _originals(model), tag("pre", *_code(model, framework), class_="code"))
    title = tag("title", f"{model.name}, dlbridge")
    top = Markup(f'<meta charset="utf-8">{title}<style>{_STYLE}</style>')
    return f"<!doctype html><html><head>{top}</head><body>{content}<script>{_SCRIPT}</script></body></html>\n"


def _value(value: ir.Value) -> str:
    return f"{value.name}: {value.dtype}{value.shape}"


def _tree(model: Model) -> _Block:
    """The blocks of a model; a weight that is shared counts once."""
    root, counted = _Block(""), set[ir.Value]()
    for node in model.graph:
        own = [v for v in node.inputs if v is not None and v.is_initializer() and traits.kind(v) == "parameter"]
        fresh = [v for v in own if v not in counted]
        counted.update(fresh)
        size = sum(v.const_value.size for v in fresh if v.const_value is not None)
        block, path = root, ""
        block.nodes, block.parameters = block.nodes + 1, block.parameters + size
        for part in filter(None, traits.scope(node).split(".")):
            path = f"{path}.{part}".lstrip(".")
            if path not in block.blocks:
                block.blocks[path] = _Block(path)
                block.parts.append(block.blocks[path])
            block = block.blocks[path]
            block.nodes, block.parameters = block.nodes + 1, block.parameters + size
        block.parts.append(node)
    return root


@dataclass
class _Drawn:
    """Draws blocks and nodes.

    Attributes:
        names: The nodes, with the name of each on the page.
        classes: Path of a block -> the class that it was.
        errors: Route -> node -> its error.
        is_open: Whether blocks are drawn unfolded.
    """

    names: dict[ir.Node, str]
    classes: dict[str, str]
    errors: Mapping[str, Depth]
    is_open: bool

    def parts(self, block: _Block) -> list[Markup]:
        found = []
        for part in block.parts:
            if isinstance(part, ir.Node):
                found.append(self._node(part))
                continue
            kind = self.classes.get(part.path, "")
            size = f"{part.nodes:,} nodes" + (f", {part.parameters:,} parameters" if part.parameters else "")
            title = tag("summary", tag("span", part.path, class_="op"), kind, tag("span", size, class_="size"))
            state = {"open": ""} if self.is_open else {}
            found.append(tag("details", title, *self.parts(part), data_class=kind, **state))
        return found

    def _node(self, node: ir.Node) -> Markup:
        makers = [v.producer() for v in node.inputs if v is not None]
        ids = " ".join(self.names[maker] for maker in makers if maker is not None and maker in self.names)
        outputs = ", ".join(f"{value.dtype}{value.shape}" for value in node.outputs)
        leaf = (node.name or "").rpartition(".")[2]
        parts = [tag("span", op_key(node), class_="op"), leaf, tag("span", outputs, class_="shape")]
        known = {route: of[name_of(node)] for route, of in self.errors.items() if name_of(node) in of}
        for route, error in known.items():
            parts.append(tag("span", f"{route} {error:.1e}", class_="error", style=f"color: {_color(error)}"))
        return tag("div", *parts, class_="node", id=self.names[node], data_from=ids)


def _color(error: float) -> str:
    """From grey, for what rounding to float32 explains, to red."""
    digits = min(max(math.log10(error) + 7, 0.0), 5.0) if error > 0 else 0.0
    return f"hsl(0 {20 * digits:.0f}% 45%)"


def _originals(model: Model) -> Markup:
    """The code of the classes that a model was read from, where there is some; the script shows one."""
    sources: Mapping[str, str] = getattr(model.original, "sources", dict)()
    shown: list[str] = [tag("span", text, data_of=name, hidden="") for name, text in sources.items()]
    return tag("pre", *(shown or ["The code that it was read from is not at hand."]), class_="original")


def _code(model: Model, framework: frameworks.Framework) -> Sequence[str]:
    """The lines of what a model is written as; those that begin a class can be found by its name."""
    try:
        text = framework.write(model).text
    except DlbridgeError as error:
        return [f"It is not written in {framework.title}: {error}"]
    lines = []
    for line in text.splitlines():
        name = re.match(r"class (\w+)|def (\w+)", line)
        said = (name[1] or name[2]) if name else None
        lines.append(joined(tag("span", line, data_class=said) if said else line, "\n"))
    return lines
