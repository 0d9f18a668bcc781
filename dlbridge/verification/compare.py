"""Compares the routes: PyTorch, Keras, and onnxruntime on the ONNX written directly, by torch.onnx and by tf2onnx."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, VerificationError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import precision
from dlbridge.verification.inputs import batch_dim, random_inputs

#: The judges: PyTorch with everything in float64; where PyTorch is not to be had, onnxruntime, or, for what onnxruntime
#: runs, the standard's reference evaluator.
JUDGES = {
    "pytorch": "pytorch float64",
    "onnx": "onnxruntime",
    "reference": "the ONNX reference evaluator",
    "original": "the original",
}
#: The route of what the model was read from, where it can run.
ORIGINAL = "original"
#: Route -> (framework that is live, whether its ONNX export is what runs).
ROUTES: dict[str, tuple[str, bool]] = {
    "pytorch": ("pytorch", False),
    "keras": ("keras", False),
    "onnx": ("onnx", False),
    "onnx via torch.onnx": ("pytorch", True),
    "onnx via tf2onnx": ("keras", True),
}
#: Rounding that float32 is allowed in any case, relative to the largest output.
BOUND = 1e-5
#: How much more than PyTorch's own float32 error a route may have where that is larger than the bound.
FACTOR = 4.0

Arrays = dict[str, np.ndarray]


@dataclass
class Check:
    """One route on one input: its error against the judge, per output.

    Errors are ``max |y - y_ref| / max |y_ref|``; NaN and infinity must stand in the same places.
    """

    route: str
    sizes: dict[str, int]
    errors: dict[str, float]
    bound: float
    passed: bool
    message: str = ""


@dataclass
class Report:
    """What verification found.

    Attributes:
        model: The model's name.
        checks: One for each route and input.
        pairs: (route, route) -> the largest relative difference between them over all inputs and outputs.
        failures: Route -> why it could not be run at all.
    """

    model: str
    judge: str = JUDGES["pytorch"]
    checks: list[Check] = field(default_factory=list)
    pairs: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and not self.failures and all(c.passed for c in self.checks)

    def require(self) -> None:
        """Do nothing when all routes agree.

        Raises:
            VerificationError: When one departs or could not run.
        """
        if self.passed:
            return
        lines = [f"{route}: {why}" for route, why in self.failures.items()]
        for route, check in self.worst().items():
            if not check.passed:
                error = max(check.errors.values(), default=float("inf"))
                lines.append(
                    f"{route}: {check.message or f'error {error:.1e} at {check.sizes}, bound {check.bound:.0e}'}"
                )
        raise VerificationError(
            "does not agree with " + self.judge + ":\n    " + "\n    ".join(lines), where=self.model
        )

    @property
    def largest_difference(self) -> float:
        """The largest relative difference between any two routes."""
        return max(self.pairs.values(), default=0.0)

    def worst(self) -> dict[str, Check]:
        """Route -> its check with the largest error."""
        found: dict[str, Check] = {}
        for check in self.checks:
            error = max(check.errors.values(), default=0.0)
            best = found.get(check.route)
            if best is None or not check.passed or error > max(best.errors.values(), default=0.0):
                found[check.route] = check
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return {
            "model": self.model,
            "judge": self.judge,
            "passed": self.passed,
            "checks": [asdict(c) for c in self.checks],
            "pairs": [{"routes": list(pair), "difference": value} for pair, value in self.pairs.items()],
            "failures": self.failures,
        }


def verify(
    model: Model,
    *,
    routes: Sequence[str] | None = None,
    batch_sizes: Iterable[int] = (1, 2, 7),
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    judge: str = "pytorch",
    written: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run a model by every route on the same inputs and judge each against PyTorch in float64.

    Args:
        model: The model.
        routes: Which of ``ROUTES``, and ``"original"`` for a model that was read from one; all when None.
        batch_sizes: Sizes of the batch to try; a model without a symbolic batch is tried once for each seed.
        sizes: Sizes of other symbolic dimensions.
        inputs: Arrays to use besides the random ones.
        seed: Seed of the random inputs.
        judge: One of ``JUDGES``: ``"pytorch"`` in float64; ``"onnx"`` and ``"reference"`` need no framework;
            ``"original"`` is what the model was read from.
        written: Framework -> its ``Source`` of this model, where that very one is to be verified.
        progress: Called with what is being done.

    Returns:
        The report; a route that departs or cannot run is in it, and ``report.passed`` is False.

    Raises:
        DlbridgeError: When the judge cannot run, or a route is unknown.
    """
    known = [*ROUTES, ORIGINAL] if model.original is not None else list(ROUTES)
    wanted = known if routes is None else list(routes)
    unknown = [r for r in wanted if r not in known]
    if unknown:
        raise DlbridgeError(f"unknown route '{unknown[0]}'", hint=f"routes: {', '.join(known)}")
    tell = progress or (lambda text: None)
    cases = _cases(model, batch_sizes, dict(sizes or {}), inputs, seed)
    tell(JUDGES[judge])
    judged = _judge(model, judge, [arrays for _, arrays in cases])
    results: dict[str, list[Arrays]] = {}
    report = Report(model.name, JUDGES[judge])
    with tempfile.TemporaryDirectory() as folder:
        for route in wanted:
            tell(route)
            try:
                arrays = [arrays for _, arrays in cases]
                results[route] = _run_route(model, route, arrays, Path(folder), dict(written or {}))
            except Exception as error:  # a route that breaks is a finding, not the end of the others
                report.failures[route] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    # what float32 owes can be told from float64 alone: against another judge a fault would excuse itself
    exact = judge == "pytorch" and "pytorch" in results
    owed = [_errors(r, j) for r, j in zip(results["pytorch"], judged, strict=True)] if exact else None
    for route, outputs in results.items():
        for index, ((case, _), output) in enumerate(zip(cases, outputs, strict=True)):
            own = max(owed[index].values(), default=0.0) if owed else 0.0
            report.checks.append(_check(route, case, output, judged[index], own))
    for a, b in itertools.combinations(results, 2):
        report.pairs[a, b] = max(
            (e for x, y in zip(results[a], results[b], strict=True) for e in _errors(x, y).values()), default=0.0
        )
    return report


