"""Reading a model of any kind: files, folders, live objects, names of functions that make one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlbridge import checkpoints, factories, frameworks, renaming
from dlbridge.errors import DlbridgeError, FileError, SignatureError
from dlbridge.garbage import fewer_searches
from dlbridge.limits import limited
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.repository.layout import CONFIG_FILE, find_model

_DESCRIPTIONS = (".yaml", ".yml", ".json")
#: Files of weights by the names that a model has here.
_OWN_NAMES = (".safetensors", ".npz")
#: Suffixes of files that hold weights and no model.
_OF_WEIGHTS = (*_OWN_NAMES, ".bin", ".ckpt")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
#: What ``load`` is told of one model alone: how it is made, what its inputs are called.
MAKING = ("arguments", "weights", "strict", "rename")


@fewer_searches()
def load(
    source: Any,
    *,
    arguments: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    strict: bool = True,
    rename: Mapping[str, str] | None = None,
    limits: Mapping[str, int] | None = None,
    **options: Any,
) -> Model:
    """Read a model of any kind into the neutral form.

    Args:
        source: A description (``.yaml``, ``.json``), a saved model's folder, an entry of a repository of served
            models, a folder that a Hugging Face model was saved to (its class and inputs are those of its
            ``config.json``), a file of a framework (``.pt2``, ``.keras``, ``.h5``, ``.onnx``), a live ``nn.Module``,
            ``ExportedProgram`` or ``keras.Model``, or the name of a function that makes one: of an installed package
            (``"torchvision.models:resnet18"``), or of a file
            in the current folder or elsewhere (``"mynet:Net"``, ``"models/mynet.py:Net"``). It returns a model, or a
            model and example inputs, whose sizes are fixed unless ``inputs`` names them.
        arguments: What such a function or class is called with, by name: ``{"hidden": 64}``.
        weights: A file of weights for the model that it makes: a state dict or a checkpoint (``.pt``, ``.pth``,
            ``.bin``, ``.ckpt``), ``.safetensors``, ``.npz``, the index of several (``.index.json``), ``.weights.h5``.
            For a model that is read, ``.safetensors`` or ``.npz``: ``best.safetensors`` of a training.
        strict: Whether that file must have the model's weights and no others.
        rename: Other names of inputs and outputs: ``{"input.1": "image"}``.
        limits: How much a file may ask for, where that is to be more than ``dlbridge.limits.Limits`` says:
            ``{"nodes": 1_000_000}``.
        options: The ``ReadOptions`` of the framework that reads it, e.g.
            ``inputs={"x": "float32[batch,3,224,224]"}``.

    Raises:
        FileError: When there is no such file, or nothing here reads it.
        DlbridgeError: When the framework takes no such option.
        UnsupportedOpError: When the model has ops that no rule reads; all of them are named.
    """
    if isinstance(source, Model):
        if rename or arguments or weights is not None:
            raise DlbridgeError(
                "this model is read already: it takes no arguments, weights or other names",
                where=source.name,
                hint="say them where it is read; model.set_weights replaces its weights",
            )
        return source
    with limited(limits):
        if is_name(source):
            made = factories.make(source, arguments)
            if weights is not None:
                factories.fill(made, Path(weights), strict=strict)
            model = _load_made(made, source, options)
        elif arguments:
            raise DlbridgeError(
                "arguments are for a function or class that makes the model",
                where=_name(source),
                hint="name one: mynet:Net, models/mynet.py:Net",
            )
        else:
            model = _load(source, options)
            if weights is not None:
                _fill(model, Path(weights), _name(source), strict=strict)
    if rename:
        renaming.rename(model, rename)
    return model


def is_name(source: Any) -> bool:
    """Whether a source is the name of a function or class that makes a model."""
    return isinstance(source, str) and factories.is_name(source) and not Path(source).exists()


def _name(source: Any) -> str:
    """What messages call a source."""
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _fill(model: Model, path: Path, where: str, *, strict: bool) -> None:
    """Put the weights of a file into a model that was read, whose names they have: ``best.safetensors`` of a training.

    Raises:
        FileError: When the file is missing, broken, or holds weights by the names of a framework.
        WeightsError: When they do not fit the model.
    """
    if path.suffix.lower() not in _OWN_NAMES:
        raise FileError(
            f"weights for a model that is read are {' or '.join(_OWN_NAMES)}, by its own names",
            where=str(path),
            hint=f"other files of weights are for a function or class that makes the model; '{where}' is none",
        )
    (file,) = checkpoints.files(path)
    found, held = checkpoints.arrays(file), model.graph.initializers
    missing = [name for name, value in held.items() if name not in found and traits.kind(value) != "constant"]
    unexpected = [name for name in found if name not in held]
    shapes = {name: tuple(value.const_value.shape.numpy()) for name, value in held.items() if value.const_value}
    differing = checkpoints.differing({name: array.shape for name, array in found.items()}, shapes)
    taken = len(found) - len(unexpected)
    checkpoints.check(missing, unexpected, differing, str(path), strict=strict, taken=taken)
    model.set_weights({name: array for name, array in found.items() if name in held})


def _load(source: Any, options: dict[str, Any]) -> Model:
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), options)
    return _load_live(source, options)


def _load_made(made: factories.Made, name: str, options: dict[str, Any]) -> Model:
    """Read what a function made: the model has its name, and its example inputs, where the options say nothing."""
    if isinstance(made.model, Model):
        return made.model
    if made.framework is None:
        raise DlbridgeError(f"it makes a {type(made.model).__name__}", where=name, hint=_readable())
    taken = {option.name for option in frameworks.declared(made.framework.ReadOptions)}
    known = {"name": made.name, "example": made.example}
    defaults = {name: value for name, value in known.items() if name in taken and value is not None}
    return made.framework.read(made.model, **{**defaults, **options})


def _load_live(source: Any, options: dict[str, Any]) -> Model:
    """Read a live object."""
    framework = frameworks.reader_of(source)
    if framework is not None:
        return framework.read(source, **options)
    raise DlbridgeError(f"cannot read a {type(source).__module__}.{type(source).__qualname__}", hint=_readable())


def _readable() -> str:
    readable = [framework.name for framework in frameworks.all_frameworks() if framework.reads]
    return f"models of these frameworks can be read: {', '.join(readable)}"


def _load_path(path: Path, options: dict[str, Any]) -> Model:
    """Read a description, a saved model's folder, or a framework's file."""
    if not path.exists():
        hint = "dlbridge downloads nothing: name a file" if _ADDRESS.match(str(path)) else None
        raise FileError("no such file or folder", where=str(path), hint=hint)
    if path.name.lower().endswith((".weights.h5", ".index.json")):
        raise _weights_alone(path)
    if (path / CONFIG_FILE).is_file():
        path = find_model(path)
    for framework in frameworks.all_frameworks() if path.is_dir() else ():
        if framework.accepts_folder(path):
            return framework.read(path, **options)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in _DESCRIPTIONS:
        from dlbridge import description

        unknown = sorted(options.keys() - {"partial", "name"})
        if unknown:
            raise DlbridgeError(f"a description says all itself: it takes no '{unknown[0]}'", where=str(path))
        model = description.load(path)
        model.graph.name = options.get("name") or model.graph.name
        return model
    for framework in frameworks.all_frameworks():
        if suffix in framework.suffixes:
            return framework.read(path, **options)
    if suffix == ".py":
        hint = f"name the function or class in it that makes the model: {path}:NAME"
        raise FileError("a file of Python code is no model", where=str(path), hint=hint)
    if suffix in _OF_WEIGHTS:
        raise _weights_alone(path)
    known = [*_DESCRIPTIONS, *(suffix for framework in frameworks.all_frameworks() for suffix in framework.suffixes)]
    what = f"'{suffix}' is no model that dlbridge reads" if suffix else "its name has no suffix that says what it is"
    raise FileError(what, where=str(path), hint=f"known: {', '.join(known)}")


def _weights_alone(path: Path) -> FileError:
    return FileError(
        "these are weights alone, without the model that they are of",
        where=str(path),
        hint="name the function or class that makes the model (mynet.py:Net), with this file as its --weights",
    )


def of_others(reading: Mapping[str, Any]) -> dict[str, Any]:
    """The options of reading for models that another one is compared with: how that one is made is its own."""
    return {name: value for name, value in reading.items() if name not in MAKING}


def load_other(other: Any, reading: Mapping[str, Any]) -> Any:
    """Load the model that another one is compared with.

    A ``Source`` and the folder that one was saved to are returned as they are: verification runs them itself. Anything
    else is read, first without options; if that leaves its inputs open, with the options of the first model, whose
    inputs are matched by name and then by position.
    """
    if hasattr(other, "framework") and hasattr(other, "arrays"):
        return other
    if isinstance(other, (str, os.PathLike)) and (Path(other) / "model.py").is_file():
        return Path(other)
    inputs = reading.get("inputs")
    attempts: list[dict[str, Any]] = [{}]
    if reading:
        attempts.append(dict(reading))
    if isinstance(inputs, Mapping):
        attempts.append({**reading, "inputs": tuple(inputs.values())})
    for options in attempts[:-1]:
        try:
            return load(other, **options)
        except SignatureError:
            continue
    return load(other, **attempts[-1])
