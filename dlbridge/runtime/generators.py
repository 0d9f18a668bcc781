"""Opens models that generate: an ``.onnx`` file, an entry of a repository, a folder with an encoder and its decoder."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.decoding import DECODER, ENCODER, METADATA_KEY, Settings
from dlbridge.runtime.generation import Generator, Part
from dlbridge.runtime.loading import load
from dlbridge.runtime.session import Session


def generator(path: str | os.PathLike[str], **options: Any) -> Generator:
    """Open a model that generates.

    Args:
        path: An ``.onnx`` file, an entry of a repository, or a folder with the entries ``encoder`` and ``decoder``.
        options: As those of :func:`dlbridge.runtime.load`.

    Raises:
        FileError: When there is none.
        SignatureError: When it is no model that generates.
    """
    folder = Path(path)
    is_pair = all((folder / name).exists() for name in (ENCODER, DECODER))
    decoder = load(folder / DECODER if is_pair else folder, **options)
    encoder = _part(load(folder / ENCODER, **options)) if is_pair else None
    return Generator(_part(decoder), encoder, _settings(decoder), str(path))


def _settings(session: Session) -> Settings:
    text = session.metadata.get(METADATA_KEY)
    return Settings() if text is None else Settings.loads(text, session.name)


def _part(session: Session) -> Part:
    on_host = session.device[0] == "cpu"
    return Part(session.run if on_host else functools.partial(_on_device, session), session.inputs)


def _on_device(session: Session, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Run a model and leave the cache where it is made; the scores come to the host."""
    found: dict[str, Any] = session.run_on_device(arrays)
    return {name: _array(value) if name == "logits" else value for name, value in found.items()}


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.numpy())
