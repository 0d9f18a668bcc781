"""Routes: the ways to run a model, one for each framework, each framework's ONNX exporter, and each device where a
framework runs models beside the CPU (``onnx on cuda``)."""

from __future__ import annotations

import json
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, FileError, MissingKernelError, WrittenModelError, suggest
from dlbridge.garbage import free_memory
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.ops.strings import has_strings
from dlbridge.source.program import WRITTEN_FILE
from dlbridge.verification.inputs.sizes import has_large_weights
from dlbridge.verification.judge import ORIGINAL
from dlbridge.verification.measure import Arrays
from dlbridge.verification.weight_check import Unlike, unlike_weights

_VIA = f"{frameworks.STANDARD} via "
_ON = " on "


def known(model: Model) -> list[str]:
    """The routes of a model: it is written for each framework, exported to ONNX by each exporter, or the original."""
    return [*_owners(), *([ORIGINAL] if model.original is not None else [])]


def usual(model: Model) -> list[str]:
    """The routes that are run where the user names none: without other forms of what a framework writes."""
    forms = {name for name, framework in _owners().items() if framework.form_of}
    return [name for name in known(model) if name not in forms]


def left_out(model: Model) -> dict[str, str]:
    """The usual routes that a model cannot take, each with a sentence that says why: its framework is not installed,
    or the model has strings and the framework has none."""
    owners, found = _owners(), dict[str, str]()
    texts = has_strings(model.graph)
    for name in usual(model):
        framework = owners.get(name)
        if framework is None:
            continue
        if not framework.is_installed:
            found[name] = framework.not_installed
        elif texts and not framework.has_strings:
            found[name] = f"{framework.name} has no strings"
    return found


def _owners() -> dict[str, frameworks.Framework]:
    """Route -> the framework that the model is written in for it."""
    found = frameworks.all_frameworks()
    exported = {f"{_VIA}{framework.exporter}": framework for framework in found if framework.exporter is not None}
    devices = {f"{f.name}{_ON}{device}": f for f in found if f.is_installed for device in f.devices()}
    return {**{framework.name: framework for framework in found}, **devices, **exported}


