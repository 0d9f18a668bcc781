"""Converts a model for a task, which may take several graphs; and lets what was written generate, in its framework."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlbridge import api, factories, frameworks, loading
from dlbridge.decoding import DECODER, ENCODER, Settings
from dlbridge.errors import DlbridgeError, FileError
from dlbridge.files import check_free, writing
from dlbridge.ops import traits
from dlbridge.runtime.generation import Generator, Part
from dlbridge.runtime.signature import Port
from dlbridge.runtime.text import COMPANIONS, TOKENIZER_FILE, find_tokenizer


def convert(
    source: Any,
    to: str,
    output: str | os.PathLike[str] | None,
    *,
    task: str,
    read: Mapping[str, Any] | None = None,
    force: bool = False,
    **options: Any,
) -> Any:
    """Convert a model for a task; see :func:`dlbridge.convert`.

    Returns:
        What was written, or a dict of it by the names of the graphs where there are several.

    Raises:
        DlbridgeError: When no framework reads the model for the task.
    """
    read = dict(read or {})
    source, read = _opened(source, read)
    parts = _parts(source, task, read)
    if len(parts) == 1:
        written = api.convert(source, to, output, read={**read, "task": task}, force=force, **options)
        into = options.get("into")
        for folder in (output, None if into is None else Path(into) / written.name):
            _take_tokenizer(source, folder)
        return written
    if options.get("into") is not None:
        raise DlbridgeError(f"a repository of served models takes one graph, '{task}' makes {len(parts)}")
    if output is None:
        return {name: api.convert(source, to, read={**read, "task": part}, **options) for name, part in parts.items()}
    check_free(output, force=force)
    if Path(output).suffix:
        raise DlbridgeError(f"'{task}' makes {' and '.join(parts)}: name a folder", where=str(output))
    found = {}
    with writing(output, force=force) as fresh:
        fresh.mkdir()
        for name, part in parts.items():
            found[name] = api.convert(source, to, fresh / name, read={**read, "task": part}, **options)
    _take_tokenizer(source, output)
    return found


def _opened(source: Any, read: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a function makes by its name, so that it is called once; other sources as they are."""
    if not loading.is_name(source):
        return source, read
    made = factories.make(source, read.pop("arguments", None))
    weights, strict = read.pop("weights", None), read.pop("strict", True)
    if weights is not None:
        factories.fill(made, Path(weights), strict=strict)
    return made.model, {"name": made.name, **read}


def _parts(source: Any, task: str, read: Mapping[str, Any]) -> dict[str, str]:
    """The graphs that a task takes: the name of each -> the task that reads it."""
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and not Path(source).exists():
        raise FileError("no such file or folder", where=str(source))
    for framework in frameworks.all_frameworks():
        if framework.accepts_folder(Path(source)) if is_path else framework.accepts(source):
            return framework.parts(source, task, trust_code=bool(read.get("trust_code")))
    where = str(source) if is_path else type(source).__name__
    raise DlbridgeError(f"the task '{task}' is for a live model, its name or its folder", where=where)


def _take_tokenizer(source: Any, output: str | os.PathLike[str] | None) -> None:
    """Copy the tokenizer of a model's folder, and what belongs to it, into the folder that was written."""
    if output is None or not Path(output).is_dir() or not isinstance(source, (str, os.PathLike)):
        return
    found = find_tokenizer(source)
    for name in (TOKENIZER_FILE, *COMPANIONS) if found is not None else ():
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, Path(output) / name)


def generator(written: Any) -> Generator:
    """Lets what was written for a task generate, in the framework that it was written for.

    Args:
        written: What ``dlbridge.convert(..., task="generate")`` returns.

    Example:
        >>> written = dlbridge.convert(decoder, framework, task="generate")
        >>> generator(written).generate([[1, 15, 27]], max_tokens=8)
    """
    if isinstance(written, Mapping):
        decoder, encoder = written[DECODER], _part(written[ENCODER])
    else:
        decoder, encoder = written, None
    text = decoder.model.graph.metadata_props.get(traits.GENERATION)
    settings = Settings() if text is None else Settings.loads(text, decoder.model.name)
    return Generator(_part(decoder), encoder, settings, decoder.model.name)


def _part(written: Any) -> Part:
    framework = frameworks.get(written.framework)
    run = functools.partial(framework.run, framework.load(written))
    return Part(run, tuple(_port(value) for value in written.model.inputs))


def _port(value: Any) -> Port:
    return Port(value.name, value.dtype.numpy(), tuple(s if isinstance(s, int) else s.value for s in value.shape))
