"""Edits of printed files, which plant faults into them. The lists are in ``tests/helpers/edits``, one for each target.

An edit is a line with the model, what is wrong, and the nodes at which the fault may be said to be; then the text that
is printed, each line behind a ``-``, and what becomes of it behind a ``+``. Weights are edited by a line
behind a ``=``: the weight (or several) as its file has it, and a statement that changes the array (or list) ``w``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx.printer

FOLDER = Path(__file__).parent / "edits"


@dataclass(frozen=True)
class Edit:
    """A fault that is planted by changing a printed file.

    Attributes:
        model: The model.
        what: What is wrong then.
        nodes: The names of the nodes of the neutral form at which the fault may be said to be.
        old: Text of the file.
        new: What its first place is changed to.
        weights: The weights that are changed in place of text.
        statement: What is done to them.
    """

    model: str
    what: str
    nodes: frozenset[str]
    old: str
    new: str
    weights: tuple[str, ...] = ()
    statement: str = ""

    def change(self, arrays: dict[str, np.ndarray]) -> None:
        """Change weights in place."""
        changed = [arrays[name] for name in self.weights]
        exec(self.statement, {"np": np, "w": changed[0] if len(changed) == 1 else changed})

    def of(self, text: str) -> str:
        """The file with the fault.

        Raises:
            ValueError: When the old text is not there: the file is printed in another way now.
        """
        if self.old not in text:
            raise ValueError(f"{self.model} has no '{self.old}' any more, in which to plant: {self.what}")
        return text.replace(self.old, self.new, 1)


def edits(to: str, folder: str = "") -> list[Edit]:
    """The edits of what is written for a framework; those of the folder ``unseen`` are of ``unseen_models``."""
    text = (FOLDER / folder / f"{to}.txt").read_text(encoding="utf-8")
    return [_read(part) for part in text.strip().split("\n\n")]


def _read(part: str) -> Edit:
    head, *lines = part.splitlines()
    model, what, nodes = head.split(": ")
    old, new, weights = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+=")
    names, _, statement = weights.partition(": ")
    return Edit(model, what, frozenset(nodes.split()), old, new, tuple(names.split()), statement)


@contextmanager
def planted(edit: Edit, target: Path) -> Iterator[None]:
    """A fault in what was written to a folder (or an ONNX file), which is as it was afterwards."""
    code = target / "model.py" if target.is_dir() else target
    weights = next(iter(target.glob("*weights*")), target)
    right = {file: file.read_bytes() for file in (code, weights)}
    try:
        if edit.weights:
            {".pt": _of_state_dict, ".h5": _of_hdf5, ".onnx": _of_initializers}[weights.suffix](edit, weights)
        if edit.old and code.suffix == ".onnx":
            _of_graph(edit, code)
        elif edit.old:
            code.write_text(edit.of(right[code].decode()), encoding="utf-8")
        yield
    finally:
        for file, content in right.items():
            file.write_bytes(content)


def _of_state_dict(edit: Edit, file: Path) -> None:
    import torch

    state = torch.load(file, weights_only=True)
    edit.change({name: tensor.numpy() for name, tensor in state.items()})
    torch.save(state, file)


def _of_hdf5(edit: Edit, file: Path) -> None:
    import h5py

    with h5py.File(file, "r+") as stored:
        arrays = {name: np.asarray(stored[name]) for name in edit.weights}
        edit.change(arrays)
        for name, array in arrays.items():
            stored[name][...] = array


def _of_initializers(edit: Edit, file: Path) -> None:
    model = onnx.load(file)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = {name: onnx.numpy_helper.to_array(initializers[name]).copy() for name in edit.weights}
    edit.change(arrays)
    for name, array in arrays.items():
        initializers[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, file)


def _of_graph(edit: Edit, file: Path) -> None:
    """Plant a fault into an ONNX file. The text that is edited has a node in each line, as ``onnx.printer`` has it."""
    model = onnx.load(file)
    lines = [onnx.printer.to_text(node).strip() for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(onnx.parser.parse_node(line) for line in edit.of("\n".join(lines)).splitlines())
    onnx.save(model, file)