class Route:
    """One way to run a model, built and loaded.

    Args:
        model: The model.
        name: One of ``known(model)``.
        written: Framework -> the ``Source`` to run; other frameworks write the model anew.
        title: What reports call it; its name when None.
        folder: Where the source was saved to: its file and its weights are run instead.

    Attributes:
        note: What a reader of the report should know about how it was run; empty if there is nothing special.
        eps: 0: a route has the types of the model.
        folds: Whether the exporter of a framework wrote it, which computes constants in the model's types: a batch
            normalization that becomes part of the kernel before it.
        text: The written file that is run; empty where there is none.
        as_written: The framework that runs it, and that writes of the model what is run; None where what is run has
            been edited, or came from elsewhere, or has types that the framework does not run.

    Raises:
        DlbridgeError: When there is no such route.
        WrittenModelError: When the model cannot be built or loaded there; the message has the reason.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        written: Mapping[str, Any],
        *,
        title: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name, self.note, self.eps, self.text = title or name, "", 0.0, ""
        self.folds = False
        self._model = model
        self.as_written: str | None = None
        self._types: dict[str, np.dtype] | None = None
        self._framework: frameworks.Framework | None = None
        self._live: Any = None
        self._source: Any = None
        if name == ORIGINAL:
            self._inputs: set[str] = set()
            self._outputs: set[str] = set()
            return
        framework = _owners().get(name)
        if framework is None:
            raise unknown(name, model)
        source = written[framework.name] if framework.name in written else framework.write(model)
        device = name.removeprefix(f"{framework.name}{_ON}") if _ON in name else None
        try:
            live = _loaded(framework, source, folder, device)
        except MissingKernelError as error:
            if framework.exact(source) is None:
                raise
            live, self._types = source, _types(source)
            self.note = f"compared by the reference evaluator: {error.message.splitlines()[0]}"
        except DlbridgeError:
            raise
        except Exception as error:  # executing generated code and frameworks can raise anything
            raise WrittenModelError(f"it cannot be built: {_said(error)}") from error
        is_as_written = title is None if folder is None else _is_as_written(source, folder)
        if name == framework.name and is_as_written and self._types is None:
            self._source, self.as_written = source, name
        if device is not None:
            self.note = f"on {device}, with products of float32 in float32 (no TF32)"
        elif name != framework.name:
            self.folds = True
            path = self._exported(framework, live)
            del live  # before the file is loaded
            if has_large_weights(model):
                free_memory()
            framework = frameworks.get(frameworks.STANDARD)
            live = framework.load(path)
        self.text = getattr(getattr(live, "dlbridge_source", None), "text", "")
        self._framework, self._live = framework, live
        written_model = getattr(source, "model", model)
        self._inputs, self._outputs = _moved(written_model.graph.inputs), _moved(written_model.graph.outputs)

    def _exported(self, framework: frameworks.Framework, live: Any) -> Path:
        """The file that a framework's exporter writes; the folder goes with the route, which reads it again."""
        self._folder = tempfile.TemporaryDirectory(prefix="dlbridge-")
        target = Path(self._folder.name) / "exported.onnx"
        return framework.export(live, self._model, target, opset=traits.EXPORT_OPSET)

    def run(self, arrays: Arrays) -> Arrays:
        """Run it: arrays by input name -> arrays by output name, in the model's layout.

        Raises:
            WrittenModelError: When it cannot be run; the message has the reason.
        """
        return next(self._runs(arrays, again=False))

    def run_again(self, arrays: Arrays) -> Iterator[Arrays]:
        """As ``run``, once for each way in which users of the framework run a model."""
        return self._runs(arrays, again=True)

    def _runs(self, arrays: Arrays, *, again: bool) -> Iterator[Arrays]:
        if self._framework is None:
            assert self._model.original is not None
            yield self._model.original(arrays)
            return
        given = _move(arrays, self._inputs, last=True)
        try:
            for found in self._found(self._framework, given, again=again):
                yield self._taken(found)
        except DlbridgeError:
            raise
        except Exception as error:
            raise WrittenModelError(f"it cannot be run: {_said(error)}") from error

    def _found(self, framework: frameworks.Framework, given: Arrays, *, again: bool) -> Iterable[Any]:
        """What the framework returns for inputs in its own layout."""
        if self._types is not None:
            return [self._run_exact(given)]
        if again:
            return framework.run_again(self._live, given)
        return [framework.run(self._live, given)]

    def _taken(self, found: Any) -> Arrays:
        """The outputs of a run, in the model's layout."""
        if not isinstance(found, Mapping):
            text = f"it cannot be run: 'run' returned a {type(found).__name__}, not arrays by the names of the outputs"
            raise WrittenModelError(text)
        return _move({name: np.asarray(array) for name, array in found.items()}, self._outputs, last=False)

    def unlike_weights(self) -> list[Unlike]:
        """The weights that are not the model's, where it was written of the model."""
        if self._source is None or self._framework is None:
            return []
        return list(unlike_weights(self._model, self._source, self._framework.weights_one_by_one(self._live)))

    def _run_exact(self, arrays: Arrays) -> Arrays:
        """Run a model whose types have no kernels here in float64, and round the outputs to their types."""
        run, types = self._opens_exact(), self._types
        assert run is not None and types is not None
        with np.errstate(over="ignore"):
            return {name: array.astype(types.get(name, array.dtype)) for name, array in run(arrays).items()}

    def _opens_exact(self) -> frameworks.Exact | None:
        """Return what runs it in float64; None if nothing does."""
        if self._framework is not None:
            return self._framework.exact(self._live)
        opens = getattr(self._model.original, "exact", None)
        return opens() if opens is not None else None

    def exact(self, cases: Sequence[Arrays], seen: list[np.ndarray] | None = None) -> list[Arrays] | None:
        """Run it in float64 on each set of inputs; None if the framework has no float64 run."""
        run = self._opens_exact()
        if run is None:
            return None
        return [_move(run(_move(c, self._inputs, last=True), seen=seen), self._outputs, last=False) for c in cases]

    def in_own_types(self, arrays: Arrays, seen: list[np.ndarray]) -> Arrays | None:
        """Run it in its own types; None if it does not show what it computes. ``seen`` gets each array on the way."""
        shows = getattr(self._opens_exact(), "in_own_types", None)
        if shows is None:
            return None
        return _move(shows(_move(arrays, self._inputs, last=True), seen), self._outputs, last=False)


