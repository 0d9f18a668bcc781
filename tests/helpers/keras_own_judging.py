"""Whether what Keras' own tests use is converted right: each case as a model, read, written, run and compared."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from tests.helpers.keras_own_tests import OpCall

TARGETS = ("pytorch", "onnx", "keras")
#: Largest error, as a part of the largest element, by the dtype that Keras computes in.
TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2, "float64": 1e-5, "float8_e4m3fn": 0.1, "float8_e5m2": 0.2}


class NoModelError(Exception):
    """Keras makes no model of the case, so that there is nothing to convert."""


@dataclass(unsafe_hash=True)
class Outcome:
    """What became of a case on a target.

    Attributes:
        case: A name for the case.
        target: The framework that it was written in; ``read`` where reading ended it for all.
        kind: ``right``, ``wrong``, ``raw`` (an error that is not ours) or ``refused``.
        reason: What is wrong, or the error.
        test: The test that the case is of.
    """

    case: str
    target: str
    kind: str
    reason: str = ""
    test: str = ""


# --- one model -------------------------------------------------------------------------------------------------------


def judged(
    case: str,
    model: keras.Model,
    inputs: Sequence[keras.KerasTensor],
    samples: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
    targets: Sequence[str] = TARGETS,
) -> Iterator[Outcome]:
    """Convert a model to all targets and compare what they give with (arrays, what Keras gives) of each sample."""
    try:
        read = frameworks.get("keras").read(model, trust_code=True)
    except DlbridgeError as error:
        yield from (Outcome(case, target, "refused", reason_of(error)) for target in targets)
        return
    except Exception as error:
        yield from (Outcome(case, target, "raw", raw(error)) for target in targets)
        return
    samples = list(samples)
    for target in targets:
        yield Outcome(case, target, *_on(target, read, samples))


def _on(target: str, read: Model, samples: Iterable[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]]) -> tuple:
    framework = frameworks.get(target)
    try:
        live = framework.load(read.write(target))
    except DlbridgeError as error:
        return "refused", reason_of(error)
    except Exception as error:
        return "raw", raw(error)
    for arrays, wanted in samples:
        try:
            answers = framework.run(live, dict(zip([v.name for v in read.inputs], arrays, strict=True)))
        except DlbridgeError as error:
            return "refused", reason_of(error)
        except Exception as error:
            return "raw", raw(error)
        wrong = difference([answers[v.name] for v in read.outputs], wanted)
        if wrong:
            return "wrong", wrong
    return "right", ""


def difference(answers: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> str:
    """What is wrong with the answers; empty where they are right."""
    if len(answers) != len(wanted):
        return f"{len(answers)} outputs for {len(wanted)}"
    for answer, right in zip(answers, wanted, strict=True):
        if answer.dtype != right.dtype:
            return f"{answer.dtype} for {right.dtype}"
        if answer.shape != right.shape:
            return f"{answer.dtype}{answer.shape} for {right.dtype}{right.shape}"
        error = _error(answer, right)
        if error > (TOLERANCE.get(str(right.dtype), 1e-4) if _is_float(right) else 0):
            return f"off by {error:.1e} ({right.dtype})"
    return ""


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind in "fcV" or "float" in str(array.dtype)


def _error(answer: np.ndarray, right: np.ndarray) -> float:
    """The largest difference as a part of the largest element; infinite where what is no number differs."""
    if not right.size:
        return 0.0
    if not _is_float(right):
        return float(np.sum(answer != right))
    wide = np.complex128 if right.dtype.kind == "c" else np.float64
    answer, right = answer.astype(wide), right.astype(wide)
    finite = np.isfinite(right)
    if not np.array_equal(answer[~finite], right[~finite], equal_nan=True) or not np.isfinite(answer[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    gap = np.abs(answer - right)[finite].max()
    return float(gap / max(np.abs(right[finite]).max(), 1e-3))


def reason_of(error: DlbridgeError) -> str:
    """An error of ours as one line, without what belongs to this one model."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    kernel = re.search(r"NOT_IMPLEMENTED.*implementation for (\w+)", text)
    if kernel:
        return f"onnxruntime has no kernel for {kernel[1]} of that type"
    if "onnxruntime cannot load" in str(error):
        return "onnxruntime cannot load the model"
    return _plain(re.sub(r"^[\w.]+: (?=[A-Z]\w*: )", "", text))


def raw(error: Exception) -> str:
    text = (str(error).strip() or "").splitlines()
    return _plain(f"{type(error).__name__}: {text[0] if text else ''}")


def _plain(text: str) -> str:
    """A line without the numbers that Keras gives to names, and without others."""
    return re.sub(r"\d+", "N", re.sub(r"_\d+", "", re.sub(r"0x\w+", "", text)))[:160].strip()