def _cases(
    model: Model,
    batch_sizes: Iterable[int],
    sizes: dict[str, int],
    inputs: Mapping[str, np.ndarray] | None,
    seed: int,
) -> list[tuple[dict[str, int], Arrays]]:
    name = batch_dim(model)
    cases: list[tuple[dict[str, int], Arrays]] = []
    for position, batch in enumerate(batch_sizes):
        case = {**({name: batch} if name else {}), **sizes}
        cases.append((case, random_inputs(model, case, seed=seed + position)))
    if inputs is not None:
        cases.append(({}, {k: np.asarray(v) for k, v in inputs.items()}))
    return cases


def _judge(model: Model, judge: str, cases: list[Arrays]) -> list[Arrays]:
    if judge in ("onnx", ORIGINAL):
        return _run_route(model, judge, cases, Path(), {})
    if judge == "reference":
        return _run_reference(model, cases)
    framework = frameworks.get("pytorch")
    exact = precision.convert(model, "float64")
    live = framework.load(framework.write(exact))
    return [framework.run(live, {k: _widen(v) for k, v in arrays.items()}) for arrays in cases]


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _run_reference(model: Model, cases: list[Arrays]) -> list[Arrays]:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(ir.to_proto(model.ir))
    names = [v.name or "" for v in model.graph.outputs]
    with np.errstate(all="ignore"):
        return [dict(zip(names, evaluator.run(None, dict(arrays)), strict=True)) for arrays in cases]


def _run_route(model: Model, route: str, cases: list[Arrays], folder: Path, written: Mapping[str, Any]) -> list[Arrays]:
    if route == ORIGINAL:
        assert model.original is not None
        return [model.original(arrays) for arrays in cases]
    name, exported = ROUTES[route]
    framework = frameworks.get(name)
    source = written[name] if name in written else framework.write(model)
    live = framework.load(source)
    if exported:
        path = framework.export(live, model, folder / f"{name}.onnx", opset=traits.EXPORT_OPSET)
        framework = frameworks.get("onnx")
        live = framework.load(path)
    given, returned = _moved(source.model.graph.inputs), _moved(source.model.graph.outputs)
    return [_move(framework.run(live, _move(arrays, given, last=True)), returned, last=False) for arrays in cases]


def _moved(values: Iterable[ir.Value]) -> set[str]:
    """Names of the inputs or outputs that a writer made channels-last."""
    return {v.name or "" for v in values if v.metadata_props.get(traits.LAYOUT) == "channels_last"}


def _move(arrays: Arrays, moved: set[str], *, last: bool) -> Arrays:
    source, target = (1, -1) if last else (-1, 1)
    return {k: np.moveaxis(v, source, target) if k in moved else v for k, v in arrays.items()}


def _check(route: str, case: dict[str, int], output: Arrays, judged: Arrays, own: float) -> Check:
    bound = max(BOUND, FACTOR * own)
    missing = set(judged) ^ set(output)
    if missing:
        return Check(route, case, {}, bound, False, f"outputs differ: {', '.join(sorted(missing))}")
    wrong = [k for k in judged if output[k].shape != judged[k].shape]
    if wrong:
        k = wrong[0]
        return Check(route, case, {}, bound, False, f"{k} has shape {output[k].shape}, not {judged[k].shape}")
    errors = _errors(output, judged)
    return Check(route, case, errors, bound, all(e <= bound for e in errors.values()))


def _errors(output: Arrays, reference: Arrays) -> dict[str, float]:
    return {k: relative_error(output[k], reference[k]) for k in reference if k in output}


def relative_error(y: np.ndarray, reference: np.ndarray) -> float:
    """``max |y - ref| / max |ref|``; infinite where shapes, NaN or infinities differ, or integers are not equal."""
    if y.shape != reference.shape:
        return float("inf")
    if reference.dtype.kind in "biu":
        return 0.0 if np.array_equal(y, reference) else float("inf")
    y, reference = y.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(y[~finite], reference[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.abs(reference[finite]).max()
    return float(np.abs(y[finite] - reference[finite]).max() / (scale if scale > 0 else 1.0))
