"""Measures what a model loses in a narrower float type, or with its weights in few bits.

A conversion is proved: its error is explained by rounding. What is lost here is chosen, so there is no bound that it
could be held to; it is measured, and said with the inputs that it was measured on. Other inputs may lose more.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, MissingKernelError, VerificationError
from dlbridge.ops.keys import op_key
from dlbridge.verification.figures import figures
from dlbridge.verification.measure import Arrays, is_float, relative_error

#: What a certificate says of the numbers.
STATEMENT = "measured on these inputs, not proved: other inputs may lose more"
#: How many of the nodes that lose most are reported.
_TOLD = 5
#: Values of nodes are compared while they take no more bytes than this.
_MOST_VALUES = 1 << 30
#: A run is timed this often, and for no longer than so many seconds.
_TIMES, _SECONDS = 15, 10.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OutputLoss(_Part):
    """What one output loses."""

    relative: float = Field(description="The size of the difference relative to the output's (root mean square).")
    largest: float = Field(description="The largest difference relative to the output's largest number.")
    argmax: float | None = Field(None, description="The share of rows whose largest number stays at its place.")
    rows: int = Field(0, description="The rows that this share is of.")


class NodeLoss(_Part):
    """A node whose result is further off than what it is computed from."""

    node: str
    op: str
    relative: float = Field(description="The relative difference of its result (root mean square).")
    before: float = Field(description="The largest such difference of what it is computed from.")


class Pair(_Part):
    """A figure before and after."""

    before: float
    after: float


class Loss(_Part):
    """What is lost, and what is won, by less precision."""

    precision: str = Field(description="What was asked for: float16, bfloat16, int8, int8-static, int4.")
    statement: str = STATEMENT
    inputs: str = Field(description="The inputs on which it was measured.")
    measured_by: str = Field(description="How the model with less precision was run.")
    outputs: dict[str, OutputLoss]
    nodes: list[NodeLoss] = Field(description="The nodes that lose most by themselves, the worst first.")
    bytes: Pair = Field(description="The size of the weights.")
    milliseconds: Pair | None = Field(description="The time of one run of the first inputs, in onnxruntime here.")
    not_timed: str = Field("", description="Why it was not timed.")

    @property
    def summary(self) -> str:
        """A line for people."""
        name, worst = max(self.outputs.items(), key=lambda item: item[1].relative)
        parts = [f"{_bytes(self.bytes.before)} -> {_bytes(self.bytes.after)}"]
        if self.milliseconds is not None:
            parts.append(f"{self.milliseconds.before:.3g} -> {self.milliseconds.after:.3g} ms here")
        parts.append(f"relative error {worst.relative:.1e} of '{name}'")
        agreeing = [out.argmax for out in self.outputs.values() if out.argmax is not None]
        if agreeing:
            parts.append(f"the largest number at the same place in {min(agreeing):.1%} of rows")
        if self.nodes:
            parts.append(f"most is lost at {self.nodes[0].node} ({self.nodes[0].op})")
        return f"{self.precision}: {', '.join(parts)} ({STATEMENT})"


def _bytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def measure(
    full: Any, narrow: Any, cases: Sequence[Arrays], *, precision: str, inputs: str, rounded: Any = None
) -> Loss:
    """Compare a model with less precision with the same model before.

    Args:
        full: The model before, as it is written in the standard.
        narrow: The model with less precision, written in the standard.
        cases: The sets of inputs.
        precision: What was asked for.
        inputs: What the inputs are, for people.
        rounded: What computes as ``narrow`` does on devices that have its types: it is run in its place.

    Raises:
        VerificationError: When an output is no longer finite.
    """
    standard = frameworks.get(frameworks.STANDARD)
    run_as = rounded or narrow
    before, after = standard.load(full), standard.load(run_as)
    pairs = [(standard.run(before, arrays), standard.run(after, arrays)) for arrays in cases]
    for arrays, (exact, less) in zip(cases, pairs, strict=True):
        if not _is_finite(exact, less):
            raise _not_finite(full, run_as, arrays, precision)
    nodes = _worst_nodes(full, run_as, cases[0])
    milliseconds, not_timed = _timed(before, narrow, cases[0], after if rounded is None else None)
    how = "each of its results rounded to the type, in onnxruntime" if rounded is not None else "onnxruntime"
    return Loss(
        precision=precision,
        inputs=inputs,
        measured_by=how,
        outputs={name: _output_loss([(b[name], a[name]) for b, a in pairs]) for name in pairs[0][0]},
        nodes=nodes[:_TOLD],
        bytes=Pair(before=_weights(full.ir), after=_weights(narrow.ir)),
        milliseconds=milliseconds,
        not_timed=not_timed,
    )


def _weights(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


# --- outputs ----------------------------------------------------------------------------------------------------------


def _output_loss(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> OutputLoss:
    argmax, rows = [], []
    for before, after in pairs:
        found = figures(after, before, 0.0).argmax
        if found is not None:
            argmax.append(found)
            rows.append(before.size // before.shape[-1])
    share = float(np.average(argmax, weights=rows)) if sum(rows) else None
    return OutputLoss(
        relative=max(_relative(before, after) for before, after in pairs),
        largest=max(relative_error(after, before) for before, after in pairs),
        argmax=share,
        rows=sum(rows),
    )


def _relative(before: np.ndarray, after: np.ndarray) -> float:
    """The size of the difference relative to that of the numbers before; infinite where NaN or infinities differ."""
    if before.shape != after.shape:
        return float("inf")
    if not is_float(before.dtype):
        return 0.0 if np.array_equal(before, after) else float(np.mean(before != after))
    x, y = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(x)
    if not np.isfinite(y[finite]).all():
        return float("inf")
    size = float(np.linalg.norm(x[finite]))
    difference = float(np.linalg.norm((y - x)[finite]))
    if size == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / size


def _is_finite(before: Arrays, after: Arrays) -> bool:
    """Whether outputs are finite wherever they were before."""
    return all(_relative(array, after[name]) < float("inf") for name, array in before.items())


def _not_finite(full: Any, narrow: Any, arrays: Arrays, precision: str) -> VerificationError:
    """The error that names the first node whose numbers leave the range of the type."""
    nodes = {each.node for each in _worst_nodes(full, narrow, arrays) if each.relative == float("inf")}
    first = next((node for node in full.ir.graph if _name(node) in nodes), None)
    if first is None:
        return VerificationError(f"its outputs are not finite in {precision}", where=full.name)
    return VerificationError(
        f"its outputs are not finite in {precision}: the first numbers out of range are those of {op_key(first)} "
        f"'{_name(first)}'",
        where=full.name,
        hint=f"keep it, and what reads it, in float32: --keep-float32 {_name(first)}",
    )


# --- nodes ------------------------------------------------------------------------------------------------------------


def _worst_nodes(full: Any, narrow: Any, arrays: Arrays) -> list[NodeLoss]:
    """The nodes whose results are further off than what they are computed from, the worst first."""
    names = _common_values(full.ir, narrow.ir)
    try:
        before, after = _values(full, names, arrays), _values(narrow, names, arrays)
    except DlbridgeError:
        return []  # a value that cannot be an output: nothing is told of the nodes
    errors = {name: _relative(before[name], after[name]) for name in names if name in before and name in after}
    found = []
    for node in full.ir.graph:
        own = [errors[value.name] for value in node.outputs if value.name in errors]
        if not own:
            continue
        given = max((errors.get(value.name, 0.0) for value in node.inputs if value is not None), default=0.0)
        if max(own) > given:
            found.append(NodeLoss(node=_name(node), op=op_key(node), relative=max(own), before=given))
    return sorted(found, key=lambda each: -(each.relative - each.before if each.before < float("inf") else 0.0))


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or ""


def _common_values(full: ir.Model, narrow: ir.Model) -> list[str]:
    """Names of the float values that nodes of both graphs make."""
    kinds = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    made = {value.name for node in narrow.graph for value in node.outputs}
    return [
        value.name
        for node in full.graph
        for value in node.outputs
        if value.name and value.name in made and value.dtype in kinds
    ]


def _values(source: Any, names: Sequence[str], arrays: Arrays) -> Arrays:
    """The arrays of these values of a written model, as far as they fit into memory together."""
    standard = frameworks.get(frameworks.STANDARD)
    model = source.ir.clone()
    values = {value.name: value for node in model.graph for value in node.outputs}
    had = {output.name for output in model.graph.outputs}
    model.graph.outputs.extend(values[name] for name in names if name not in had)
    live = standard.load(dataclasses.replace(source, ir=model))
    found, size = {}, 0
    for name, array in standard.run(live, arrays).items():
        size += array.nbytes
        if size > _MOST_VALUES:
            break
        found[name] = array
    return found


# --- speed ------------------------------------------------------------------------------------------------------------


def _timed(before: Any, narrow: Any, arrays: Arrays, live: Any) -> tuple[Pair | None, str]:
    """How long a run takes before and after, by turns; None, and why, where onnxruntime cannot run it here."""
    standard = frameworks.get(frameworks.STANDARD)
    try:
        after = live or standard.load(narrow)
        standard.run(after, arrays)
    except MissingKernelError:
        return None, "onnxruntime has no kernels for it on this machine"
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + _SECONDS
    for _ in range(_TIMES):
        for times, each in zip(taken, (before, after), strict=True):
            start = time.perf_counter()
            standard.run(each, arrays)
            times.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    first, second = (statistics.median(times) * 1000 for times in taken)
    return Pair(before=first, after=second), ""


def rows_of(cases: Sequence[Mapping[str, np.ndarray]]) -> str:
    """``3 sets of inputs`` for people."""
    return f"{len(cases)} set{'s' if len(cases) != 1 else ''} of inputs"