# --- operations ------------------------------------------------------------------------------------------------------


def signature(call: OpCall) -> str:
    """What makes the model of a call: its operation, its fixed arguments, the shapes and dtypes of its tensors."""
    nest = tree.map_structure(
        lambda v: f"{v.dtype}{list(v.shape)}" if isinstance(v, np.ndarray) else repr(v), (call.args, call.kwargs)
    )
    return re.sub(r"['\" ]| at 0x\w+", "", f"{call.name}{nest}")


def grouped(calls: Iterable[OpCall]) -> dict[str, list[OpCall]]:
    """Calls that are the same model, with the different numbers that it is given."""
    found: dict[str, dict[bytes, OpCall]] = defaultdict(dict)
    for call in calls:
        numbers = [v.tobytes() for v in tree.flatten((call.args, call.kwargs)) if isinstance(v, np.ndarray)]
        found[signature(call)].setdefault(b"|".join(numbers), call)
    return {key: list(some.values()) for key, some in found.items()}


def judge_calls(calls: Sequence[OpCall], targets: Sequence[str] = TARGETS) -> list[Outcome]:
    """Calls of one signature, as a model whose inputs are the tensors.

    Raises:
        NoModelError: When Keras makes no model of them.
    """
    first = calls[0]
    model, inputs, places = op_model(first)
    samples = []
    for call in calls:
        leaves = tree.flatten((call.args, call.kwargs))
        fixed = [i for i, v in enumerate(leaves) if isinstance(v, np.ndarray) and i not in places]
        same = all(np.array_equal(leaves[i], tree.flatten((first.args, first.kwargs))[i]) for i in fixed)
        if same:
            samples.append(([leaves[i] for i in places], flat_arrays(call.result)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(judged(signature(first), model, inputs, _agreed(model, samples), targets))
    for outcome in found:
        outcome.test = first.test
    return found


def _agreed(model: keras.Model, samples: list[tuple[list, list]]) -> list[tuple[list, list]]:
    """The samples on which Keras' model gives what Keras' function gave."""
    kept = []
    for arrays, wanted in samples:
        try:
            answers = flat_arrays(model(arrays if len(arrays) > 1 else arrays[0]))
        except Exception:
            continue
        if not difference(answers, wanted):
            kept.append((arrays, wanted))
    if not kept:
        raise NoModelError("Keras' model gives other than its function")
    return kept


def op_model(call: OpCall) -> tuple[keras.Model, list[keras.KerasTensor], list[int]]:
    """(a model that makes the call, its inputs, the places of its tensors among the leaves of the arguments).

    Where Keras does not take all tensors without numbers, only the first is an input.
    """
    leaves = tree.flatten((call.args, call.kwargs))
    tensors = [i for i, v in enumerate(leaves) if isinstance(v, np.ndarray)]
    problem = "no tensor without numbers comes out"
    for places in [tensors, tensors[:1]] if len(tensors) > 1 else [tensors]:
        inputs = {i: keras.Input(batch_shape=leaves[i].shape, dtype=str(leaves[i].dtype)) for i in places}
        args, kwargs = tree.pack_sequence_as((call.args, call.kwargs), [inputs.get(i, v) for i, v in enumerate(leaves)])
        try:
            result = call.function(*args, **kwargs)
            outputs = tree.flatten(result)
            if outputs and all(isinstance(v, keras.KerasTensor) for v in outputs):
                return keras.Model(list(inputs.values()), outputs), list(inputs.values()), places
        except Exception as error:
            problem = raw(error)
    raise NoModelError(problem)


def flat_arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(v)) for v in tree.flatten(result)]


# --- ledgers ---------------------------------------------------------------------------------------------------------


def ledger(outcomes: Iterable[Outcome], name: Callable[[Outcome], str]) -> set[str]:
    """What is refused and why: ``numpy.pad | onnx | the reason``, with ``all`` where every target refuses."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for outcome in outcomes:
        if outcome.kind == "refused":
            found[name(outcome), outcome.reason].add(outcome.target)
    return {
        f"{one} | {target} | {reason}"
        for (one, reason), targets in found.items()
        for target in (["all"] if targets == set(TARGETS) else sorted(targets))
    }


def wrong(outcomes: Iterable[Outcome]) -> list[str]:
    """What is neither right nor refused."""
    return [
        f"{o.case} | {o.target} | {o.kind}: {o.reason} ({o.test})"
        for o in outcomes
        if o.kind not in ("right", "refused")
    ]


def entries(path: Path) -> set[str]:
    """The lines of a ledger."""
    return set(path.read_text().splitlines())
