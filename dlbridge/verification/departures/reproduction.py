"""The smallest reproduction of a departure: the node alone as an ONNX file, its inputs, and a script that runs it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.files import writing
from dlbridge.verification.departures.departure import Departure

_SCRIPT = '''"""Runs the node alone where a form of a model departs from the original, and shows how far each is off."""

from pathlib import Path

import numpy as np
import onnxruntime

NODE = {node!r}
FORM = {form!r}
SAID = {said!r}

folder = Path(__file__).parent
data = np.load(folder / "node.npz")
session = onnxruntime.InferenceSession(folder / "node.onnx", providers=["CPUExecutionProvider"])
found = session.run(None, {{port.name: data["input " + port.name] for port in session.get_inputs()}})[0]
right = data["right"]
largest = np.abs(right).max()
print(SAID)
print(f"node {{NODE}} in onnxruntime: off by {{np.abs(found - right).max() / largest:.1e}}")
if "found" in data:
    print(f"what {{FORM}} has instead: off by {{np.abs(data['found'] - right).max() / largest:.1e}}")
'''


def write(departure: Departure, form: str, folder: Path, *, force: bool = False) -> Path | None:
    """Write the departing node alone into a folder.

    ``node.onnx`` is the node as it should be, ``node.npz`` has its inputs, the output that it should have and what the
    form has instead, ``node.py`` runs it. Where the form is a framework's, ``node_FRAMEWORK.py`` is the node as that is
    written.

    Args:
        departure: Where the form departs.
        form: The name of the form.
        folder: Where to put the folder of the form.
        force: Replace what is there.

    Returns:
        The folder; None if there is no node that can be run alone.

    Raises:
        FileError: When the folder exists and ``force`` is not set.
    """
    single = departure.single
    if single is None:
        return None
    standard = frameworks.get(frameworks.STANDARD)
    target = folder / re.sub(r"[^\w.-]+", "_", form).strip("_.")
    types = {v.name or "": v.dtype.numpy() for v in single.inputs if v.dtype is not None}
    arrays = {f"input {n}": a.astype(types.get(n, a.dtype)) for n, a in departure.inputs.items()}
    arrays["right"] = next(iter(departure.right.values()))
    if departure.found is not None:
        arrays["found"] = departure.found
    with writing(target, force=force) as fresh:
        fresh.mkdir(parents=True)
        standard.save(standard.write(single), fresh / "node.onnx")
        np.savez(fresh / "node.npz", **arrays)  # type: ignore[arg-type]
        script = _SCRIPT.format(node=departure.node, form=form, said=str(departure))
        (fresh / "node.py").write_text(script, encoding="utf-8")
        if form in frameworks.names() and form != standard.name:
            _write_source(departure, form, fresh)
    return target


def _write_source(departure: Departure, framework: str, folder: Path) -> None:
    assert departure.single is not None
    try:
        text = departure.single.write(framework).text
    except DlbridgeError:  # a node that has no rule alone
        return
    (folder / f"node_{framework}.py").write_text(text, encoding="utf-8")