def _loaded(framework: frameworks.Framework, source: Any, folder: Path | None, device: str | None) -> Any:
    if device is not None:
        return framework.load_on(source, device)
    return framework.load(source) if folder is None else framework.load_saved(source, folder)


def _is_as_written(source: Any, folder: Path) -> bool:
    """Whether a saved file is what is written today, so that its weights have the same names and the same meaning."""
    return (folder / "model.py").read_text(encoding="utf-8").strip() == str(source.text).strip()


def devices_of(names: Iterable[str]) -> list[str]:
    """What routes ran on: the CPU, and the devices in their names."""
    return ["CPU", *sorted({name.partition(_ON)[2].upper() for name in names if name in _owners() and _ON in name})]


def saved_route(model: Model, title: str, folder: Path) -> Route:
    """The route of a folder that a framework's source was saved to. The file in it is executed.

    Raises:
        DlbridgeError: When no framework saves such a folder, or it cannot be run as a form of the model.
    """
    for framework in frameworks.all_frameworks():
        if framework.weights_file and (folder / framework.weights_file).is_file():
            written = framework.write(model, **_options_of(folder, framework.name))
            return Route(model, framework.name, {framework.name: written}, title=title, folder=folder)
    known_files = ", ".join(f.weights_file for f in frameworks.all_frameworks() if f.weights_file)
    raise FileError(f"there are no weights beside {folder / 'model.py'}", hint=f"one of {known_files} belongs there")


def _options_of(folder: Path, framework: str) -> dict[str, Any]:
    """The options with which a folder was written (another layout of its inputs, say), as the certificate in it states
    them; none where it has no certificate."""
    try:
        request = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))["request"]
        options = request["options"] if request["to"] == framework else {}
    except (OSError, ValueError, LookupError, TypeError):  # none, or one that somebody has changed
        return {}
    return options if isinstance(options, dict) else {}


def unknown(route: str, model: Model) -> DlbridgeError:
    """The error for a route that does not exist."""
    names = known(model)
    return DlbridgeError(f"unknown route '{route}'", hint=suggest(route, names) or f"routes: {', '.join(names)}")


def _types(source: Any) -> dict[str, np.dtype]:
    """The dtypes of a written graph's outputs."""
    return {v.name or "": v.dtype.numpy() for v in source.ir.graph.outputs if v.dtype is not None}


def _said(error: Exception) -> str:
    """What an error says, and the line of the written file in which it was raised."""
    text = str(error).strip()
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(WRITTEN_FILE)]
    return f"{said} (line {lines[-1].lineno} of the written file: {lines[-1].line})" if lines else said


def _moved(values: Iterable[ir.Value]) -> set[str]:
    """The names of the inputs or outputs that the writer made channels-last."""
    return {v.name or "" for v in values if v.metadata_props.get(traits.LAYOUT) == "channels_last"}


def _move(arrays: Mapping[str, np.ndarray], moved: set[str], *, last: bool) -> Arrays:
    source, target = (1, -1) if last else (-1, 1)
    return {k: np.moveaxis(v, source, target) if k in moved else v for k, v in arrays.items()}
